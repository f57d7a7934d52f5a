# shellcheck shell=bash
# User-mode Linux: the kernel as a program. It needs sid's C library, so it runs
# chrooted to the sid folder, which is also the guest's first root (see guest-init).

# Called in namespaces of the run's own (see guest.sh); ends when the guest does.
start_uml() {
    local jail=$kernel_folder net=()
    mount --rbind "$root_folder" "$jail/host"
    mount --bind "$tree" "$jail/tree"
    mount --bind "$run" "$jail/lab"
    mount -t proc proc "$jail/proc"
    mount --rbind /dev "$jail/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$jail/dev/shm" # the guest's memory
    mount -t tmpfs -o mode=1777 tmpfs "$jail/tmp"     # UML's own files
    [ -z "$publish" ] || net=("vec0:transport=tap,ifname=lab0,depth=128,gro=0")
    chroot "$jail" env -i PATH=/usr/bin TMPDIR=/dev/shm HOME=/tmp \
        linux.uml "mem=$memory" uml_dir=/tmp/ root=/dev/root rootfstype=hostfs rootflags=/ rw \
        init=/lab/guest-init con=null ssl=null con0=null,fd:1 con1=null,fd:3 con2=null,fd:4 \
        loglevel=5 printk.devkmsg=on "${net[@]}" \
        </dev/null >"$run/kernel.log" 2>&1 \
        3>"$run/out" 4>"$run/err"
}
