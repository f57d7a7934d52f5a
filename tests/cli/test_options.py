# SPDX-License-Identifier: MIT
"""Options of serve and connect that no other test would miss if they were ignored."""
import os
import re
import signal
import socket
import ssl
import subprocess
import time

import pytest

from connecting import BIN, CONFIG, HANDSHAKE, KERNEL, OK, Server, connect, one_line, only, receive_all, refused, said, tls, V12
from serving import LIMIT, Authority, Serve, answer, expected_place, openssl, saying, wait_for

NO_KERNEL_HAS = "ECDHE-ECDSA-AES128-SHA256"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def s_client(server, *options):
    """A client that only says hello."""
    return subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT, check=False)


# ---- serve ----

def revoke(ca, *certs):
    """A list of the CA's that has these certificates."""
    path = ca.path("list.crl")
    config = ["-config", ca.path("ca.cnf"), "-cert", ca.root, "-keyfile", ca.path("root.key")]
    for cert in certs:
        openssl("ca", *config, "-revoke", cert)
    openssl("ca", *config, "-gencrl", "-crldays", "1", "-out", path)
    return path


def test_serve_crl(serve, one, ca, backend):
    good, bad = ca.issue("good-client"), ca.issue("bad-client")
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--client-ca", ca.root, "--crl",
                   revoke(ca, bad[0]))
    context = ssl.create_default_context(cafile=ca.root)
    context.load_cert_chain(*bad)
    with pytest.raises(OSError), server.connect(context) as connection:
        connection.recv(1)  # TLS 1.3: the client learns of it with its first read
    assert "revoked" in server.line(event="connection", end="handshake")["error"]
    context.load_cert_chain(*good)
    with server.connect(context) as connection:
        assert answer(connection) == b"hello"


@pytest.mark.parametrize("word, asked", [("none", False), ("optional", True), ("required", True)])
def test_serve_client_auth(serve, one, ca, backend, tmp_path, word, asked):
    (tmp_path / "config").write_text("client-auth none\n")  # what the command line has wins
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--client-ca", ca.root, "--config",
                   str(tmp_path / "config"), "--client-auth", word)
    shown = s_client(server).stdout
    assert ("Acceptable client certificate CA names" in shown) == asked, shown
    assert (server.line(event="connection")["end"] == "handshake") == (word == "required")


def test_serve_groups(serve, one, backend):
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--groups", "P-384")
    assert "Server Temp Key: ECDH, secp384r1" in s_client(server).stdout
    server.line(event="connection")
    assert s_client(server, "-groups", "X25519:P-256").returncode != 0
    assert server.line(2, event="connection")["end"] == "handshake"


@pytest.mark.parametrize("word", ["default", "refuse"])
@pytest.mark.parametrize("name, known", [("two.example", True), ("three.example", False), (None, False)])
def test_serve_unknown_name(serve, one, ca, backend, word, name, known):
    cert, key = ca.issue("two.example")
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--cert", cert, "--key", key,
                   "--unknown-name", word)
    if known or word == "default":
        with server.connect(name=name) as connection:
            assert answer(connection) == b"hello"
    else:
        with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
            server.connect(name=name)
        line = server.line(event="connection", end="handshake")
        assert line["sni"] == (name or "") and ("no certificate is for the name" if name else "no name") in line["error"]


def test_serve_says_which_certificate_nobody_gets(serve, one, ca, backend, tmp_path):
    cert, key = str(tmp_path / "bare.pem"), str(tmp_path / "bare.key")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
            cert, "-subj", "/CN=bare.example", "-days", "30")
    server = serve("--forward", backend().target, *one, "--cert", cert, "--key", key)
    assert "no client gets" in server.line(event="warning", file=cert)["error"]
    assert len(server.matching(event="warning")) == len(server.matching(event="warning", file=cert)) + (
        expected_place() == "user")
    first = serve("--forward", backend().target, "--cert", cert, "--key", key, *one)  # it is for all others
    assert not [line for line in first.matching(event="warning") if "file" in line]
    strict = serve("--forward", backend().target, "--cert", cert, "--key", key, *one, "--unknown-name", "refuse")
    strict.line(event="warning", file=cert)


def memory_of(server):
    """The most that the master has needed, in KB."""
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))


def test_serve_keeps_one_list_for_all_certificates(serve, one, ca, backend, tmp_path):
    revoker = Authority(tmp_path)
    revoker.issue("nobody")
    with open(revoker.path("index"), "a", encoding="ascii") as index:
        for i in range(10000):
            index.write("R\t301231235959Z\t261101000000Z\t%016X\tunknown\t/CN=%d\n" % (1 << 60 | i, i))
    options = ["--forward", backend().target, *one, "--client-ca", revoker.root, "--crl", revoke(revoker)]
    more = sum([["--cert", cert, "--key", key] for cert, key in [ca.issue("n%d.example" % i) for i in range(15)]], [])
    least = memory_of(serve(*options))
    assert memory_of(serve(*options, *more)) < least + 15000  # each would have 2 MB


@needs_root
@pytest.mark.parametrize("host, there", [("box", True), ("two_parts.my-net.example", True), ("a,b", False), ("", False),
                                         ("(none)", False), ("x,IP:192.0.2.1", False)])
def test_serve_self_signed_for_any_host_name(serve, backend, host, there):
    server = serve("--forward", backend(saying(b"hello")).target, "--self-signed", around=[
        "unshare", "--uts", "sh", "-c", 'printf "%s\\n" "$0" > /proc/sys/kernel/hostname && exec "$@"', host])
    said = subprocess.run("openssl s_client -connect 127.0.0.1:%d < /dev/null | openssl x509 -noout -ext subjectAltName"
                          % server.port, shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=LIMIT, check=True).stdout.split("\n")[1].strip()
    assert said == ", ".join(["DNS:localhost", *["DNS:" + host] * there,
                              "IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"])
    warnings = [line["error"] for line in server.matching(event="warning") if "host name" in line["error"]]
    assert len(warnings) == (not there) and all("'%s'" % host in warning for warning in warnings)


def test_serve_reads_no_trust_store(serve, one, ca, backend, tmp_path):
    """Not even one for all of its certificates, if clients need none: who opened this one would wait for ever."""
    os.mkfifo(tmp_path / "store")
    two = ca.issue("two.example")
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--cert", two[0], "--key", two[1],
                   env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "store")})
    context = ssl.create_default_context(cafile=ca.root)
    for name in ("one.example", "two.example"):
        with server.connect(context, name) as connection:
            assert answer(connection) == b"hello"
    server.signal(signal.SIGHUP)
    server.line(event="reload")


@needs_root
def test_serve_group(serve, one, backend):
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--user", "nobody", "--group", "daemon")
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    assert server.workers()
    for pid in server.workers():
        with open("/proc/%d/status" % pid, encoding="ascii") as status:
            ids = {line.split()[0]: line.split()[1:] for line in status if line[:3] in ("Uid", "Gid", "Gro")}
        assert set(ids["Gid:"]) == {"1"} and "0" not in ids["Uid:"] and ids["Groups:"] in ([], ["1"]), ids


def test_serve_key_in_the_certificates_file(serve, ca, backend, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(open(path, "rb").read() for path in ca.issue("both.example")))
    server = serve("--forward", backend(saying(b"hello")).target, "--cert", str(both))
    with server.connect(ssl.create_default_context(cafile=ca.root), "both.example") as connection:
        assert answer(connection) == b"hello"


@pytest.mark.parametrize("seconds", [0.3, 0.0001])  # below a millisecond: not 0, which is none
def test_serve_handshake_timeout(serve, one, backend, seconds):
    server = serve("--forward", backend().target, *one, "--handshake-timeout", str(seconds))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as silent:
        assert silent.recv(1) == b""
    assert seconds * 0.8 < time.monotonic() - began < 9  # it would be 10
    assert server.line(event="connection")["error"] == "the handshake was not done in time"


def listening(server):
    """All addresses that it took; ends it."""
    server.stop()
    wait_for(lambda: server.ended)
    return [line["addr"] for line in server.matching(event="listening")]


def test_serve_lists_of_the_command_line_win(serve, one, ca, backend, tmp_path):
    cert, key = ca.issue("file.example")
    (tmp_path / "config").write_text("listen 127.0.0.1:0\nlisten 127.0.0.1:0\nforward 127.0.0.1:1\ncert %s\nkey %s\n" %
                                     (cert, key))
    whole = serve("--config", str(tmp_path / "config"), listen=None)
    assert len(listening(whole)) == 2
    server = serve("--config", str(tmp_path / "config"), *one, "--forward", backend(saying(b"hello")).target,
                   "--unknown-name", "refuse")
    for _ in range(4):  # with two targets one of them would fail
        with server.connect() as connection:
            assert answer(connection) == b"hello"
    with pytest.raises(ssl.SSLError):
        server.connect(name="file.example")
    assert len(listening(server)) == 1


# ---- connect ----

def test_connect_listens_where_the_command_line_says(certs, tmp_path):
    (tmp_path / "config").write_text("listen 127.0.0.1:0\nlisten 127.0.0.1:0\n")
    options = ["--ca", certs.root, "--config", str(tmp_path / "config"), "localhost:1"]
    for listen, count in (None, 2), ("127.0.0.1:0", 1):
        assert len(listening(Serve(*options, listen=listen, verb="connect"))) == count


@pytest.mark.parametrize("options, field, value", [
    (["--max-version", "1.2"], "version", "TLSv1.2"),
    (["--ciphers", "TLS_CHACHA20_POLY1305_SHA256"], "cipher", "TLS_CHACHA20_POLY1305_SHA256")],
                         ids=["max-version", "ciphers"])
def test_connect_offer(certs, options, field, value):
    """One at a time, of a server that would take another."""
    server = Server(tls(certs, receive_all))
    assert said(connect(server.port, "-v", "--ca", certs.root, *options))[field] == value
    server.finish()


def test_connect_groups(certs):
    """The server takes one group alone."""
    def prepare(context):
        context.set_ecdh_curve("secp384r1")

    server = Server(tls(certs, receive_all, prepare))
    done = connect(server.port, "--ca", certs.root, "--groups", "P-384")
    assert done.returncode == OK, done.stderr
    server.finish()
    server = Server(lambda plain: refused(plain, certs, prepare))
    one_line(connect(server.port, "--ca", certs.root, "--groups", "P-256"), HANDSHAKE, "alert 40")
    server.finish()


@pytest.mark.parametrize("options, status", [([], OK), (["--require-kernel"], KERNEL)], ids=["may", "must"])
def test_connect_require_kernel(certs, options, status):
    """With a cipher that no kernel has."""
    def prepare(context):
        only(V12)(context)
        context.set_ciphers(NO_KERNEL_HAS)

    server = Server((tls(certs, receive_all, prepare) if status == OK else
                     lambda plain: refused(plain, certs, prepare)))
    done = connect(server.port, "--ca", certs.root, "--ciphers", NO_KERNEL_HAS, *options, stdin=b"secret")
    assert done.returncode == status, done.stderr
    assert server.finish() == (b"secret" if status == OK else b"")


def test_connect_without_a_limit_of_time(certs):
    server = Server(tls(certs, receive_all))
    assert connect(server.port, "--ca", certs.root, "--timeout", "0", stdin=b"x").returncode == OK
    assert server.finish() == b"x"


# ---- both ----

@pytest.mark.parametrize("text, sentence", [
    (b"\xef\xbb\xbfbogus 1\r\n", "line 1: no setting 'bogus'\n"),  # the mark is no part of the name
    (b"# one\r\n\xef\xbb\xbfverify-depth 0\r\n", "line 2: no setting '\xef\xbb\xbfverify-depth'\n"),
    ("verify-depth 0\n".encode("utf-16"), "line 1: a zero byte"),
    (b"verify-depth 0\0\n", "line 1: a zero byte"),
    (b"a" * 100000, "line 1: no setting '%s'\n" % ("a" * 60)),
    (b"bo\x1b[2Jgus\n", "line 1: no setting 'bo?[2Jgus'\n"),
    (b"\xef\xbb\xbfverify-depth 101\r\n", "line 1: verify-depth: a number from 0 to 100 is wanted, not '101'\n"),
    (b"verify-depth 101", "line 1: verify-depth: a number from 0 to 100 is wanted, not '101'\n"),
])
@pytest.mark.parametrize("verb", ["serve", "connect"])
def test_config_files_of_other_editors(tmp_path, verb, text, sentence):
    (tmp_path / "config").write_bytes(text)
    done = subprocess.run([BIN, verb, "--config", str(tmp_path / "config")], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=LIMIT, check=False)
    said = done.stderr.decode("latin1")
    assert done.returncode == 2 and sentence in said and said.count("\n") == 1, said


def test_one_line_whatever_is_in_it():
    one_line(connect(1, "--ca", "/no\nsuch\x1b[2J file"), CONFIG, "/no?such?[2J file: No such file")


def test_connect_grace(certs):
    server = Server(tls(certs, lambda peer: (peer.sendall(b"x"), refused_by_end(peer))))
    tunnel = Serve("--ca", certs.root, "--grace", "0.3", f"localhost:{server.port}", verb="connect")
    with socket.create_connection(("127.0.0.1", tunnel.port), LIMIT) as plain:
        assert plain.recv(1) == b"x"
        began = time.monotonic()
        tunnel.signal(signal.SIGTERM)
        assert tunnel.wait() == OK
    assert 0.2 < time.monotonic() - began < 25  # it would be 30
    tunnel.process.stdout.close()
    server.finish()


def refused_by_end(peer):
    with pytest.raises(OSError):
        peer.recv(1)
