# SPDX-License-Identifier: MIT
"""tlsfd serve: real clients on one side, real backends on the other.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import hashlib
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from serving import BIN, CUT, LIMIT, answer, expected_place, keepalive, openssl, parse, saying, unused_port, wait_for, web


def refused(*options):
    """Exit status and stderr of a server that does not start."""
    done = subprocess.run([BIN, "serve", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stderr


def check_moved(line):
    """The log line of a connection that was where it should be."""
    assert (line["tx"], line["rx"]) == (expected_place(), expected_place()), line
    assert line["why"] == ("" if expected_place() == "kernel" else line["why"])


# ---- clients ----

def test_curl_takes_a_file(serve, one, ca, tmp_path):
    data = os.urandom(5_000_000)
    (tmp_path / "file").write_bytes(data)
    site, target = web(tmp_path)
    server = serve("--forward", target, *one)
    got = subprocess.run(["curl", "-s", "--cacert", ca.root, "--resolve", "one.example:%d:127.0.0.1" % server.port,
                          "https://one.example:%d/file" % server.port], stdout=subprocess.PIPE, check=True,
                         timeout=LIMIT).stdout
    site.shutdown()
    assert got == data
    line = server.line(event="connection")
    check_moved(line)
    assert line["sni"] == "one.example" and line["end"] == "closed"
    assert int(line["out"]) > len(data) and 0 < int(line["in"]) < 1000


def test_curl_sends_a_file(serve, one, backend, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    got = []

    def receive(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        body = b""
        while len(body) < len(data):
            body += connection.recv(65536)
        got.append(body)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    server = serve("--forward", backend(receive).target, *one)
    subprocess.run(["curl", "-skf", "-H", "Expect:", "-T", str(tmp_path / "file"),
                    "https://127.0.0.1:%d/" % server.port], check=True, timeout=LIMIT)
    assert got == [data]
    check_moved(server.line(event="connection"))


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl(serve, one, ca, backend, version):
    server = serve("--forward", backend(saying(b"from behind")).target, *one)
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-" + version, "-quiet",
                           "-verify_return_error", "-CAfile", ca.root, "-servername", "one.example",
                           "-verify_hostname", "one.example"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=False)
    assert done.stdout == b"from behind", done.stderr
    line = server.line(event="connection")
    check_moved(line)
    assert line["version"] == {"tls1_2": "TLSv1.2", "tls1_3": "TLSv1.3"}[version]


def test_gnutls(serve, one, ca, backend):
    server = serve("--forward", backend(saying(b"from behind")).target, *one)
    done = subprocess.run(["gnutls-cli", "--x509cafile", ca.root, "--verify-hostname", "one.example",
                           "--sni-hostname", "one.example", "--port", str(server.port), "127.0.0.1"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=LIMIT, check=False)
    assert b"from behind" in done.stdout
    check_moved(server.line(event="connection"))


def test_python_both_ways_and_half_closed(serve, one, backend):
    data = os.urandom(2_000_000)
    server = serve("--forward", backend().target, *one)
    with server.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += connection.recv(65536)
        sender.join()
        assert got == data
        connection.unwrap().close()
    line = server.line(event="connection")
    check_moved(line)
    assert (line["in"], line["out"], line["end"]) == (str(len(data)), str(len(data)), "closed")


def test_a_cut_is_a_cut(serve, one, backend):
    seen, over = [], threading.Event()

    def note_the_end(connection):
        assert connection.recv(100) == b"half"
        try:
            seen.append(connection.recv(100))
        except ConnectionResetError:
            seen.append("reset")
        over.set()

    server = serve("--forward", backend(note_the_end).target, *one)
    with server.connect() as connection:
        connection.sendall(b"half")
        connection.shutdown(socket.SHUT_WR)  # FIN, no close_notify
        server.line(event="connection", end="truncated")
    assert over.wait(LIMIT) and seen == ["reset"]


# ---- who we are, whom we trust ----

def name_of(server, name, ca):
    """The name in the certificate that comes for this SNI."""
    context = ssl.create_default_context(cafile=ca.root)
    context.check_hostname = False
    with server.connect(context, name) as connection:
        return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]


def test_names(serve, ca, backend):
    certs = [ca.issue("first.example"), ca.issue("second.example"),
             ca.issue("wild.example", "*.wild.example", "wild.example")]
    server = serve("--forward", backend().target,
                   *[word for cert, key in certs for word in ("--cert", cert, "--key", key)])
    for asked, got in (("first.example", "first.example"), ("second.example", "second.example"),
                       ("a.wild.example", "wild.example"), ("wild.example", "wild.example"),
                       ("nobody.example", "first.example"), ("a.b.wild.example", "first.example")):
        assert name_of(server, asked, ca) == got


def test_certificate_folder(serve, ca, backend, tmp_path):
    for name in "a.example", "b.example":
        cert, key = ca.issue(name)
        with open(cert, "rb") as chain, open(key, "rb") as secret:
            if name == "a.example":
                (tmp_path / (name + ".crt")).write_bytes(chain.read())
                (tmp_path / (name + ".key")).write_bytes(secret.read())
            else:
                (tmp_path / (name + ".pem")).write_bytes(chain.read() + secret.read())
    server = serve("--forward", backend().target, "--cert-dir", str(tmp_path))
    assert name_of(server, "b.example", ca) == "b.example"
    assert name_of(server, "a.example", ca) == "a.example"
    assert name_of(server, "c.example", ca) == "a.example"


def test_self_signed(serve, backend):
    server = serve("--forward", backend(saying(b"hello")).target, "--self-signed")
    told = server.line(event="self-signed")["sha256"]
    with server.connect() as connection:
        assert hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest() == told
        assert answer(connection) == b"hello"


def test_self_signed_by_a_reload(serve, one, backend, tmp_path):
    """It is told once, when it comes, and stays the same."""
    config = tmp_path / "config"
    config.write_text("cert %s\nkey %s\n" % (one[1], one[3]))
    server = serve("--forward", backend().target, "--config", str(config))
    for generation in 2, 3:
        config.write_text("self-signed\n")
        server.signal(signal.SIGHUP)
        server.line(event="reload", generation=str(generation))
    with server.connect() as connection:
        shown = hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
    assert [line["sha256"] for line in server.matching(event="self-signed")] == [shown]


def test_client_certificates(serve, one, ca, backend):
    cert, key = ca.issue("client")
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--client-ca", ca.root)
    context = ssl.create_default_context(cafile=ca.root)
    with pytest.raises(OSError), server.connect(context) as connection:
        connection.recv(1)  # TLS 1.3: the client learns of it with its first read
    line = server.line(event="connection", end="handshake")
    assert "no certificate" in line["error"]
    context.load_cert_chain(cert, key)
    with server.connect(context) as connection:
        assert answer(connection) == b"hello"


def test_optional_client_certificate(serve, one, ca, backend):
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--client-ca", ca.root, "--client-auth",
                   "optional")
    with server.connect() as connection:
        assert answer(connection) == b"hello"


def test_alpn(serve, one, backend):
    server = serve("--forward", backend().target, *one, "--alpn", "h2,http/1.1")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1", "h2"])
    with server.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("options,client,agreed", [
    (["--min-version", "1.3"], "-tls1_2", False), (["--min-version", "1.3"], "-tls1_3", True),
    (["--max-version", "1.2"], "-tls1_3", False), (["--max-version", "1.2"], "-tls1_2", True),
    ([], "-tls1_1", False)])
def test_versions(serve, one, backend, options, client, agreed):
    server = serve("--forward", backend().target, *one, *options)
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, client, "-cipher",
                           "DEFAULT@SECLEVEL=0"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=False)
    assert (done.returncode == 0) == agreed
    assert (server.line(event="connection")["end"] != "handshake") == agreed


def test_default_ciphers_are_the_kernels(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-tls1_2", "-cipher",
                           "ECDHE-ECDSA-AES128-SHA256"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=False)
    assert done.returncode != 0
    server.line(event="connection", end="handshake")


CBC = ["--ciphers", "ECDHE-ECDSA-AES128-SHA256", "--max-version", "1.2"]


def test_user_space_says_why(serve, one, backend):
    server = serve("--forward", backend(saying(b"hello")).target, *one, *CBC)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    line = server.line(event="connection")
    assert (line["tx"], line["rx"]) == ("user", "user")
    assert line["why"] in (["cipher"] if expected_place() == "kernel" else ["no-tls", "module"])


@pytest.mark.skipif(expected_place() == "user", reason="it does not start without kernel TLS")
def test_required_kernel_refuses_the_rest(serve, one, backend):
    behind = backend(saying(b"hello"))
    server = serve("--forward", behind.target, *one, *CBC, "--require-kernel")
    with pytest.raises(OSError), server.connect() as connection:
        assert connection.recv(1)
        raise AssertionError("data came")
    line = server.line(event="connection", end="handshake")
    assert "no kernel has this cipher" in line["error"]
    assert behind.count == 0


@pytest.mark.skipif(expected_place() == "kernel", reason="the kernel has TLS")
def test_required_kernel_is_not_there(one):
    status, said = refused("--listen", "127.0.0.1:0", "--forward", "127.0.0.1:1", *one, "--require-kernel")
    assert status == 6 and "no kernel TLS" in said


def hidden_module():
    """The lab's guests without kernel TLS have an empty file over the module."""
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        points = [line.split()[4] for line in mounts]
    return next((point for point in points if "/tls.ko" in point), None)


@pytest.mark.skipif(not hidden_module(), reason="no module that could be there later")
def test_the_kernel_has_tls_later(serve, one, backend):
    """The next reload finds it."""
    module = hidden_module()
    server = serve("--forward", backend(saying(b"hello")).target, *one)

    def place():
        before = len(server.matching(event="connection"))
        with server.connect() as connection:
            assert answer(connection) == b"hello"
        line = server.line(before + 1, event="connection")
        return line["tx"], line["rx"], line["why"]

    assert place() == ("user", "user", "no-tls")
    subprocess.run(["umount", module], check=True)
    try:
        assert place() == ("user", "user", "no-tls")
        assert "error" not in reloaded(server, 1)
        assert place() == ("kernel", "kernel", "")
        server.stop()
        wait_for(lambda: subprocess.run(["rmmod", "tls"], check=False, stderr=subprocess.DEVNULL).returncode == 0)
    finally:
        subprocess.run(["mount", "--bind", "/run/nothing", module], check=True)


# ---- backends ----

def test_unix_backend(serve, one, backend):
    path = "/tmp/tlsfd-%d.sock" % os.getpid()
    data = os.urandom(300_000)
    server = serve("--forward", backend(saying(data), path=path).target, *one)
    try:
        with server.connect() as connection:
            assert answer(connection) == data
    finally:
        os.unlink(path)


def test_round_robin(serve, one, backend):
    behind = [backend(saying(b"%d" % i)) for i in range(3)]
    server = serve("--workers", "1", *one, *[word for b in behind for word in ("--forward", b.target)])
    got = []
    for _ in range(6):
        with server.connect() as connection:
            got.append(answer(connection))
    assert got == [b"0", b"1", b"2"] * 2


def test_a_backend_is_down(serve, one, backend):
    server = serve("--workers", "1", *one, "--forward", "127.0.0.1:%d" % unused_port(), "--forward",
                   backend(saying(b"up")).target)
    for _ in range(4):
        with server.connect() as connection:
            assert answer(connection) == b"up"
    assert len(server.matching(event="backend", state="down")) == 1


def test_no_backend(serve, one, backend):
    port = unused_port()
    server = serve("--workers", "1", *one, "--forward", "127.0.0.1:%d" % port)
    with server.connect() as connection, pytest.raises(CUT):
        connection.recv(1)
    assert server.line(event="connection")["end"] == "backend"
    with socket.create_server(("127.0.0.1", port)) as late:  # it comes up
        with server.connect():
            late.settimeout(LIMIT)
            late.accept()[0].close()
    server.line(event="backend", state="up")


# ---- bad input ----

def bad(ca):
    cert, key = ca.issue("bad.example")
    _, other = ca.issue("other.example")
    good = ["--listen", "127.0.0.1:0", "--forward", "127.0.0.1:1", "--cert", cert, "--key", key]
    base = good[:4]
    yield 2, "--listen", good[2:]
    yield 2, "--forward", good[:2] + good[4:]
    yield 2, "certificate is needed", base
    yield 2, "no option", good + ["--no-such-option"]
    yield 2, "wants a value", good + ["--workers"]
    yield 2, "--check-config in full", good + ["--check"]
    yield 2, "number from 1", good + ["--workers", "many"]
    yield 2, "number from 1", good + ["--workers", "0"]
    yield 2, "number from 0", good + ["--idle-timeout", "-1"]
    yield 2, "one of none, optional, required", good + ["--client-auth", "perhaps"]
    yield 2, "--client-ca", good + ["--client-auth", "required"]
    yield 2, "--crl needs --client-ca", good + ["--crl", cert]
    yield 2, "--crl needs --client-ca", good + ["--crl", cert, "--client-auth", "none"]
    yield 2, "--verify-depth needs --client-ca", good + ["--verify-depth", "1"]
    yield 2, "--verify-depth needs --client-ca", good + ["--verify-depth", "100"]
    yield 2, "--self-signed and --cert exclude", good + ["--self-signed"]
    yield 2, "--self-signed and --cert-dir exclude", base + ["--self-signed", "--cert-dir", "/"]
    yield 2, "--self-signed and --unknown-name refuse", base + ["--self-signed", "--unknown-name", "refuse"]
    yield 2, "one of default, refuse", good + ["--unknown-name", "perhaps"]
    yield 2, "above", good + ["--min-version", "1.3", "--max-version", "1.2"]
    yield 2, "one word too many", good + ["word"]
    yield 2, "2 --cert but 1 --key", good + ["--cert", cert]
    yield 2, "ADDRESS:PORT", ["--listen", "nowhere", *good[2:]]
    yield 2, "ADDRESS:PORT", ["--listen", "127.0.0.1:99999", *good[2:]]
    yield 4, "no.such.file", good + ["--config", "/no.such.file"]
    yield 4, "Is a directory", good + ["--config", "/"]
    for target, wrong in (("nowhere", "HOST:PORT or unix:PATH"), ("127.0.0.1:0", "port 0"), ("unix:", "unix:PATH"),
                          ("unix:@name", "abstract"), ("unix:/" + "x" * 107, "107 bytes")):
        yield 2, wrong, [*good[:2], "--forward", target, *good[4:]]
    for option in ("--listen", "--metrics"):
        for address in ("nowhere", "localhost:80", "127.0.0.1:99999"):
            yield 2, "ADDRESS:PORT", good + [option, address, "--check-config"]
    yield 4, "no-such-host.invalid", [*good[:2], "--forward", "no-such-host.invalid:1", *good[4:]]
    yield 4, "no.such.file", [*base, "--cert", "/no.such.file", "--key", key]
    yield 4, "/dev/null: neither", [*base, "--cert", "/dev/null"]
    yield 4, "/dev/null: neither", [*base, "--cert", cert, "--key", "/dev/null"]
    yield 4, "/dev/null: neither", good + ["--ocsp", "/dev/null"]
    yield 4, "no private key in it, in PEM", [*base, "--cert", cert, "--key", cert]
    openssl("x509", "-in", cert, "-outform", "DER", "-out", cert + ".der")
    yield 4, "bad.example.pem.der: no certificate in it, in PEM", [*base, "--cert", cert + ".der", "--key", key]
    yield 4, "not the first certificate's", [*base, "--cert", cert, "--key", other]
    yield 4, "no.such.folder", [*base, "--cert-dir", "/no.such.folder"]
    yield 4, "ciphers", good + ["--ciphers", "NO-SUCH"]
    yield 4, "no.such.file", good + ["--client-ca", "/no.such.file"]
    yield 4, "no-such-user", good + ["--user", "no-such-user"]
    yield 2, "wants its interface", ["--listen", "[fe80::1]:0", *good[2:]]
    yield 5, "no such address", ["--listen", "203.0.113.1:0", *good[2:]]


def test_bad_settings(ca):
    for status, sentence, options in bad(ca):
        got, said = refused(*options)
        assert got == status and sentence in said, (options, got, said)
        assert said.count("\n") == 1 and said.startswith("tlsfd serve: "), said


def test_a_pipe_is_no_file(one):
    """It would be empty at the second reading."""
    out, into = os.pipe()
    os.close(into)
    done = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:1", "--cert",
                           "/proc/self/fd/%d" % out, *one[2:]], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT, check=False, pass_fds=(out,))
    os.close(out)
    assert done.returncode == 4 and "this is a pipe" in done.stderr and done.stderr.count("\n") == 1


def test_a_pipe_is_no_config_file(one):
    done = subprocess.run(["sh", "-c", 'echo self-signed | "$0" serve --config /proc/self/fd/0', BIN],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 4 and "this is a pipe" in done.stderr and done.stderr.count("\n") == 1


def test_port_in_use(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    status, said = refused("--listen", "127.0.0.1:%d" % server.port, "--forward", "127.0.0.1:1", *one)
    assert status == 5 and "in use" in said


@pytest.mark.parametrize("year, said", [(2020, "the certificate has expired"), (2048, "not valid yet")])
def test_wrong_dates_are_said(serve, ca, backend, year, said):
    cert, key = ca.issue("date%d.example" % year, year=year)
    server = serve("--forward", backend(saying(b"hello")).target, "--cert", cert, "--key", key)
    assert said in server.line(event="warning", file=cert)["error"]
    with server.connect() as connection:
        assert answer(connection) == b"hello"


@pytest.mark.parametrize("year, said", [(2020, "has expired"), (2048, "is not valid yet")])
def test_wrong_dates_in_the_chain_are_said(serve, ca, backend, tmp_path, year, said):
    """The files need not belong together: a server sends what it is given."""
    cert, key = ca.issue("leaf.example")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"".join(open(path, "rb").read() for path in (cert, ca.issue("middle", year=year)[0])))
    server = serve("--forward", backend().target, "--cert", str(chain), "--key", key)
    assert server.line(event="warning", file=str(chain))["error"] == "a certificate of the chain " + said


@pytest.mark.parametrize("dates, said", [
    (["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"], "has expired"),
    (["-crl_lastupdate", "20480101000000Z", "-crl_nextupdate", "20480201000000Z"], "is not valid yet"),
    (["-crldays", "1"], None)])
def test_lists_that_let_nobody_in_are_said(serve, one, ca, backend, dates, said):
    path = ca.revoke_none(*dates)
    options = ["--forward", backend().target, *one, "--client-ca", ca.root, "--crl", path]
    checked = subprocess.run([BIN, "serve", "--check-config", *options], capture_output=True, text=True, check=True)
    lines = [line["error"] for line in map(parse, checked.stderr.splitlines()) if line.get("file") == path]
    server = serve(*options)
    assert "error" not in reloaded(server, 1)
    lines += [line["error"] for line in server.matching(event="warning", file=path)]
    assert len(lines) == (3 if said else 0)
    assert all(line.startswith("a revocation list " + said) for line in lines)


def test_no_kernel_tls_has_one_reason(serve, one, ca, backend):
    """For serve and connect, and it is the kernel's, not a module that nobody may load."""
    if expected_place() == "kernel":
        pytest.skip("the kernel has TLS")
    server = serve("--forward", backend(saying(b"hello")).target, *one)
    done = subprocess.run([BIN, "connect", "-v", "--ca", ca.root, "--name", "one.example",
                           "localhost:%d" % server.port], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    why = server.line(event="connection")["why"]
    assert " why=%s " % why in done.stderr and why == ("no-tls" if os.geteuid() == 0 else why)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_failures_have_a_name_and_a_version(serve, one, ca, backend, version):
    """The line of a handshake that failed says what the ClientHello did."""
    server = serve("--forward", backend().target, *one, "--client-ca", ca.root)
    context = ssl.create_default_context(cafile=ca.root)
    context.minimum_version = context.maximum_version = version
    with pytest.raises(OSError), server.connect(context) as connection:
        connection.recv(1)
    line = server.line(event="connection", end="handshake")
    assert (line["sni"], line["version"], line["cipher"]) == ("one.example", version.name.replace("_", "."), "")
    assert "no certificate" in line["error"]


def test_http_on_the_tls_port(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    subprocess.run(["curl", "-s", "http://127.0.0.1:%d/" % server.port], check=False, timeout=LIMIT,
                   stdout=subprocess.DEVNULL)
    assert server.line(event="connection", end="handshake")["error"] == "HTTP request on the TLS port"


@pytest.mark.parametrize("text", [b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n",
                                  b"GET / HTTP/1.0\r\n" + b"Cookie: chocolate\r\n" * 1000 + b"\r\n", bytes(100)],
                         ids=["http", "ssh", "long-http", "zeros"])
def test_no_tls_gets_an_alert(serve, one, backend, text):
    """And an end, no reset that would eat it."""
    server = serve("--forward", backend().target, *one)
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as plain:
        plain.sendall(text)
        assert plain.recv(100) == b"\x15\x03\x01\x00\x02\x02\x0a"  # fatal, unexpected_message
        assert plain.recv(100) == b""
    server.line(event="connection", end="handshake")


def test_silence_and_halves(serve, one, backend):
    """Many that begin and say no more; others don't notice."""
    server = serve("--forward", backend(saying(b"hello")).target, *one, "--handshake-timeout", "10")
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for i, connection in enumerate(silent):
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:i % 12])
    began = time.monotonic()
    for _ in range(5):
        with server.connect() as connection:
            assert answer(connection) == b"hello"
    assert time.monotonic() - began < 8
    server.line(200, event="connection", error="the handshake was not done in time")
    for connection in silent:
        connection.settimeout(LIMIT)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
        connection.close()


def test_too_many_handshakes_push_the_oldest_out(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one, "--max-handshakes", "8")
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    server.line(13, event="connection", error="too many handshakes at once, this was the oldest")
    for connection in silent:
        connection.close()


# ---- limits ----

def test_more_connections_wait(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend().target, *one, "--max-connections", "2")
    first, second = server.connect(), server.connect()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw.settimeout(0.3)
        with pytest.raises(TimeoutError):
            context.wrap_socket(raw)
    with second:
        second.sendall(b"x")
        assert second.recv(1) == b"x"
        second.unwrap()
    with server.connect() as third:  # there is room again
        third.sendall(b"y")
        assert third.recv(1) == b"y"
    first.close()


def test_idle(serve, one, backend):
    server = serve("--forward", backend().target, *one, "--idle-timeout", "3")
    with server.connect() as connection:
        for _ in range(8):
            time.sleep(0.5)
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        with pytest.raises(CUT):
            connection.recv(1)
    server.line(event="connection", end="idle")


def test_a_part_of_a_record_is_idle(serve, one, backend):
    server = serve("--forward", backend().target, *one, "--idle-timeout", "0.5")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(came, goes)
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as raw:
        while not client.version() or goes.pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            raw.sendall(goes.read())
            if not client.version():
                came.write(raw.recv(1 << 16))
        client.write(bytes(100))
        record = goes.read()
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in record[:-1]:
                raw.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - began < 10  # it would be 12 and more
    server.line(event="connection", end="idle")


def test_no_file_descriptors_left(serve, one, backend):
    """EMFILE: accepting pauses, and goes on."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:  # the worker is there, and has counted what it may have
        assert answer(connection) == b"hello"
    worker = server.workers("handshake")[0]
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (24, limit[1]))
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    assert server.line(event="accept")["error"] == "Too many open files"
    time.sleep(2)  # a line for each pause would be 20
    for connection in held:
        connection.close()
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    told = server.line(event="accept", state="over")
    assert int(told["ms"]) > 400 and int(told["pauses"]) > 3
    assert len(server.matching(event="accept")) == 2


# ---- operation ----

def test_config_file(serve, one, backend, tmp_path):
    config = tmp_path / "config"
    config.write_text("# what is served\n\nlisten   127.0.0.1:0\nforward %s\ncert %s\nkey\t%s\nworkers 1\n"
                      "idle-timeout 60\n" % (backend(saying(b"hello")).target, one[1], one[3]))
    server = serve("--config", str(config), listen=None)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    done = subprocess.run([BIN, "serve", "--check-config", "--config", str(config)], stdout=subprocess.PIPE,
                          check=True, text=True)
    assert done.stdout == "the configuration is good\n"
    config.write_text("listen 127.0.0.1:0\nno-such-thing 1\n")
    status, said = refused("--config", str(config))
    assert status == 2 and "line 2: no setting 'no-such-thing'" in said


def reloaded(server, count):
    server.signal(signal.SIGHUP)
    return server.line(count, event="reload")


def test_reload(serve, ca, backend, tmp_path):
    config = tmp_path / "config"

    def write(name, target):
        cert, key = ca.issue(name)
        config.write_text("listen 127.0.0.1:0\nforward %s\ncert %s\nkey %s\n" % (target, cert, key))

    old, new = backend(), backend(saying(b"new"))
    write("old.example", old.target)
    server = serve("--config", str(config), listen=None)
    assert name_of(server, "old.example", ca) == "old.example"
    with server.connect() as stays:
        stays.sendall(b"before")
        assert stays.recv(100) == b"before"
        write("new.example", new.target)
        assert "error" not in reloaded(server, 1)
        assert name_of(server, "new.example", ca) == "new.example"
        config.write_text("listen 127.0.0.1:0\nforward %s\ncert /no.such.file\n" % new.target)
        assert "the old settings stay" in reloaded(server, 2)["error"]
        assert name_of(server, "new.example", ca) == "new.example"
        with server.connect() as connection:
            assert answer(connection) == b"new"
        stays.sendall(b"and after")
        assert stays.recv(100) == b"and after"
        stays.unwrap()


@pytest.mark.parametrize("line", ["listen 127.0.0.2:0", "workers 2", "metrics 127.0.0.1:0"])
def test_reload_says_what_wants_a_restart(serve, one, backend, tmp_path, line):
    """As long as it is so."""
    config = tmp_path / "config"
    before = "listen 127.0.0.1:0\nforward %s\ncert %s\nkey %s\n" % (backend().target, one[1], one[3])
    config.write_text(before + "workers 1\n")
    server = serve("--config", str(config), listen=None)

    def warnings():
        return [said for said in server.matching(event="warning") if "only with a restart" in said["error"]]

    for number, text, count in (1, before + line, 1), (2, before + line, 2), (3, before + "workers 1", 2):
        config.write_text(text + ("" if "workers" in text else "\nworkers 1") + "\n")
        reloaded(server, number)
        assert len(warnings()) == count


def test_reload_under_load(serve, one, backend):
    """Fifty times, and no request fails; ten without kernel TLS, where processes do the same."""
    times = 50 if expected_place() == "kernel" else 10
    server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one)
    failures, done, over = [], [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                with server.connect() as connection:
                    assert answer(connection) == b"hello"
                done.append(1)
            except Exception as error:  # whatever it is
                failures.append(error)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for i in range(times):
        reloaded(server, i + 1)
        target = len(done) + 3
        limit = time.monotonic() + LIMIT
        while len(done) < target and time.monotonic() < limit:
            time.sleep(0.005)
    over.set()
    for client in clients:
        client.join()
    assert not failures and len(done) > 3 * times, (failures, len(done))


def test_a_killed_worker_is_replaced(serve, one, backend):
    server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one)
    for round_ in range(2):
        wait_for(lambda: len(server.workers()) == 4)
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        server.line(round_ + 1, event="worker", error="killed by signal 9; it is replaced")
        for _ in range(6):
            with server.connect() as connection:
                assert answer(connection) == b"hello"


def test_graceful_stop(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    with server.connect() as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        server.signal(signal.SIGTERM)
        server.line(event="stopping")
        connection.sendall(b"still")
        assert connection.recv(100) == b"still"
        connection.unwrap()
    assert server.wait() == 0


def test_grace_has_an_end(serve, one, backend):
    server = serve("--forward", backend().target, *one, "--grace", "0.3")
    with server.connect() as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        server.signal(signal.SIGTERM)
        with pytest.raises(CUT):
            connection.recv(1)
    assert server.line(event="connection")["end"] == "stopped"
    assert server.wait() == 0


def test_second_signal_ends_at_once(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    with server.connect() as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        server.signal(signal.SIGTERM)
        server.line(event="stopping", how="grace")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_workers_end_with_the_master(serve, one, backend):
    server = serve("--workers", "2", "--forward", backend().target, *one, "--grace", "0")
    workers = server.workers()
    server.process.kill()
    server.wait()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and any(os.path.exists("/proc/%d/fd/0" % pid) for pid in workers):
        time.sleep(0.01)
    assert not any(os.path.exists("/proc/%d/fd/0" % pid) for pid in workers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_workers_are_somebody_else(serve, ca, backend, tmp_path):
    cert, key = ca.issue("user.example")
    os.chmod(key, 0o600)
    server = serve("--forward", backend(saying(b"hello")).target, "--cert", cert, "--key", key, "--user", "nobody")
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    for pid in server.workers():
        with open("/proc/%d/status" % pid, encoding="ascii") as status:
            uids = next(line for line in status if line.startswith("Uid:")).split()[1:]
        assert len(set(uids)) == 1 and uids[0] != "0"


def test_addresses(serve, one, backend):
    target = backend(saying(b"hello")).target
    for listen, host in ((":0", "127.0.0.1"), (":0", "::1"), ("[::1]:0", "::1")):
        server = serve("--forward", target, *one, listen=listen)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, server.port), timeout=LIMIT) as raw, \
                context.wrap_socket(raw) as connection:
            assert answer(connection) == b"hello"
        peer = server.line(event="connection")["peer"]
        assert peer.startswith("127.0.0.1:" if host == "127.0.0.1" else "[::1]:")


def test_families_apart(serve, one, backend):
    """[::] is no IPv4 address, so that each may have listeners of its own."""
    port = unused_port("::", "0.0.0.0")
    serve("--forward", backend(saying(b"four")).target, *one, listen="0.0.0.0:%d" % port)
    ipv6 = serve("--forward", backend(saying(b"six")).target, *one, listen="[::]:%d" % port)
    with ipv6.connect() as connection:
        assert answer(connection) == b"four"


@pytest.mark.parametrize("reload_", [False, True])
def test_keepalive(serve, one, backend, reload_):
    """A peer that vanishes is noticed without --idle-timeout, too."""
    behind = backend()
    server = serve("--forward", behind.target, *one, "--idle-timeout", "0")
    if reload_:
        reloaded(server, 1)
    with server.connect() as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        wait_for(lambda: keepalive(server.port, None) and keepalive(None, int(behind.target.split(":")[1])))


def test_help_names_every_setting():
    text = subprocess.run([BIN, "serve", "--help"], stdout=subprocess.PIPE, check=True, text=True).stdout
    page = open(os.path.join(os.path.dirname(__file__), "../../man/tlsfd-serve.1"), encoding="utf-8").read()
    options = [line.split()[0].lstrip("-") for line in text.splitlines() if line.startswith("  --")]
    assert len(options) > 20
    for option in options:
        assert re.search(r"Fl -%s( |$)" % option, page, re.M), option


# ---- the manual ----

def examples():
    """The literal blocks of EXAMPLES."""
    path = os.path.join(os.path.dirname(__file__), "../../man/tlsfd-serve.1")
    with open(path, encoding="utf-8") as page:
        text = page.read().split(".Sh EXAMPLES")[1].split(".Sh SEE ALSO")[0]
    return [block.split("\n.Ed")[0].split("\n", 1)[1] for block in text.split(".Bd -literal")[1:]]


def test_manual_examples(serve, ca, tmp_path):
    """As they are there, but for ports that are free and files that exist."""
    (tmp_path / "index.html").write_text("it works")
    site, target = web(tmp_path)
    first, curl, config = examples()
    port = str(unused_port())

    def here(text):
        cert, key = ca.issue("manual.example")
        for old, new in (("127.0.0.1:8000", target), ("8443", port), ("server.pem", cert), ("server.key", key)):
            assert old in text or old.startswith("server") or text is curl, text
            text = text.replace(old, new)
        return text

    words = here(first).split()
    assert words[:2] == ["tlsfd", "serve"]
    server = serve(*words[2:], listen=None)
    assert subprocess.check_output(here(curl).split(), stderr=subprocess.DEVNULL, timeout=LIMIT) == b"it works"
    check_moved(server.line(event="connection"))
    server.stop()
    (tmp_path / "serve.conf").write_text(here(config))
    server = serve("--config", str(tmp_path / "serve.conf"), listen=None)
    assert subprocess.check_output(here(curl).split(), stderr=subprocess.DEVNULL, timeout=LIMIT) == b"it works"
    site.shutdown()
