# shellcheck shell=bash
# OpenSSL 3.0 from Debian 12's source package, but without kernel TLS.

# make_openssl noktls FOLDER: bin/openssl and lib/, for LD_LIBRARY_PATH.
make_openssl() {
    local folder=$2 log=$cache/openssl-$1.log
    mkdir -p "$folder/build"
    other_apt_update
    (
        cd "$folder/build" &&
            other_apt apt-get -qq source --download-only openssl &&
            dpkg-source -x ./*.dsc source &&
            cd source &&
            ./Configure shared no-ktls no-tests --prefix="${folder%.part}" --libdir=lib \
                --openssldir=/usr/lib/ssl &&
            make -j"$(nproc)" build_sw &&
            make DESTDIR="$folder/build/installed" install_sw &&
            mv "$folder/build/installed${folder%.part}"/* "$folder"
    ) >"$log" 2>&1 || { tail -n 20 "$log" >&2 && die "OpenSSL could not be built (log: $log)"; }
    rm -rf "$folder/build"
}
