# SPDX-License-Identifier: MIT
"""Surroundings and peers that mean ill, or are just odd.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys

import pytest

from connecting import PLACE, Server, digest, tls
from serving import BIN, LIMIT, Backend, answer, files_of, is_stopped, role_of, saying, unused_port, wait_for


LONELY = 61234  # a user who has no processes


# ---- the surroundings ----

def standard_fds(pid):
    return [os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in range(3)]


def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, check=False, text=True).stdout
    return [int(word) for word in found.split()]


def fetch(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as raw:
            with context.wrap_socket(raw) as connection:
                return answer(connection)
    except ConnectionRefusedError:
        return None


def test_standard_files_are_closed(one, backend):
    """The log must not go to a socket that has the number of stderr."""
    port = unused_port()
    command = [BIN, "serve", "--listen", "127.0.0.1:%d" % port, "--forward", backend(saying(b"hello")).target,
               "--workers", "3", *one]
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]) as server:
        try:
            wait_for(lambda: server.poll() is not None or fetch(port) == b"hello")
            assert server.poll() is None
            for pid in [server.pid, *children(server.pid)]:
                assert standard_fds(pid) == ["/dev/null"] * 3
        finally:
            server.send_signal(signal.SIGTERM)
            server.send_signal(signal.SIGTERM)


def test_nobody_waits_for_who_ends(serve, one, backend):  # noqa: F811
    """Who comes while the last connections end is told at once that nobody is there."""
    server = serve("--forward", backend().target, "--workers", "2", *one)

    def is_refused():
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT).close()
            return False
        except ConnectionRefusedError:
            return True

    with server.connect() as connection:
        server.signal(signal.SIGTERM)
        wait_for(is_refused)
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look at other processes")
def test_files_of_the_parent(serve, one, backend, tmp_path):  # noqa: F811
    """What it has left open can be named, but is nothing for confined processes."""
    name, key = one[1], open(one[3], "rb")  # pylint: disable=consider-using-with
    folder = os.open(tmp_path, os.O_RDONLY)
    with key:
        server = serve("--forward", backend(saying(b"hello")).target, "--workers", "1", "--metrics", "127.0.0.1:0",
                       "--cert", name, "--key", "/proc/self/fd/%d" % key.fileno(), pass_fds=(key.fileno(), folder))
    os.close(folder)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    wait_for(lambda: len(server.workers("data")) == 1)
    for pid in server.children():
        assert not {one[3], str(tmp_path)} & set(files_of(pid).values())


def test_no_file_may_be_written():
    """Memory that is shared is a file, too: a line, not a signal."""
    done = subprocess.run([BIN, "serve", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9", "--self-signed"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert done.returncode == 7 and "File too large" in done.stderr, done


SIGNALS = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE}


def ignore_signals():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@pytest.mark.parametrize("inherit", [ignore_signals, block_signals])
def test_signals_of_the_parent(serve, one, backend, inherit):  # noqa: F811
    """What it ignores or blocks is inherited."""
    server = serve("--forward", backend(saying(b"hello")).target, "--workers", "1", "--metrics", "127.0.0.1:0", *one,
                   preexec_fn=inherit)
    killed = server.workers("handshake")[0]
    os.kill(killed, signal.SIGKILL)
    server.line(event="worker", pid=str(killed))
    server.signal(signal.SIGHUP)
    server.line(event="reload", generation="2")
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.parametrize("inherit", [ignore_signals, block_signals])
def test_signals_of_the_parent_of_connect(serve, certs, inherit):  # noqa: F811
    peer = Server(tls(certs, lambda peer: peer.sendall(b"hello")))
    client = serve("--insecure-no-verify", "localhost:%d" % peer.port, verb="connect", preexec_fn=inherit)
    with socket.create_connection(("127.0.0.1", client.port), timeout=LIMIT) as plain:
        assert plain.recv(100) == b"hello"
    peer.finish()
    client.signal(signal.SIGHUP)
    client.line(event="reloaded")
    client.signal(signal.SIGTERM)
    assert client.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("options, status", [([], None), (["--group", "daemon"], 4)])
def test_user_who_is_that_user(backend, options, status):
    """Has nothing to become, and can't."""
    port = unused_port()
    command = [BIN, "serve", "--listen", "127.0.0.1:%d" % port, "--forward", backend(saying(b"hello")).target,
               "--workers", "1", "--self-signed", "--user", "nobody", *options]
    with subprocess.Popen(command, user=65534, group=65534, extra_groups=[], stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: server.poll() is not None or fetch(port) == b"hello")
            assert server.poll() == status
            for pid in [server.pid, *children(server.pid)] if status is None else []:
                assert standard_fds(pid)[0] == "/dev/null"
        finally:
            server.send_signal(signal.SIGTERM)


def test_reload_without_file_descriptors(serve, one, backend):  # noqa: F811
    """The processes that are there go on."""
    server = serve("--forward", backend(saying(b"hello")).target, "--workers", "4", *one)
    pid = server.process.pid
    old = set(server.workers())
    most = len(os.listdir("/proc/%d/fd" % pid)) + 6  # enough to read the settings, not for a channel for each
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    server.signal(signal.SIGHUP)
    assert "the old settings stay" in server.line(event="reload")["error"]
    wait_for(lambda: set(server.workers()) == old)
    for _ in range(20):
        with server.connect() as connection:
            assert answer(connection) == b"hello"


EXEC = "import os, sys; os.execve(os.open(sys.argv[1], os.O_RDONLY), sys.argv[1:], os.environ)"


def without_proc(target, *start):
    port = unused_port()
    command = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *start, "serve", "--listen",
               "127.0.0.1:%d" % port, "--forward", target, "--self-signed", "--workers", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True), port


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be without /proc")
def test_without_proc(backend):
    """As in a root that was made for one service."""
    server, port = without_proc(backend(saying(b"hello")).target, BIN)
    with server:
        try:
            wait_for(lambda: server.poll() is not None or fetch(port) == b"hello")
            assert sorted(role_of(pid) for pid in children(server.pid)) == ["data", "handshake"]
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be without /proc")
def test_without_proc_and_name(backend):
    """A program that can't be started again doesn't start."""
    server, _ = without_proc(backend().target, sys.executable, "-c", EXEC, BIN)
    with server:
        text = server.communicate(timeout=LIMIT)[1]
    assert server.returncode == 7 and "/proc/self/exe" in text, text


def limit_processes(server, most):
    subprocess.run(["prlimit", "--nproc=%s:" % most, "--pid", str(server.process.pid)], check=True, user=LONELY,
                   group=LONELY, extra_groups=[])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without other processes")
@pytest.mark.parametrize("more", [0, 1, 2, 3])
def test_reload_without_processes(serve, backend, more):  # noqa: F811
    """A limit of tasks: the processes that are there go on, and those that were begun end."""
    server = serve("--forward", backend(saying(b"hello")).target, "--workers", "2", "--self-signed", user=LONELY,
                   group=LONELY, extra_groups=[])
    old = set(server.workers())
    limit_processes(server, 1 + len(old) + more)
    server.signal(signal.SIGHUP)
    assert "the old settings stay" in server.line(event="reload")["error"]
    wait_for(lambda: set(server.workers()) == old)
    for _ in range(10):
        with server.connect() as connection:
            assert answer(connection) == b"hello"
    limit_processes(server, 100)
    server.signal(signal.SIGHUP)
    assert server.line(2, event="reload")["generation"] == "2"
    wait_for(lambda: len(server.workers()) == 4 and not old & set(server.workers()))
    with server.connect() as connection:
        assert answer(connection) == b"hello"


@pytest.mark.parametrize("host", ["d", "db"])
def test_short_names(host):
    """That there is none such is found out by asking."""
    done = subprocess.run([BIN, "connect", "--timeout", "10", host + ":1"], stdin=subprocess.DEVNULL, check=False,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert "HOST:PORT" not in done.stderr
    assert done.returncode in (8, 9)


@pytest.fixture
def no_large_pipes():
    """For users, that is: each of theirs has two pages (fs/pipe.c)."""
    path = "/proc/sys/fs/pipe-user-pages-soft"
    with open(path, encoding="ascii") as file:
        before = file.read()
    with open(path, "w", encoding="ascii") as file:
        file.write("1")
    yield
    with open(path, "w", encoding="ascii") as file:
        file.write(before)


def pipes_of(pid):
    return {name for name in files_of(pid).values() if name.startswith("pipe:")}


@pytest.mark.skipif(os.geteuid() != 0 or PLACE != "kernel", reason="needs root and kernel TLS")
def test_a_pipe_without_room_for_a_record(no_large_pipes, certs):  # noqa: F811
    """Kernels before 7.1 drop what of a record doesn't fit: it is not used."""
    data = os.urandom(1 << 20)

    def talk(peer):
        peer.sendall(data[:-1])
        peer.recv(1)
        peer.sendall(data[-1:])
        peer.unwrap()

    server = Server(tls(certs, talk))
    with subprocess.Popen([BIN, "connect", "--insecure-no-verify", "localhost:%d" % server.port], user=65534, group=65534,
                          extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        got = client.stdout.read(len(data) - 1)
        assert len(pipes_of(client.pid)) == 2
        client.stdin.write(b"x")
        client.stdin.close()
        assert digest(got + client.stdout.read()) == digest(data)
    server.finish()


# ---- servers ----

def test_endless_handshake():
    """OpenSSL skips HelloRequests and, as long as more are there, comes back to nobody who looks at the time."""
    requests = b"\x16\x03\x03\x40\x00" + bytes(16384)
    said = []

    def flood(connection):
        connection.recv(4096)
        while True:
            said.append(connection.send(requests * 64))

    server = Backend(flood)
    done = subprocess.run([BIN, "connect", "--insecure-no-verify", "--max-version", "1.2", "--timeout", "30",
                           server.target], stdin=subprocess.DEVNULL, check=False, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT)
    server.close()
    assert (done.returncode, "handshake has no end" in done.stderr) == (10, True), done.stderr
    assert sum(said) < 64 << 20


# ---- who leaves at once ----

def handshake_but_finished(raw, context):
    """The client's last flight of TLS 1.3, not yet sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="one.example")
    while True:
        try:
            connection.do_handshake()
            return outgoing.read()
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65536))


@pytest.mark.parametrize("resets", [True, False])
def test_gone_before_the_tickets(serve, one, backend, resets):
    """The server can't write them, and no repeating helps: the log doesn't say "record-written"."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    wait_for(lambda: server.workers("handshake"))
    pid = server.workers("handshake")[0]
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as raw:
        finished = handshake_but_finished(raw, context)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: is_stopped(pid))
        raw.sendall(finished)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", resets, 0))
    os.kill(pid, signal.SIGCONT)
    line = server.line(event="connection")
    gone = ("user", "user", "not-established" if PLACE == "kernel" else "no-tls")
    assert (line["tx"], line["rx"], line["why"]) in ([gone] if resets else [gone, ("kernel", "kernel", "")])
    assert line["end"] in ("truncated", "reset")
