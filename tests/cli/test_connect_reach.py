# SPDX-License-Identifier: MIT
"""tlsfd connect: names, addresses that race, servers that are none.
"""
import contextlib
import os
import socket
import subprocess
import time

import pytest

from connecting import (BIN, HANDSHAKE, LIMIT, OK, TIMEOUT, UNREACHABLE, Server, connect, missing,
                        one_line, receive_all, said, tls)


# ---- servers that are none ----

@pytest.mark.parametrize("text", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"220 mail.example ESMTP\r\n",
                                  b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"], ids=["http", "smtp", "ssh"])
def test_plain_text(text):
    server = Server(lambda plain: (plain.recv(1000), plain.sendall(text)))
    one_line(connect(server.port), HANDSHAKE, "does not speak TLS; ", "--starttls")
    server.finish()


def test_closed_during_the_handshake():
    server = Server(lambda plain: plain.recv(10))
    one_line(connect(server.port), HANDSHAKE)
    server.finish()


@pytest.mark.parametrize("options", [[], ["--starttls", "smtp"]], ids=["tls", "starttls"])
def test_silence(options):
    server = Server(lambda plain: plain.recv(1000) and plain.recv(1000))
    began = time.monotonic()
    one_line(connect(server.port, "--timeout", "0.5", *options), TIMEOUT, "timed out")
    assert 0.4 < time.monotonic() - began < 25  # it would be 30
    server.finish()


def test_idle(certs):
    def talk(peer):
        peer.sendall(b"hello")
        with contextlib.suppress(OSError):
            peer.recv(1)

    server = Server(tls(certs, talk))
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin, os.fdopen(writer, "wb"):
        done = subprocess.run([BIN, "connect", "--ca", certs.root, "--idle-timeout", "3",
                               f"localhost:{server.port}"], stdin=stdin, capture_output=True,
                              timeout=LIMIT, check=False)
    one_line(done, TIMEOUT)
    assert done.stdout == b"hello"
    server.finish()


# ---- names and addresses ----

@pytest.fixture
def named(tmp_path):
    """Runs connect where test.invalid has the addresses that are given."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        missing("the right to mount over /etc/hosts")

    def run(port, *options, addresses=("::1", "127.0.0.1"), **where):
        (tmp_path / "hosts").write_text("".join(f"{a} test.invalid\n" for a in addresses))
        command = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"',
                   tmp_path / "hosts", BIN, "connect", *options, "--name", "localhost",
                   f"test.invalid:{port}"]
        return subprocess.run(command, input=b"", capture_output=True, timeout=LIMIT, check=False,
                              **where)
    return run


def silent(port=0):
    """A listener on ::1 with the shortest of backlogs."""
    return socket.create_server(("::1", port), family=socket.AF_INET6, backlog=0)


@contextlib.contextmanager
def black_hole(listener=None):
    """::1 that does not answer: its backlog is full, so SYNs are dropped."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(listener or silent())
        for _ in range(4):
            s = stack.enter_context(socket.socket(socket.AF_INET6))
            s.setblocking(False)
            s.connect_ex(hole.getsockname())
        yield hole.getsockname()[1]


@contextlib.contextmanager
def only_ipv4_answers(certs):
    """A server on 127.0.0.1, and on its port of ::1 a black hole. A port that is free for the
    one family may be in use for the other: it takes a try or two."""
    for _ in range(100):
        server = Server(tls(certs, receive_all))
        try:
            listener = silent(server.port)
            break
        except OSError:
            server.listener.close()
    with black_hole(listener):
        yield server


def test_ipv6(certs, named):
    server = Server(tls(certs, receive_all), socket.AF_INET6, "::1")
    done = named(server.port, "-v", "--ca", certs.root)
    assert done.returncode == OK, done.stderr
    assert said(done)["peer"] == f"[::1]:{server.port}"
    server.finish()


def test_ipv6_literal(certs):
    server = Server(tls(certs, receive_all), socket.AF_INET6, "::1")
    done = connect(server.port, "-v", "--ca", certs.root, "--name", "localhost", host="[::1]")
    assert done.returncode == OK, done.stderr
    assert said(done)["peer"] == f"[::1]:{server.port}"
    server.finish()


def test_ipv6_refused(certs, named):
    """IPv4 follows at once, not after the pause."""
    server = Server(tls(certs, receive_all))
    done = named(server.port, "-v", "--ca", certs.root, addresses=("::1", "fd00::1", "127.0.0.1"))
    assert done.returncode == OK, done.stderr
    assert said(done)["peer"] == f"127.0.0.1:{server.port}"
    server.finish()


def test_ipv6_silent(certs, named):
    """RFC 8305: 250 ms later IPv4 is tried; nobody waits for the end of IPv6."""
    with only_ipv4_answers(certs) as server:
        began = time.monotonic()
        done = named(server.port, "-v", "--ca", certs.root)
        took = time.monotonic() - began
    assert done.returncode == OK, done.stderr
    assert said(done)["peer"] == f"127.0.0.1:{server.port}"
    assert 0.25 < took < 25  # it would be 30
    server.finish()


def test_families_in_turn(certs, named):
    """60 silent IPv6 addresses cost one pause, not 60, which would be 15 s (RFC 8305 section 4)."""
    with only_ipv4_answers(certs) as server:
        began = time.monotonic()
        done = named(server.port, "--ca", certs.root, addresses=("::1",) * 60 + ("127.0.0.1",))
        took = time.monotonic() - began
    assert done.returncode == OK, done.stderr
    assert took < 12
    server.finish()


def test_many_refuse(certs, named):
    """After one that refuses the next is tried at once, though another is still open: 60 pauses would be 15 s."""
    with only_ipv4_answers(certs) as server:
        began = time.monotonic()
        done = named(server.port, "--ca", certs.root,
                     addresses=("::1", *(f"127.0.0.{i}" for i in range(2, 62)), "127.0.0.1"))
        took = time.monotonic() - began
    assert done.returncode == OK, done.stderr
    assert took < 12
    server.finish()


def test_nobody_answers(named):
    with black_hole() as port:
        one_line(named(port, "-6", "--timeout", "0.6"), TIMEOUT)


@pytest.mark.parametrize("option, refused_by", [("-4", "IPv4"), ("-6", "IPv6")])
def test_one_family(certs, named, option, refused_by):
    """The other one would have answered."""
    family, address = (socket.AF_INET6, "::1") if refused_by == "IPv4" else (socket.AF_INET, "127.0.0.1")
    with socket.create_server((address, 0), family=family) as listener:
        one_line(named(listener.getsockname()[1], option), UNREACHABLE, "refused")


def test_no_such_name():
    one_line(connect(1, host="nothing.invalid"), UNREACHABLE, "nothing.invalid")


@pytest.mark.parametrize("port", ["http/", "//localhost", "no-such-service"])
def test_no_such_port(port):
    one_line(connect(port), UNREACHABLE, "no such port")


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one_line(connect(port, host="127.0.0.1"), UNREACHABLE, f"127.0.0.1:{port}", "refused")
