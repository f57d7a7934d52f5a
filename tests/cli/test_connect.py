# SPDX-License-Identifier: MIT
"""tlsfd connect with stdin and stdout: data both ways, against openssl s_server,
gnutls-serv and Python's ssl; certificates; what is negotiated; the command line.
"""
import contextlib
import datetime
import os
import socket
import subprocess
import threading
import time

import pytest

from connecting import (BIG, BIN, CONFIG, CUT, HANDSHAKE, KERNEL, LIMIT, OK, PLACE, UNVERIFIED,
                        USAGE, V12, Server, connect, demand, digest, each_version, exchange, listening_port,
                        need, one_line, only, receive_all, refused, said, tls)


# ---- both ways ----

@contextlib.contextmanager
def stdin_of(kind, data, folder):
    """data as a file, a pipe or a socket."""
    def feed(write, close):
        def run():
            with contextlib.suppress(BrokenPipeError):
                write(data)
            close()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    if kind == "file":
        (folder / "in").write_bytes(data)
        with open(folder / "in", "rb") as file:
            yield file
        return
    if kind == "pipe":
        reader, writer = os.pipe()
        ours = os.fdopen(writer, "wb")
        thread = feed(ours.write, ours.close)
        given = os.fdopen(reader, "rb")
    else:
        given, ours = socket.socketpair()
        thread = feed(ours.sendall, ours.close)
    with given:
        yield given
    thread.join(LIMIT)


@contextlib.contextmanager
def stdout_of(kind, folder):
    """Yields the descriptor to give away and a function that returns what came there."""
    if kind in ("file", "append"):
        path = folder / "out"
        with open(path, "ab" if kind == "append" else "wb") as file:
            yield file, path.read_bytes
        return
    got = bytearray()

    def drain(read):
        while True:
            data = read(1 << 16)
            if not data:
                return
            got.extend(data)

    if kind == "pipe":
        reader, writer = os.pipe()
        ours, given = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
        thread = threading.Thread(target=drain, args=(ours.read,), daemon=True)
    else:
        ours, given = socket.socketpair()
        thread = threading.Thread(target=drain, args=(ours.recv,), daemon=True)
    thread.start()

    def result():
        given.close()
        thread.join(LIMIT)
        assert not thread.is_alive(), "stdout was not closed"
        return bytes(got)

    with ours:
        yield given, result


@each_version
@pytest.mark.parametrize("stdout", ["file", "append", "pipe", "socket"])
@pytest.mark.parametrize("stdin", ["file", "pipe", "socket"])
def test_big_both_ways(certs, tmp_path, stdin, stdout, version):
    """Both ends send 5 MB at the same time."""
    mine, theirs = os.urandom(BIG), os.urandom(BIG)

    def talk(peer):
        got = exchange(peer, theirs, BIG)
        peer.unwrap()
        return got

    server = Server(tls(certs, talk, only(version)))
    with stdin_of(stdin, mine, tmp_path) as given, stdout_of(stdout, tmp_path) as (taken, result):
        done = subprocess.run([BIN, "connect", "-v", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=given, stdout=taken, stderr=subprocess.PIPE, timeout=LIMIT,
                              check=False)
        got = result()
    assert done.returncode == OK, done.stderr
    assert digest(server.finish()) == digest(mine)
    assert digest(got) == digest(theirs)
    values = said(done)
    assert values["version"] == ("TLSv1.2" if version == V12 else "TLSv1.3")
    assert (values["in"], values["out"], values["end"]) == (str(BIG), str(BIG), "closed")


@pytest.mark.parametrize("size", [10, 50000])
def test_pieces(certs, start, size):
    """What is typed goes out at once: neither a buffer nor TCP (200 ms) waits for more."""
    def talk(peer):
        for i in range(20):
            left = size
            while left:
                left -= len(peer.recv(left))
            peer.sendall(b"piece %d\n" % i)
        return receive_all(peer)

    server = Server(tls(certs, talk))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    ours.process.stdin.write(bytes(size))
    ours.wait_for(r"^piece 0\n")
    took = []
    for i in range(1, 20):
        began = time.monotonic()
        ours.process.stdin.write(bytes(size))
        ours.wait_for(r"^piece %d\n" % i)
        took.append(time.monotonic() - began)
    assert sorted(took)[4] < 0.1, took  # the machine may be slow, but not each time
    ours.process.stdin.close()
    ours.finish()
    assert server.finish() == b""


# ---- other people's servers ----

def high(data):
    """Only bytes that s_server takes for no command."""
    return data.translate(bytes(byte | 128 for byte in range(256)))


@each_version
def test_s_server(start, certs, version):
    mine = high(os.urandom(BIG))
    flag = "-tls1_2" if version == V12 else "-tls1_3"
    peer = start("openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", flag, "-cert",
                 certs.server, "-key", certs.server_key, stdin=subprocess.PIPE)
    port = peer.wait_for(r"^ACCEPT 127\.0\.0\.1:(\d+)\n").group(1).decode()
    done = connect(port, "-v", "--ca", certs.root, stdin=mine)
    assert done.returncode == OK, done.stderr
    assert said(done)["out"] == str(BIG)
    output = peer.finish()
    assert digest(output.translate(None, bytes(range(128)))) == digest(mine)
    assert b"DONE\n" in output  # s_server saw a clean end


@each_version
def test_s_server_sends_a_file(start, certs, tmp_path, version):
    (tmp_path / "file").write_bytes(theirs := os.urandom(BIG))
    flag = "-tls1_2" if version == V12 else "-tls1_3"
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-HTTP", flag, "-cert", certs.server,
               "-key", certs.server_key]
    peer = start("sh", "-c", "cd $0 && exec \"$@\"", str(tmp_path), *command)
    port = peer.wait_for(r"^ACCEPT 127\.0\.0\.1:(\d+)\n").group(1).decode()
    done = connect(port, "-v", "--ca", certs.root, stdin=b"GET /file HTTP/1.0\r\n\r\n")
    assert done.returncode == OK, done.stderr
    assert digest(done.stdout) == digest(theirs)
    said(done)


@each_version
def test_gnutls_serv_sends_a_file(start, certs, tmp_path, version):
    """It stops sending at our close_notify."""
    need("gnutls-serv")
    (tmp_path / "file").write_bytes(theirs := os.urandom(BIG))
    priority = "NORMAL:-VERS-ALL:+VERS-TLS" + ("1.2" if version == V12 else "1.3")
    peer = start("gnutls-serv", "-p", "0", "--x509certfile", certs.server, "--x509keyfile",
                 certs.server_key, "--priority", priority, "--disable-client-cert", "--http",
                 "--httpdata", str(tmp_path / "file"))
    peer.wait_for(r"listening on IPv4 .*done\n")
    done = connect(listening_port(peer.process), "-v", "--ca", certs.root, "--no-half-close",
                   stdin=b"GET / HTTP/1.0\r\n\r\n")
    assert done.returncode == OK, done.stderr
    assert digest(done.stdout.partition(b"\r\n\r\n")[2]) == digest(theirs)
    said(done)


# ---- verification ----

@each_version
@pytest.mark.parametrize("options, words", [
    ([], ["certificate; --ca FILE"]),
    (["--ca", "ROOT", "--name", "other.example"], ["mismatch; --name NAME"]),
    (["--ca", "ROOT", "--name", "192.0.2.1"], ["mismatch; --name NAME"]),
    (["--ca", "CLIENT"], ["certificate; --ca FILE"]),
], ids=["unknown-root", "wrong-name", "wrong-address", "wrong-root"])
def test_certificate_is_not_accepted(certs, options, words, version):
    server = Server(lambda plain: refused(plain, certs, only(version)))
    names = {"ROOT": certs.root, "CLIENT": certs.client}
    done = connect(server.port, *[names.get(o, o) for o in options], stdin=b"secret")
    one_line(done, UNVERIFIED, *words, f"localhost:{server.port}")
    assert done.stdout == b""
    assert server.finish() == b""


def test_expired(certs, tmp_path):
    old = tmp_path / "old.pem"
    # openssl x509 can't make a certificate of the past; ca can
    (tmp_path / "index").write_text("")
    (tmp_path / "ca.conf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index\nnew_certs_dir={tmp_path}\n"
        "default_md=sha256\nrand_serial=1\npolicy=p\n[p]\ncommonName=supplied\n[x]\n"
        "subjectAltName=DNS:localhost\n")
    subprocess.run(["openssl", "ca", "-batch", "-config", tmp_path / "ca.conf", "-extensions", "x",
                    "-cert", certs.root, "-keyfile", certs.root_key, "-in", certs.server + ".req",
                    "-out", old, "-notext", "-startdate", "20200101000000Z", "-enddate",
                    "20210101000000Z"], check=True, capture_output=True)

    server = Server(lambda plain: refused(plain, certs, lambda context: context.load_cert_chain(
        old, certs.server_key)))
    one_line(connect(server.port, "--ca", certs.root), UNVERIFIED, "expired")
    server.finish()


def test_revoked(certs, tmp_path):
    serial = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", certs.server], check=True,
                            capture_output=True, text=True).stdout.strip().partition("=")[2]
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%y%m%d%H%M%SZ")
    (tmp_path / "index").write_text(f"R\t351231235959Z\t{now}\t{serial}\tunknown\t/CN=localhost\n")
    (tmp_path / "ca.conf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index\n"
                                      "default_md=sha256\ndefault_crl_days=1\n")
    subprocess.run(["openssl", "ca", "-config", tmp_path / "ca.conf", "-gencrl", "-cert", certs.root,
                    "-keyfile", certs.root_key, "-out", tmp_path / "crl"], check=True,
                   capture_output=True)
    server = Server(lambda plain: refused(plain, certs))
    one_line(connect(server.port, "--ca", certs.root, "--crl", tmp_path / "crl"), UNVERIFIED, "revoked")
    server.finish()


def test_insecure(certs):
    server = Server(tls(certs, receive_all))
    done = connect(server.port, "--insecure-no-verify", "--name", "other.example", stdin=b"anything")
    assert done.returncode == OK, done.stderr
    assert server.finish() == b"anything"


@pytest.mark.parametrize("options, host, sent", [
    ([], "localhost", "localhost"),
    ([], "127.0.0.1", None),
    (["--name", "localhost"], "127.0.0.1", "localhost"),
], ids=["name", "address", "other-name"])
def test_name(certs, options, host, sent):
    """What is verified is HOST, or --name; an address is verified and not sent."""
    names = []

    def note(context):
        context.sni_callback = lambda peer, name, context: names.append(name)

    server = Server(tls(certs, receive_all, note))
    done = connect(server.port, "--ca", certs.root, *options, host=host)
    assert done.returncode == OK, done.stderr
    server.finish()
    assert names == [sent]


# ---- what is offered ----

@pytest.mark.parametrize("one_file", [False, True])
def test_client_certificate(certs, tmp_path, one_file):
    def talk(peer):
        subject = dict(pair[0] for pair in peer.getpeercert()["subject"])
        receive_all(peer)
        return subject["commonName"]

    options = ["--cert", certs.client, "--key", certs.client_key]
    if one_file:
        both = tmp_path / "both.pem"
        both.write_bytes(open(certs.client, "rb").read() + open(certs.client_key, "rb").read())
        options = ["--cert", both]
    server = Server(tls(certs, talk, demand(certs)))
    done = connect(server.port, "--ca", certs.root, *options)
    assert done.returncode == OK, done.stderr
    assert server.finish() == "client-of-the-test"


def test_no_client_certificate(certs):
    """TLS 1.3: the server's alert comes when the client has long been sending."""
    server = Server(lambda plain: refused(plain, certs, demand(certs)))
    done = connect(server.port, "--ca", certs.root, stdin=os.urandom(BIG))
    one_line(done, CUT, "alert 116")
    server.finish()


def test_no_client_certificate_1_2(certs):
    def prepare(context):
        demand(certs)(context)
        only(V12)(context)

    server = Server(lambda plain: refused(plain, certs, prepare))
    one_line(connect(server.port, "--ca", certs.root), HANDSHAKE, "alert 40")
    server.finish()


def test_alpn(certs):
    def talk(peer):
        chosen = peer.selected_alpn_protocol()
        receive_all(peer)
        return chosen

    server = Server(tls(certs, talk, lambda context: context.set_alpn_protocols(["no", "b/1"])))
    done = connect(server.port, "-v", "--ca", certs.root, "--alpn", "a/1,b/1")
    assert said(done)["alpn"] == "b/1"
    assert server.finish() == "b/1"


def test_versions_and_ciphers(certs):
    server = Server(tls(certs, receive_all))
    done = connect(server.port, "-v", "--ca", certs.root, "--max-version", "1.2", "--ciphers",
                   "ECDHE-ECDSA-AES256-GCM-SHA384", "--groups", "P-256")
    values = said(done)
    assert (values["version"], values["cipher"]) == ("TLSv1.2",
                                                     "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    server.finish()


def test_nothing_in_common(certs):
    server = Server(lambda plain: refused(plain, certs, only(V12)))
    one_line(connect(server.port, "--ca", certs.root, "--min-version", "1.3"), HANDSHAKE, "alert 70")
    server.finish()


def test_require_kernel(certs):
    server = Server(tls(certs, receive_all) if PLACE == "kernel" else lambda plain: refused(plain, certs))
    done = connect(server.port, "--ca", certs.root, "--require-kernel", stdin=b"secret")
    if PLACE == "kernel":
        assert done.returncode == OK, done.stderr
        assert server.finish() == b"secret"
    else:
        one_line(done, KERNEL, "user space", "modprobe tls")
        assert server.finish() == b""


# ---- the command line ----

@pytest.mark.parametrize("args, status, named_word", [
    ([], USAGE, "HOST:PORT"),
    (["localhost"], USAGE, "localhost"),
    (["::1:443"], USAGE, "[ADDRESS]"),
    (["[::1]"], USAGE, "HOST:PORT"),
    ([":443"], USAGE, "HOST:PORT"),
    (["localhost:65536"], USAGE, "65536"),
    (["a:1", "b:2"], USAGE, "one"),
    (["--starttls", "ftp", "a:1"], USAGE, "'ftp'"),
    (["--min-version", "1.1", "a:1"], USAGE, "'1.1'"),
    (["--min-version", "1.3", "--max-version", "1.2", "a:1"], USAGE, "min-version"),
    (["--timeout", "soon", "a:1"], USAGE, "'soon'"),
    (["-4", "-6", "a:1"], USAGE, "--ipv4 and --ipv6"),
    (["--key", "k", "a:1"], USAGE, "--key needs --cert"),
    (["--grace", "30", "a:1"], USAGE, "--grace needs --listen"),
    (["--max-connections", "5", "a:1"], USAGE, "--max-connections needs --listen"),
    (["a:1", "--no-resumption"], USAGE, "--no-resumption needs --listen"),
    (["--doktor", "a:1"], USAGE, "--doktor"),
    (["--ca"], USAGE, "--ca"),
    (["--insec", "a:1"], USAGE, "--insecure-no-verify"),
    (["a:1", "--start=smtp"], USAGE, "--starttls"),
    (["--start", "smtp", "a:1"], USAGE, "--starttls"),
    (["--hel"], USAGE, "--help"),
    (["--ca", "/nonexistent", "a:1"], CONFIG, "/nonexistent"),
    (["--ca", "/dev/null", "a:1"], CONFIG, "/dev/null: neither"),
    (["--ciphers", "NONESUCH", "a:1"], CONFIG, "NONESUCH"),
    (["--alpn", ",", "a:1"], CONFIG, "alpn"),
    (["--config", "/nonexistent", "a:1"], CONFIG, "/nonexistent"),
    (["--config", "/", "a:1"], CONFIG, "Is a directory"),
    (["--name", "", "a:1"], USAGE, "''"),
    (["--name", "*.example.org", "a:1"], USAGE, "no name of a server"),
])
def test_wrong_options(args, status, named_word):
    done = subprocess.run([BIN, "connect", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=LIMIT, check=False)
    one_line(done, status, named_word)


def test_mismatched_key(certs):
    one_line(connect(1, "--cert", certs.client, "--key", certs.server_key), CONFIG, "private key")


def test_files_can_be_pipes(certs):
    """A private key that is in no file: --key <(command)."""
    def pipe_of(path):
        out, into = os.pipe()
        with open(path, "rb") as file, open(into, "wb") as end:
            end.write(file.read())
        return out

    server = Server(tls(certs, receive_all, demand(certs)))
    fds = [pipe_of(path) for path in (certs.root, certs.client, certs.client_key)]
    ca, cert, key = (f"/proc/self/fd/{fd}" for fd in fds)
    done = connect(server.port, "--ca", ca, "--cert", cert, "--key", key, stdin=b"x", pass_fds=fds)
    for fd in fds:
        os.close(fd)
    assert done.returncode == OK, done.stderr
    assert server.finish() == b"x"


def test_config_file(certs, tmp_path):
    for_listen = "grace 1\nmax-connections 5\nno-resumption\n"
    (tmp_path / "config").write_text(f"# a comment\nca {certs.root}\n# and another\n\nverbose\n{for_listen}")
    server = Server(tls(certs, receive_all))
    done = connect(server.port, "--config", tmp_path / "config", stdin=b"x")
    assert done.returncode == OK, done.stderr
    said(done)
    assert server.finish() == b"x"


def test_help():
    done = subprocess.run([BIN, "connect", "--help"], capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--starttls" in done.stdout
