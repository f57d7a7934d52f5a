# SPDX-License-Identifier: MIT
"""Processes of tlsfd serve that don't do what they should: what they can get at, and what becomes of the others.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import ctypes
import fcntl
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from serving import BIN, LIMIT, answer, expected_place, saying, wait_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, or look into them")
needs_kernel = pytest.mark.skipif(expected_place() != "kernel", reason="needs kernel TLS: else none is passed on")


# ---- they don't end ----

@pytest.mark.parametrize("role", ["handshake", "data"])
def test_one_that_hangs(serve, one, backend, role):
    """The grace time is the master's, too."""
    server = serve("--workers", "2", "--grace", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    os.kill(server.workers(role)[0], signal.SIGSTOP)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert 1 < time.monotonic() - began < 8
    assert [line["how"] for line in server.matching(event="stopping")] == ["grace", "killed"]


# ---- they don't begin ----

def start(one, *options, around=()):
    """One that is to end by itself: its status, the events of its log, and what else it said."""
    command = [*around, BIN, "serve", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:1", "--workers", "2", *one]
    with subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        log, other = [], []
        for line in server.stderr:
            (log if line.startswith("event=") else other).append(line.rstrip())
            if line.startswith("event=listening"):
                server.terminate()
        return server.wait(LIMIT), [line.split()[0].partition("=")[2] for line in log], other


@needs_root
def test_none_can_become_the_user(one):
    """Said in one line, by the step that failed."""
    without = "-setuid,-setgid"
    status, events, said = start(one, "--user", "nobody",
                                 around=("setpriv", "--bounding-set", without, "--inh-caps", without))
    assert status == 7 and not {"worker", "listening"} & set(events)
    assert len(said) == 1
    assert re.fullmatch("tlsfd serve: (data|handshake) process: become user nobody: Operation not permitted", said[0])


def test_no_files_to_begin_with(one):
    """Whatever it is that they are short for: there is an end, or they serve."""
    ends = []
    for limit in range(8, 64):
        status, events, said = start(one, around=("sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh"))
        if "listening" in events:
            assert status == 0
            break
        ends.append(said)
        assert status == 7 and len(said) == 1
    assert [said for said in ends if re.fullmatch("tlsfd serve: [a-z]+ process: [^:]+: Too many open files", said[0])]


# ---- what they have ----

@needs_root
def test_no_files_of_who_started_it(serve, one, backend, tmp_path):
    """Whatever numbers they have."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4000, before[1]))
    numbers = (5, 300, 1023, 1024, 2000, 3999)
    command = ("import os, sys; [os.dup2(0, int(n)) for n in sys.argv[1].split()]; "
               "os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.execv(sys.argv[2], sys.argv[2:])")
    try:
        with open(secret, encoding="ascii") as file:
            server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one, stdin=file,
                           around=(sys.executable, "-c", command, " ".join(map(str, numbers))))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with server.connect() as connection:
        assert answer(connection) == b"hello"

    def having(pid):
        folder = "/proc/%d/fd/" % pid
        return {int(fd) for fd in os.listdir(folder) if os.readlink(folder + fd) == str(secret)}

    assert having(server.process.pid) == set(numbers)
    assert len(server.workers()) == 4
    for pid in server.workers():
        assert not having(pid)


# ---- what they leave to those who replace them ----

def get_fd(pid, fd):
    """That file of another process (pidfd_getfd), as if we were in it."""
    got = ctypes.CDLL(None, use_errno=True).syscall(438, os.pidfd_open(pid), fd, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got


def sockets(pid):
    """All that a process has; the caller closes them."""
    folder = "/proc/%d/fd/" % pid
    for fd in os.listdir(folder):
        if os.readlink(folder + fd).startswith("socket:"):
            number = get_fd(pid, int(fd))
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            found = socket.socket(fileno=number)  # which may make it block
            fcntl.fcntl(number, fcntl.F_SETFL, flags)
            yield found


def channel(pid):
    found, = [one for one in sockets(pid) if one.family == socket.AF_UNIX]
    return found


def listening(pid):
    found, = [one for one in sockets(pid) if one.family != socket.AF_UNIX
              and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
    return found


def replace(server, role, pid):
    os.kill(pid, signal.SIGKILL)
    server.line(event="worker", role=role, pid=str(pid))
    wait_for(lambda: [new for new in server.workers(role) if new != pid])


@needs_root
@needs_kernel
@pytest.mark.parametrize("role", ["handshake", "data"])
def test_a_channel_that_blocks(serve, one, backend, role):
    server = serve("--workers", "1", "--grace", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    spoiler = server.workers(role)[0]
    with channel(spoiler) as end:
        assert not os.get_blocking(end.fileno())
        os.set_blocking(end.fileno(), True)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        replace(server, role, spoiler)
        for _ in range(40):
            with server.connect() as connection:
                assert answer(connection) == b"hello"
        assert not os.get_blocking(end.fileno())
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 32 * 1024
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0 and time.monotonic() - began < 3
