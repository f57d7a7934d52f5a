# SPDX-License-Identifier: MIT
"""A log that nobody reads: no connection waits for it.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys

import pytest

from serving import BIN, LIMIT, answer, saying, unused_port, wait_for

NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


# ---- what stderr can be ----

class Stderr:
    """Two ends, and who writes."""

    def __init__(self, out, into, **who):
        self.out, self.into, self.who = open(out, "rb", buffering=0), into, who

    def resume(self):
        """Its reader is back."""

    def read(self, quiet=lambda: None):
        """All of it, till nobody has it any more; quiet() is called when nothing has come for a while."""
        text, idle, data = b"", False, b"."
        while data:
            if not idle and not select.select([self.out], [], [], 1)[0]:
                idle = True
                quiet()
            data = self.some() or b""
            text += data
        return text.decode("ascii").replace("\r\n", "\n")

    def some(self):
        return self.out.read(65536)

    def close(self):
        """Who waits to write gets an error."""
        self.out.close()


class Terminal(Stderr):
    """Of which what comes is not read."""

    def __init__(self):
        super().__init__(*pty.openpty())

    def some(self):
        with contextlib.suppress(OSError):  # EIO: all have closed it
            return super().some()


class StoppedTerminal(Terminal):
    """By Ctrl-S."""

    def __init__(self):
        super().__init__()
        os.write(self.out.fileno(), b"\x13")

    def resume(self):
        os.write(self.out.fileno(), b"\x11")


def own_pipe(**who):
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    return Stderr(out, into, **who)


def foreign_pipe():
    """It can't be opened once more."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    return own_pipe(**NOBODY)


def journal():
    out, into = socket.socketpair()
    into.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return Stderr(out.detach(), into.detach())


# ---- who writes ----

class Serving:
    """The command, and what tells that it goes on."""

    def __init__(self, target):
        self.port = unused_port()
        self.command = [BIN, "serve", "--listen", "127.0.0.1:%d" % self.port, "--forward", target, "--self-signed",
                        "--workers", "1"]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def goes_on(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as raw:
            with self.context.wrap_socket(raw) as connection:
                return answer(connection) == b"hello"


class Connecting:
    """Likewise."""

    def __init__(self, target, *options):
        self.port = unused_port()
        self.command = [BIN, "connect", "--listen", "127.0.0.1:%d" % self.port, "--insecure-no-verify", *options,
                        target]

    def goes_on(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as connection:
            connection.shutdown(socket.SHUT_WR)
            return answer(connection) == b"hello"


@contextlib.contextmanager
def running(log, what):
    process = subprocess.Popen(what.command, stdin=subprocess.DEVNULL, stderr=log.into, **log.who)
    os.close(log.into)

    def has_begun():
        assert process.poll() is None
        with contextlib.suppress(ConnectionRefusedError):
            return what.goes_on()

    try:
        wait_for(has_begun)
        yield process
    finally:
        log.close()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT)


# ---- the tests ----

@pytest.mark.parametrize("kind, count, most", [(own_pipe, 7000, 6500), (foreign_pipe, 300, 300), (journal, 200, 200),
                                               (StoppedTerminal, 400, 400)])
def test_nobody_reads_the_log(backend, kind, count, most):
    """Connections go on, lines are kept, then left out; how many, the log says where there is room again."""
    log, server = kind(), Serving(backend(saying(b"hello")).target)
    with running(log, server) as process:
        for _ in range(100):
            assert server.goes_on()
        for _ in range(count):
            socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT).close()
        assert server.goes_on()
        log.resume()
        text = log.read(lambda: process.send_signal(signal.SIGTERM))
        lines = text.splitlines()
        if not isinstance(log, Terminal):  # which takes a part of a line, then one of another process
            assert all(re.match("event=[a-z-]+ .*[a-z0-9]+=", line) for line in lines), lines
        kept = text.count("event=connection ")
        lost = sum(map(int, re.findall(r"event=log lost=(\d+)", text)))
        assert kept + lost >= 102 + count and kept > most / 2 and bool(lost) == (count > most), (kept, lost)


@pytest.mark.parametrize("kind", [own_pipe, foreign_pipe, journal, Terminal, StoppedTerminal])
@pytest.mark.parametrize("verb", [Serving, Connecting])
def test_nobody_ever_reads_the_log(serve, one, backend, verb, kind):
    """Nor is the end waited for."""
    target = backend(saying(b"hello")).target
    if verb == Connecting:
        target = "127.0.0.1:%d" % serve("--forward", target, *one).port
    log, what = kind(), verb(target)
    with running(log, what) as process:
        for _ in range(200):
            assert what.goes_on()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        log.resume()
        assert log.read()[:6] in ("event=", "")


def test_an_alarm_of_who_started_it(backend):
    """It goes on over execve(2), and is not the log's to take."""
    log, server = Terminal(), Serving(backend(saying(b"hello")).target)
    server.command = [sys.executable, "-c", "import os, signal, sys; signal.alarm(10); os.execv(sys.argv[1], sys.argv[1:])",
                      *server.command]
    with running(log, server) as process:
        assert process.wait(LIMIT) == -signal.SIGALRM


def fill(log):
    os.set_blocking(log.into, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(log.into, b"of before\n"):
            pass
    os.set_blocking(log.into, True)
    return log


@pytest.mark.parametrize("kind", [own_pipe, Terminal])
def test_nobody_has_read_the_log_of_before(serve, one, backend, tmp_path, kind):
    """Neither the start waits for it nor what is said of settings that are wrong."""
    anchors = tmp_path / "anchors.pem"
    shutil.copyfile(one[1], anchors)
    server = serve("--forward", backend(saying(b"hello")).target, *one)
    what = Connecting("127.0.0.1:%d" % server.port, "--ca", str(anchors))
    with running(fill(kind()), what) as process:
        anchors.unlink()
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
            assert what.goes_on()
