# shellcheck shell=bash
# Packages of other Debian releases.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The address of the Debian archive, from this machine's own apt configuration.
mirror() {
    local found
    [ -n "$(find /var/lib/apt/lists -name '*Packages*' -print -quit)" ] || apt-get update -qq >&2
    found=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' |
        sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
    [ -n "$found" ] || die "this machine's apt knows no Debian archive (see apt-get indextargets)"
    echo "$found"
}

# other_apt PROGRAM ARG...: apt-get or apt-cache over other Debian releases, in a
# folder of the cache; this machine's apt configuration and state stay as they are.
other_apt() {
    local dir=$cache/apt program=$1
    shift
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    : >"$dir/status"
    "$program" -q -o Dir::State="$dir" -o Dir::State::lists="$dir/lists" \
        -o Dir::State::status="$dir/status" -o Dir::Cache="$dir" -o Dir::Cache::archives="$dir/archives" \
        -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o APT::Architecture=amd64 -o APT::Sandbox::User=root \
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none "$@"
}

# Fetches the lists, at most once in a run of lab/prepare.
other_apt_update() {
    local where security suite
    [ -z "${other_apt_updated:-}" ] || return 0
    where=$(mirror)
    security=$(apt-get indextargets --format '$(SITE)' 'Label: Debian-Security' | sort -u | head -n 1)
    mkdir -p "$cache/apt"
    {
        for suite in bookworm bookworm-backports trixie trixie-backports; do
            echo "deb [signed-by=$keyring] $where $suite main"
        done
        echo "deb-src [signed-by=$keyring] $where bookworm main"
        [ -z "$security" ] || # newer packages of the same releases
            printf "%s [signed-by=$keyring] $security %s-security main\n" \
                deb bookworm deb trixie deb-src bookworm
    } >"$cache/apt/sources.list"
    other_apt apt-get -qq update || die "the lists of other Debian releases could not be fetched"
    other_apt_updated=1
}
