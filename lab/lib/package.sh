# shellcheck shell=bash
# A package of this machine's own release, unpacked: one that conflicts with another of the tests'.

# make_package NAME FOLDER: as the package's files are below /.
make_package() {
    local name=$1 folder=$2
    mirror >/dev/null # fetches the lists if there are none
    mkdir -p "$folder/deb"
    (cd "$folder/deb" && apt-get -qq -o APT::Sandbox::User=root download "$name") ||
        die "$name could not be fetched"
    dpkg-deb -x "$folder/deb/${name}_"*.deb "$folder"
    rm -rf "$folder/deb"
}
