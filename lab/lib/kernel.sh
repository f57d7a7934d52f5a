# shellcheck shell=bash
# Debian's kernel packages, unpacked for QEMU, each with an initramfs that mounts the
# shared folders (9p) and hands over to guest-init.

# The newest package of a series (6.12, say), but no variant of it.
kernel_package() {
    other_apt apt-cache pkgnames "linux-image-$1" |
        grep -E "^linux-image-${1//./\\.}[.+-][0-9a-z.+~-]*-amd64\$" |
        grep -vE 'cloud|-rt-|unsigned|dbg' | sort -V | tail -n 1
}

# make_kernel SERIES FOLDER: vmlinuz, modules/ and initramfs.
make_kernel() {
    local series=$1 folder=$2 package version
    mkdir -p "$folder/deb"
    other_apt_update
    package=$(kernel_package "$series")
    [ -n "$package" ] || die "the Debian archive has no linux-image-$series...-amd64 any more; it has:" \
        "$(other_apt apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9].*[0-9]-amd64$' | tr '\n' ' ')"
    # From some version on it is empty and depends on these.
    for package in "$package" "${package/image/base}" "${package/image/binary}" "${package/image/modules}"; do
        [ -n "$(other_apt apt-cache pkgnames "$package")" ] || continue
        (cd "$folder/deb" && other_apt apt-get -qq download "$package") || die "$package could not be fetched"
        dpkg-deb -x "$folder/deb/${package}_"*.deb "$folder/deb"
    done
    find "$folder/deb" -name 'vmlinuz*' -type f -exec mv {} "$folder/vmlinuz" \;
    [ -d "$folder/deb/lib/modules" ] || ln -s usr/lib "$folder/deb/lib" # modprobe looks in lib
    version=$(ls "$folder/deb/lib/modules")
    depmod -b "$folder/deb" "$version"
    make_initramfs "$folder" "$version"
    mv "$folder/deb/lib/modules/$version" "$folder/modules"
    rm -rf "$folder/deb"
    say "kernel $series is Debian's $version"
}

# make_initramfs FOLDER VERSION: busybox, the modules up to 9p and overlay, and init.
make_initramfs() {
    local folder=$1 version=$2 root=$1/initramfs.d name action file number=10
    mkdir -p "$root/bin" "$root/modules"
    cp /bin/busybox "$root/bin/"
    for name in virtio_pci virtio_console 9pnet_virtio 9p overlay; do
        modprobe -d "$folder/deb" -S "$version" --show-depends "$name" >"$folder/depends"
        while read -r action file _; do
            [ "$action" = insmod ] || continue # else built in
            name=$(basename "${file%%.ko*}").ko
            ! ls "$root/modules/"*"-$name" >/dev/null 2>&1 || continue
            case $file in
            *.xz) xz -dc "$file" ;;
            *.zst) zstd -qdc "$file" ;;
            *) cat "$file" ;;
            esac >"$root/modules/$number-$name"
            number=$((number + 1))
        done <"$folder/depends"
    done
    cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
for module in /modules/*; do insmod "$module"; done
mkdir /first && mount -t tmpfs -o size=75% tmpfs /first && cd /first
mkdir -p bin proc run/host run/tree run/lab run/modules
cp -a /bin/. bin/
for tag in host tree lab modules; do
    case $tag in tree | lab) cache=mmap ;; *) cache=loose,ro ;; esac
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,cache=$cache" $tag run/$tag
done
exec switch_root /first /run/lab/guest-init
END
    chmod +x "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | zstd -q) >"$folder/initramfs"
    rm -rf "$root" "$folder/depends"
}
