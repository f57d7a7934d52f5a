# shellcheck shell=bash
# Root folders made by mmdebstrap: a Debian release's user space, hence its OpenSSL.

# What tests need at run time. uml is Debian's package of User-mode Linux (sid only).
root_packages=openssl,libssl-dev,gcc,libc6-dev,pkg-config,libjansson-dev,libseccomp-dev,libcmocka-dev,liburing-dev
root_packages+=,gnutls-bin,curl,python3,python3-pytest,iproute2,kmod,procps,ca-certificates,ethtool,busybox

# make_root SUITE FOLDER
make_root() {
    local suite=$1 folder=$2 version include=$root_packages
    [ "$suite" != sid ] || include+=,user-mode-linux
    if ! mmdebstrap --quiet --variant=apt --include="$include" \
        --keyring="$keyring" --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$folder" "$(mirror)" >"$cache/$suite.log" 2>&1; then
        tail -n 20 "$cache/$suite.log" >&2
        [ "$suite" != sid ] ||
            say "without Debian sid's user-mode-linux there is no --kernel uml; --kernel 6.12 may do instead"
        die "the $suite folder could not be made (log: $cache/$suite.log)"
    fi
    # Where guests mount: the root to use, the working tree, the run's files.
    mkdir -p "$folder/host" "$folder/tree" "$folder/lab"
    if [ "$suite" = sid ]; then
        [ -x "$folder/usr/bin/linux.uml" ] || die "Debian sid's user-mode-linux has no linux.uml any more"
        # Where modprobe looks.
        mkdir -p "$folder/usr/lib/modules"
        for version in "$folder"/usr/lib/uml/modules/*; do
            ln -s "../uml/modules/${version##*/}" "$folder/usr/lib/modules/"
        done
    fi
}
