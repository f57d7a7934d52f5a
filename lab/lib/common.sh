# shellcheck shell=bash
# What run, prepare and test share. Sets: lab, tree, cache.

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
tree=$(dirname "$lab")
cache=${TLSFD_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tlsfd-lab}
export lab tree cache

# Exit statuses of the lab's own (CMD's are passed through).
export EX_USAGE=2 EX_CANT=69 EX_KERNEL=70 EX_TIMEOUT=124

say() { echo "lab: $*" >&2; }

# die [-STATUS] MESSAGE
die() {
    local status=$EX_CANT
    case $1 in -[0-9]*) status=${1#-}; shift ;; esac
    say "$@"
    exit "$status"
}

# Debian's own programs first: a python3 or apt of somebody else's may stand before them.
system_path() { PATH=/usr/sbin:/usr/bin:/sbin:/bin; }
