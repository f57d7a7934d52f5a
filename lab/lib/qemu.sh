# shellcheck shell=bash
# Debian's kernels under QEMU without KVM: slow, but the real thing, AES-NI code included.

share() { # TAG FOLDER [OPTION]
    echo -fsdev "local,id=$1,path=$2,security_model=none,multidevs=remap${3:-}" \
        -device "virtio-9p-pci,fsdev=$1,mount_tag=$1"
}

port() { # NAME
    echo -chardev "file,id=$1,path=$run/$1" -device "virtserialport,chardev=$1,name=$1"
}

# Called in namespaces of the run's own (see guest.sh); ends when the guest does.
start_qemu() {
    local cpus="-accel tcg,thread=multi -smp 2" net="-nic none"
    [ "$icount" = 0 ] || cpus="-accel tcg,thread=single -smp 1 -icount shift=0,sleep=off"
    [ -z "$publish" ] ||
        net="-netdev tap,id=lab0,ifname=lab0,script=no,downscript=no -device virtio-net-pci,netdev=lab0"
    case $tree$cache in *[[:space:],]*) die "QEMU's options can't name a folder with blanks or commas: $tree, $cache" ;; esac
    # shellcheck disable=SC2046,SC2086 # lists of words
    qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -cpu max,la57=off $cpus -m "$memory" $net \
        -kernel "$kernel_folder/vmlinuz" -initrd "$kernel_folder/initramfs" \
        -append "console=ttyS0 loglevel=5 printk.devkmsg=on panic=-1" \
        -serial "file:$run/kernel.log" -device virtio-rng-pci -device virtio-serial-pci \
        $(port out) $(port err) \
        $(share host "$root_folder" ,readonly=on) $(share tree "$tree") $(share lab "$run") \
        $(share modules "$kernel_folder/modules" ,readonly=on) </dev/null >>"$run/qemu.log" 2>&1
}
