# SPDX-License-Identifier: MIT
"""tlsfd connect: how a conversation ends, on either side, and what the status says.
"""
import contextlib
import os
import pty
import signal
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from connecting import (BIG, BIN, BROKEN, CUT, LIMIT, OK, PLACE, STDIN, V12, Server, connect, demand,
                        digest, each_version, echo_all, exchange, one_line, only, receive_all, said,
                        say_goodbye, tls)
from serving import is_stopped, wait_for


# ---- how it ends ----

DATA = bytes(range(256)) * 1000


def just_end(peer):
    """FIN without close_notify; and none comes back."""
    socket.socket.shutdown(peer, socket.SHUT_WR)
    with pytest.raises((ssl.SSLError, ConnectionResetError), match="(?i)eof|reset"):
        exchange(peer)


def reset(peer):
    socket.socket.recv(peer, 100)  # until the client has got all, and says so
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@each_version
def test_truncated(certs, version):
    """What came is delivered; the status tells that more might have come."""
    def talk(peer):
        peer.sendall(DATA)
        just_end(peer)

    server = Server(tls(certs, talk, only(version)))
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin, os.fdopen(writer, "wb"):
        done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=stdin, capture_output=True, timeout=LIMIT, check=False)
    server.finish()
    one_line(done, CUT, "close_notify")
    assert digest(done.stdout) == digest(DATA)


def test_truncated_to_a_socket(certs):
    """Whoever reads stdout over TCP sees the cut, too."""
    def talk(peer):
        peer.sendall(DATA)
        just_end(peer)

    server = Server(tls(certs, talk))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), LIMIT)
        given, _ = listener.accept()
    with ours:
        process = subprocess.Popen([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                                   stdin=given, stdout=given, stderr=subprocess.DEVNULL)
        given.close()
        with pytest.raises(ConnectionResetError):
            while ours.recv(1 << 16):
                pass
        assert process.wait(LIMIT) == CUT
    server.finish()


@each_version
def test_reset(certs, start, version):
    def talk(peer):
        peer.sendall(b"ready")
        reset(peer)

    server = Server(tls(certs, talk, only(version)))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    ours.wait_for("ready")
    ours.process.stdin.write(b"now")
    ours.finish(status=CUT)
    assert b"reset" in ours.err
    server.finish()


@each_version
def test_we_are_cut(certs, start, version):
    """Killed in the middle: the server must not take it for an end."""
    def talk(peer):
        peer.sendall(b"ready\n")
        with pytest.raises((ssl.SSLError, ConnectionResetError), match="(?i)eof|reset"):
            exchange(peer)

    server = Server(tls(certs, talk, only(version)))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    ours.process.stdin.write(b"half of it")
    ours.wait_for("ready")
    ours.process.kill()
    server.finish()


@each_version
def test_stdin_ends_first(certs, version):
    """The server sees close_notify and goes on for 5 MB."""
    theirs = os.urandom(BIG)

    def talk(peer):
        got = exchange(peer)  # to close_notify
        exchange(peer, theirs, 0)
        peer.unwrap()
        return got

    server = Server(tls(certs, talk, only(version)))
    done = connect(server.port, "-v", "--ca", certs.root, stdin=b"the question")
    assert done.returncode == OK, done.stderr
    assert server.finish() == b"the question"
    assert digest(done.stdout) == digest(theirs)
    said(done)


def half_close_server(start, certs, tmp_path, *options):
    """Python's ssl can't read behind its own close_notify; this server can."""
    if PLACE == "user":
        pytest.skip("handover-echo needs kernel TLS")
    echo = os.path.join(os.path.dirname(BIN), "tests/peers/handover-echo")
    assert os.access(echo, os.X_OK), "not built"
    server = start(echo, "--server", "--cert", certs.server, "--key", certs.server_key, "--count", "0",
                   "--receive", str(tmp_path / "received"), *options)
    server.port = int(server.wait_for(r"^port (\d+)\n").group(1))
    return server


def test_server_ends_first(start, certs, tmp_path):
    """TLS 1.3: stdout ends, stdin goes on."""
    server = half_close_server(start, certs, tmp_path)
    ours = start(BIN, "connect", "-v", "--ca", certs.root, f"localhost:{server.port}",
                 stdin=subprocess.PIPE)
    with ours.changed:
        assert ours.changed.wait_for(lambda: ours.open == 1, LIMIT)  # stdout; stderr is left
    ours.process.stdin.write(DATA)
    ours.process.stdin.close()
    ours.finish()
    server.finish()
    assert said(ours)["out"] == str(len(DATA))
    assert digest((tmp_path / "received").read_bytes()) == digest(DATA)


def test_server_ends_first_1_2(certs, start):
    """TLS 1.2: close_notify is for both directions."""
    server = Server(tls(certs, say_goodbye, only(V12)))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    ours.finish()
    server.finish()


def test_server_leaves_while_stdin_is_open(certs, start):
    """After its close_notify it closes TCP: found out when more is sent."""
    server = Server(tls(certs, say_goodbye_only))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    with ours.changed:
        assert ours.changed.wait_for(lambda: ours.open == 1, LIMIT)
    server.finish()
    with contextlib.suppress(BrokenPipeError):
        for _ in range(1000):
            ours.process.stdin.write(DATA)
    ours.finish(status=CUT)


def test_server_resets_while_stdin_is_idle(certs, start):
    """Nobody has to type for that to be found out."""
    told = threading.Event()

    def talk(peer):
        say_goodbye_only(peer)
        assert told.wait(LIMIT)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    server = Server(tls(certs, talk))
    ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}", stdin=subprocess.PIPE)
    with ours.changed:
        assert ours.changed.wait_for(lambda: ours.open == 1, LIMIT)
    told.set()
    ours.finish(status=CUT)
    server.finish()


def test_the_alert_tells_why_sending_failed(certs, start):
    """The client finds out by a write that fails; the alert is there to be read."""
    connected, answered = threading.Event(), threading.Event()

    def talk(plain):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs.server, certs.server_key)
        demand(certs)(context)
        got, made = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = context.wrap_bio(got, made, server_side=True)
        got.write(plain.recv(1 << 16))
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        plain.sendall(made.read())
        assert connected.wait(LIMIT)
        got.write(plain.recv(1 << 16))
        with pytest.raises(ssl.SSLError, match="(?i)certificate"):
            peer.do_handshake()
        plain.sendall(made.read())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()
        answered.set()

    server = Server(talk)
    ours = start(BIN, "connect", "-v", "--ca", certs.root, f"localhost:{server.port}",
                 stdin=subprocess.PIPE)
    ours.wait_for("event=connected")
    ours.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: is_stopped(ours.process.pid))
    connected.set()
    assert answered.wait(LIMIT)
    ours.process.stdin.write(DATA[:1000])
    ours.process.send_signal(signal.SIGCONT)
    ours.finish(status=CUT)
    assert b"alert 116" in ours.err
    server.finish()


def say_goodbye_only(peer):
    """close_notify, and no look at what still comes."""
    peer.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.unwrap()


def test_terminal_ends_with_the_server(certs):
    """Nobody wants to press Ctrl-D then."""
    server = Server(tls(certs, lambda peer: (peer.sendall(b"bye\n"), say_goodbye(peer))))
    master, slave = pty.openpty()
    done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"], stdin=slave,
                          stdout=slave, stderr=subprocess.PIPE, timeout=LIMIT, check=False)
    assert done.returncode == OK, done.stderr
    assert os.read(master, 100) == b"bye\r\n"
    server.finish()
    os.close(master)
    os.close(slave)


def test_stdin_and_stdout_are_one_socket(certs):
    """As under a super-server: what ends the one way leaves the other."""
    ours, given = socket.socketpair()
    server = Server(tls(certs, echo_all))
    with ours, given:
        process = subprocess.Popen([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                                   stdin=given, stdout=given, stderr=subprocess.PIPE)
        given.close()
        ours.sendall(DATA)
        ours.shutdown(socket.SHUT_WR)
        got = bytearray()
        while data := ours.recv(1 << 16):
            got += data
        assert process.wait(LIMIT) == OK
        process.stderr.close()
    server.finish()
    assert bytes(got) == DATA


def test_nobody_reads_stdout(certs):
    def talk(peer):
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(DATA)

    server = Server(tls(certs, talk))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                              timeout=LIMIT, check=False)
    one_line(done, BROKEN, "stdout")
    server.finish()


def test_slow_reader_of_stdout(certs, start):
    """Whoever reads stdout takes his time: what comes waits, what goes does not."""
    def talk(peer):
        peer.sendall(bytes(10_000))  # so that no number of writes fills a pipe exactly
        got = exchange(peer, bytes(BIG), BIG)
        peer.unwrap()
        return got

    mine = os.urandom(BIG)
    server = Server(tls(certs, talk))
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stdout:
        ours = start(BIN, "connect", "--ca", certs.root, f"localhost:{server.port}",
                     stdin=subprocess.PIPE, stdout=stdout)
    ours.process.stdin.write(mine)  # all of it, while nobody reads
    ours.process.stdin.close()
    got = 0
    with os.fdopen(reader, "rb") as stdout:
        while got < BIG + 10_000:
            got += len(stdout.read1(1 << 16))
    ours.process.wait(LIMIT)
    assert digest(server.finish()) == digest(mine)


def test_full_disk(certs):
    def talk(peer):
        with contextlib.suppress(OSError):
            peer.sendall(DATA)
            peer.recv(1)

    server = Server(tls(certs, talk))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                              timeout=LIMIT, check=False)
    one_line(done, BROKEN, "stdout", "No space left")
    server.finish()


def test_stdin_can_not_be_read(certs):
    """The server must not take that for the end."""
    def talk(peer):
        with pytest.raises((ssl.SSLError, ConnectionResetError), match="(?i)eof|reset"):
            exchange(peer)

    server = Server(tls(certs, talk))
    fd = os.open("/", os.O_RDONLY)
    done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"], stdin=fd,
                          capture_output=True, timeout=LIMIT, check=False)
    os.close(fd)
    one_line(done, STDIN, "stdin", "Is a directory")
    server.finish()


def test_stdin_is_closed(certs):
    """Nothing to read, and the socket does not take its number."""
    server = Server(tls(certs, receive_all))
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", BIN, "connect", "--ca", certs.root,
                           f"localhost:{server.port}"], capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == OK, done.stderr
    assert server.finish() == b""


@pytest.mark.parametrize("text, status", [(b"an answer", BROKEN), (b"", OK)], ids=["something", "nothing"])
def test_stdout_is_closed(certs, text, status):
    """What can't be written is not lost in silence."""
    def talk(peer):
        try:
            peer.sendall(text)
            peer.unwrap()
        except OSError:
            pass

    server = Server(tls(certs, talk))
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", BIN, "connect", "--ca", certs.root,
                           f"localhost:{server.port}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=LIMIT, check=False)
    assert done.returncode == status, done.stderr
    if text:
        one_line(done, BROKEN, "stdout", "Bad file descriptor")
    server.finish()


def test_a_file_of_proc(certs):
    """A regular file that can't be spliced, and says that it is empty."""
    server = Server(tls(certs, receive_all))
    with open("/proc/self/environ", "rb") as stdin:
        done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=stdin, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == OK, done.stderr
    assert len(server.finish()) > 10


def test_stdin_starts_where_the_file_stands(certs, tmp_path):
    (tmp_path / "in").write_bytes(DATA)
    server = Server(tls(certs, receive_all))
    with open(tmp_path / "in", "rb", 0) as stdin:
        stdin.read(1000)
        done = subprocess.run([BIN, "connect", "--ca", certs.root, f"localhost:{server.port}"],
                              stdin=stdin, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == OK, done.stderr
    assert digest(server.finish()) == digest(DATA[1000:])
