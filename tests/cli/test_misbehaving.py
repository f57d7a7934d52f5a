# SPDX-License-Identifier: MIT
"""Processes of tlsfd serve that don't do what they should: what they can get at, and what becomes of the others.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import ctypes
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from serving import BIN, LIMIT, answer, files_of, saying, wait_for
from test_roles import get_fd, needs_kernel, needs_root


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
    assert time.monotonic() - began > 1
    assert server.line(event="stopping")["how"] == "grace"
    assert server.line(2, event="stopping")["how"] == "killed"


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


@pytest.mark.parametrize("metrics", [[], ["--metrics", "127.0.0.1:0"]], ids=["plain", "metrics"])
def test_no_files_to_begin_with(one, metrics):
    """Whatever it is that they are short for: it is said, with what helps, or they serve."""
    ends = set()
    for limit in range(8, 64):
        status, events, said = start(one, *metrics, around=("sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh"))
        if "listening" in events:
            assert status == 0
            break
        assert status == 7 and len(said) == 1
        assert re.fullmatch("tlsfd serve: ([^:]+: )+Too many open files; the limit is to be raised .ulimit -n; .*", said[0])
        ends.add(said[0].split(": ")[1])
    else:
        pytest.fail("no number of them is enough")
    assert {"memory for counts", "pipe from the processes", "data process"} <= ends


# ---- what they have ----

OLDER = '''import ctypes, struct
CLOSE_RANGE, FLAGS, CLOEXEC = 436, 32, 4  # its number everywhere; where seccomp(2) has its third argument
LOAD, IS, HAS, RETURN = 0x20, 0x15, 0x45, 6  # linux/filter.h
REFUSE, ALLOW = 0x50000, 0x7fff0000
program = [(LOAD, 0, 0, 0), (IS, 0, 3, CLOSE_RANGE), (LOAD, 0, 0, FLAGS), (HAS, 0, %d, CLOEXEC),
           (RETURN, 0, 0, REFUSE | %d), (RETURN, 0, 0, ALLOW)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
filter_ = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
for call in (38, 1, 0, 0, 0), (22, 2, filter_, 0, 0):  # linux/prctl.h: NO_NEW_PRIVS, SECCOMP
    assert libc.prctl(*call) == 0, ctypes.get_errno()
assert libc.close_range(99, 99, CLOEXEC) == -1 and ctypes.get_errno() == %d
'''


def older(flag_alone, error):
    """What close_range(2) says before Linux 5.11 to its flag, or before 5.9 to anybody."""
    return OLDER % (flag_alone, error, error)


@needs_root
@pytest.mark.parametrize("kernel", ["", older(1, errno.EINVAL), older(0, errno.ENOSYS), older(0, errno.EPERM)],
                         ids=["this", "5.10", "5.8", "container"])
def test_no_files_of_who_started_it(serve, one, backend, tmp_path, kernel):
    """Whatever numbers they have."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4000, before[1]))
    numbers = (5, 300, 1023, 1024, 2000, 3999)
    command = ("import os, sys; [os.dup2(0, int(n)) for n in sys.argv[1].split()]; "
               "exec(sys.argv[2]); os.execv(sys.argv[3], sys.argv[3:])")
    try:
        with open(secret, encoding="ascii") as file:
            server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one, "--metrics",
                           "127.0.0.1:0", stdin=file,
                           around=(sys.executable, "-c", command, " ".join(map(str, numbers)), kernel))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with server.connect() as connection:
        assert answer(connection) == b"hello"

    def having(pid):
        return {fd for fd, name in files_of(pid).items() if name == str(secret)}

    assert having(server.process.pid) == {0, *numbers}
    wait_for(lambda: server.workers("metrics"))  # nobody waits for it
    assert len(server.workers()) == 5
    for pid in server.workers():
        assert files_of(pid)[1] == "/dev/null"
        assert not having(pid)


def test_a_reload_that_cannot_begin(serve, one, backend, tmp_path):
    """It has accepted nobody, and the old settings and processes stay; who of them dies is replaced."""
    program, config = tmp_path / "tlsfd", tmp_path / "config"
    shutil.copy(BIN, program)

    def write(behind):
        config.write_text("listen 127.0.0.1:0\nworkers 2\nforward %s\ncert %s\nkey %s\n" %
                          (backend(saying(behind)).target, one[1], one[3]))

    def served(text, times=6):
        for _ in range(times):
            with server.connect() as connection:
                assert answer(connection) == text

    write(b"old")
    server = serve("--config", str(config), listen=None, binary=program)
    served(b"old")
    old = set(server.workers())
    program.chmod(0o600)  # a data process starts from it
    write(b"new")
    server.signal(signal.SIGHUP)
    line = server.line(event="reload")
    assert line["error"] == "data process: start from the program's file: Permission denied; the old settings stay"
    wait_for(lambda: set(server.workers()) == old)
    served(b"old")
    killed = server.workers("handshake")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(set(server.workers("handshake")) - set(killed)) == 2)
    served(b"old")
    program.chmod(0o700)
    server.signal(signal.SIGHUP)
    assert "error" not in server.line(2, event="reload")
    served(b"new")


def test_a_storm_of_reloads(serve, one, backend):
    """There are never more than the processes that serve, those that are to and those that end."""
    server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one)
    most = 0
    for _ in range(100):
        server.signal(signal.SIGHUP)
        time.sleep(0.002)
        most = max(most, len(server.workers()))
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    wait_for(lambda: len(server.workers()) == 4 and server.matching(event="reload"))
    assert most < 30


# ---- what they leave to those who replace them ----

def sockets(pid):
    """All that a process has; the caller closes them."""
    for fd, name in files_of(pid).items():
        with contextlib.suppress(OSError):  # a connection may end meanwhile
            if not name.startswith("socket:"):
                continue
            number = get_fd(pid, fd)
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            found = socket.socket(fileno=number)  # which may make it block
            fcntl.fcntl(number, fcntl.F_SETFL, flags)
            yield found


def channel(pid):
    found, = [each for each in sockets(pid) if each.family == socket.AF_UNIX]
    return found


def listening(pid):
    found, = [each for each in sockets(pid) if each.family != socket.AF_UNIX
              and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
    return found


def replace(server, role, pid):
    os.kill(pid, signal.SIGKILL)
    server.line(event="worker", role=role, pid=str(pid))
    wait_for(lambda: [new for new in server.workers(role) if new != pid])


@needs_root
@needs_kernel
@pytest.mark.parametrize("role", ["handshake", "data"])
def test_a_channel_that_blocks(serve, one, backend, role):
    server = serve("--workers", "1", "--grace", "20", "--forward", backend(saying(b"hello")).target, *one)
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
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert [line["how"] for line in server.matching(event="stopping")] == ["grace"]  # and not killed


def linger(port):
    port.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def shrink(port):
    port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def cork(port):
    port.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


def forsake(port):
    port.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)


def hurry(port):
    port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def inherited(pid):
    """What matters of what connections inherit from a socket that listens."""
    found, = [each for each in sockets(pid) if each.family != socket.AF_UNIX
              and not each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
    with found:
        return (found.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8),
                found.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK), found.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK),
                found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


SO_BUF_LOCK = 72  # linux/asm-generic/socket.h
USUAL = (bytes(8), 0, 0, 1, 0)


@needs_root
@pytest.mark.parametrize("spoil, lives", [(linger, True), (shrink, True), (cork, True), (linger, False), (shrink, False),
                                          (cork, False), (forsake, False), (hurry, False)])
def test_a_port_with_options(serve, one, backend, spoil, lives):
    """Those that do harm also while the one that set them lives."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    pid, = server.workers("handshake")
    with listening(pid) as port:
        room = port.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        spoil(port)
        if not lives:
            replace(server, "handshake", pid)
            assert port.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == room
    with socket.create_connection(("127.0.0.1", server.port)):  # its handshake waits
        wait_for(lambda: len(list(sockets(server.workers("handshake")[0]))) == 3)
        wait_for(lambda: inherited(server.workers("handshake")[0]) == USUAL)


@needs_root
def test_a_port_that_blocks(serve, one, backend):
    """An old process that lives on can do that at any time: who waits for nobody waits for a moment."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    got = []
    with listening(server.workers("handshake")[0]) as port:
        os.set_blocking(port.fileno(), True)

        def accept():
            got.append((ctypes.CDLL(None, use_errno=True).accept4(port.fileno(), None, None, 0), ctypes.get_errno()))

        threading.Thread(target=accept, daemon=True).start()
        wait_for(lambda: got == [(-1, errno.EAGAIN)])


@needs_root
def test_a_port_that_is_lost(serve, one, backend):
    """By an old process, when the new one serves already."""
    target = backend(saying(b"hello")).target
    server = serve("--workers", "1", "--forward", target, *one, "--handshake-timeout", "60")
    old, = server.workers("handshake")
    with listening(old) as port, socket.create_connection(("127.0.0.1", server.port)):  # for which it goes on
        wait_for(lambda: len(list(sockets(old))) == 3)
        server.signal(signal.SIGHUP)
        server.line(event="reload")
        port.shutdown(socket.SHUT_RD)
        port.setblocking(True)
        port.connect(("127.0.0.1", int(target.rpartition(":")[2])))
        assert old in server.workers("handshake")
        os.kill(old, signal.SIGKILL)
        server.line(event="worker", pid=str(old))
        server.line(2, event="listening")
        for _ in range(10):
            with server.connect() as connection:
                assert answer(connection) == b"hello"


def lowest_unused(pid):
    used = files_of(pid)
    return next(fd for fd in range(1024) if fd not in used)


@needs_root
def test_a_port_that_waits_for_files(serve, one, backend):
    """There is one for the port, but not two for a channel to those that are to serve it."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    master = server.process.pid
    pid, = server.workers("handshake")
    usual = resource.prlimit(master, resource.RLIMIT_NOFILE)
    with listening(pid) as port:
        resource.prlimit(master, resource.RLIMIT_NOFILE, (lowest_unused(master) + 1, usual[1]))
        port.shutdown(socket.SHUT_RD)
        os.kill(pid, signal.SIGKILL)
        server.line(event="worker", error="start processes: Too many open files")
        resource.prlimit(master, resource.RLIMIT_NOFILE, usual)
        server.line(2, event="listening")
    with server.connect() as connection:
        assert answer(connection) == b"hello"


@needs_root
def test_metrics_that_wait_for_files(serve, one, backend):
    """Each try says why, and the last one succeeds."""
    server = serve("--workers", "1", "--forward", backend().target, *one, "--metrics", "127.0.0.1:0")
    master = server.process.pid
    usual = resource.prlimit(master, resource.RLIMIT_NOFILE)
    wait_for(lambda: server.workers("metrics"))
    pid, = server.workers("metrics")
    resource.prlimit(master, resource.RLIMIT_NOFILE, (lowest_unused(master), usual[1]))
    os.kill(pid, signal.SIGKILL)
    assert "from the program's file: Too many open files; the limit" in server.line(2, event="metrics")["error"]
    resource.prlimit(master, resource.RLIMIT_NOFILE, usual)
    wait_for(lambda: server.workers("metrics"))


@needs_root
def test_the_port_of_the_metrics(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend().target, *one, "--metrics", "127.0.0.1:0")
    address, _, number = server.line(event="metrics")["addr"].rpartition(":")

    def answers():
        with contextlib.suppress(OSError), socket.create_connection((address, int(number)), timeout=LIMIT) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return client.recv(12) == b"HTTP/1.1 200"
        return False

    assert answers()
    pid, = server.workers("metrics")
    with listening(pid) as port:
        port.shutdown(socket.SHUT_RD)
    os.kill(pid, signal.SIGKILL)
    server.line(event="worker", role="metrics")
    wait_for(answers)


@needs_root
def test_a_log_that_blocks(serve, one, backend):
    """The master and the next ones write to the same pipe, but not by the same file."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    for role in "handshake", "data":
        os.set_blocking(get_fd(server.workers(role)[0], 2), True)
    assert not os.get_blocking(get_fd(server.process.pid, 2))
