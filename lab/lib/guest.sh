# shellcheck shell=bash
# Process 1 of a run's mount and pid namespace on the host: starts the guest and waits
# for it (by exec the guest could not abort: process 1 is deaf to its own signals).
set -eu
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

if [ "${1:-}" != inside ]; then
    mount -t proc proc /proc
    if [ -n "$publish" ]; then
        # shellcheck disable=SC2086 # a list of words
        exec 5< <(exec python3 "$lab/lib/relay.py" 10.0.2.15 1 $publish)
        read -r _ <&5 || exit "$EX_CANT" # it has said why
    fi
    exec unshare --net bash "$0" inside
fi

# shellcheck disable=SC2034 # for start_uml and start_qemu
memory=3G
if [ -n "$publish" ]; then # the guest's end is in guest-init
    [ -c /dev/net/tun ] || die "--publish needs /dev/net/tun on this machine"
    ip tuntap add dev lab0 mode tap
    ip addr add 10.0.2.2/24 dev lab0
    ip link set lab0 up
fi
case $kernel in
uml) . "$lab/lib/uml.sh" && start_uml ;;
*) . "$lab/lib/qemu.sh" && start_qemu ;;
esac
