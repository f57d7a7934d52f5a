# SPDX-License-Identifier: MIT
"""tlsfd serve: services that are busy, silent or gone.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import os
import resource
import socket
import ssl
import struct
import threading
import time

import pytest

from test_roles import sockets
from serving import CUT, LIMIT, answer, expected_place, saying, unused_port, wait_for

CONNECT = 5  # seconds: to connect to a backend, and until one that was down is tried again


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def in_pairs(option, values):
    return [word for value in values for word in (option, value)]


# ---- a Unix socket whose queue is full ----

@contextlib.contextmanager
def full_socket(path):
    """A service that accepts nothing, and its target. connect(2) says EAGAIN there."""
    with socket.socket(socket.AF_UNIX) as service, contextlib.ExitStack() as queue:
        service.bind(str(path))
        service.listen(0)
        service.settimeout(LIMIT)
        with pytest.raises(BlockingIOError):
            while True:
                client = queue.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        yield service, "unix:" + str(path)


def accept(service, text):
    with service.accept()[0] as connection:
        connection.sendall(text)


def test_a_busy_backend_is_tried_again(serve, one, tmp_path):
    with full_socket(tmp_path / "full") as (service, target):
        server = serve("--workers", "1", "--forward", target, *one)
        with server.connect() as connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):  # neither refused nor served
                connection.recv(1)
            accept(service, b"of who was there before")
            connection.settimeout(LIMIT)
            accept(service, b"at last")
            assert answer(connection) == b"at last"
        assert not server.matching(event="backend")


def test_a_busy_backend_is_given_up(serve, one, tmp_path):
    with full_socket(tmp_path / "full") as (_, target):
        server = serve("--workers", "1", "--forward", target, *one)
        with server.connect() as connection, pytest.raises(CUT):
            connection.recv(1)
        line = server.line(event="connection", end="backend")
        assert CONNECT * 900 < int(line["ms"]) < CONNECT * 2000
        assert line["error"] == "Connection timed out"
        assert not server.matching(event="backend")


def test_others_are_asked_when_one_is_busy(serve, one, backend, tmp_path):
    with full_socket(tmp_path / "full") as (_, target):
        server = serve("--workers", "1", *one, *in_pairs("--forward", [target, backend(saying(b"free")).target]))
        for _ in range(4):
            with server.connect() as connection:
                assert answer(connection) == b"free"
        assert not server.matching(event="backend")


# ---- what is short here is not the backend's fault ----

def takes_its_time(server, connection):
    connection.settimeout(0.5)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(LIMIT)
    assert not server.matching(event="backend")


def test_no_file_descriptor_for_a_backend(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    server.line(event="connection")
    mover = server.workers("data" if expected_place() == "kernel" else "handshake")[0]
    own = 1 if expected_place() == "kernel" else 2  # the channel; the port
    wait_for(lambda: len(sockets(mover)) == own)
    used = [int(fd) for fd in os.listdir("/proc/%d/fd" % mover)]
    before = resource.prlimit(mover, resource.RLIMIT_NOFILE)
    free = min(set(range(max(used) + 2)) - set(used))
    resource.prlimit(mover, resource.RLIMIT_NOFILE, (free + 1, before[1]))  # it is the client's
    with server.connect() as connection:
        takes_its_time(server, connection)
        resource.prlimit(mover, resource.RLIMIT_NOFILE, before)
        assert answer(connection) == b"hello"


@pytest.fixture
def one_port():
    """The kernel may choose this one only."""
    path = "/proc/sys/net/ipv4/ip_local_port_range"
    with open(path, encoding="ascii") as file:
        before = file.read()
    port = unused_port()
    with open(path, "w", encoding="ascii") as file:
        file.write("%d %d" % (port, port))
    yield port
    with open(path, "w", encoding="ascii") as file:
        file.write(before)


@pytest.mark.skipif(not os.path.exists("/run/lab"), reason="takes all ports of the machine: in the lab's guest only")
def test_no_port_for_a_backend(serve, one, backend, request):
    behind = backend(saying(b"hello"))
    server = serve("--workers", "1", "--forward", behind.target, *one)
    own = unused_port()
    port = request.getfixturevalue("one_port")
    to = ("127.0.0.1", int(behind.target.split(":")[1]))
    with socket.create_connection(to, source_address=("127.0.0.1", port)) as held, \
            socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.1", own)) as raw:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
        with unverified().wrap_socket(raw) as connection:
            takes_its_time(server, connection)
            held.close()
            assert answer(connection) == b"hello"


# ---- one that swallows SYNs ----

@contextlib.contextmanager
def black_hole():
    """Its target: the queue is full, so further SYNs are dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, contextlib.ExitStack() as queue:
        for _ in range(4):
            client = queue.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(hole.getsockname())
        yield "127.0.0.1:%d" % hole.getsockname()[1]


def seconds_of_an_answer(server):
    began = time.monotonic()
    with server.connect() as connection:
        assert answer(connection) == b"good"
    return time.monotonic() - began


def test_a_backend_comes_back_while_one_tries_it(serve, one):
    """The last hope of those that come meanwhile."""
    port = unused_port()
    with contextlib.ExitStack() as stack:
        server = serve("--workers", "1", *one, "--forward", "127.0.0.1:%d" % port)
        with server.connect() as connection, contextlib.suppress(*CUT):
            connection.recv(1)
        server.line(event="backend", state="down")
        time.sleep(CONNECT + 0.2)
        hole = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(hole.getsockname())
        stack.enter_context(server.connect())  # its SYN is dropped
        time.sleep(0.3)
        hole.listen(100)
        hole.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while True:
                hole.accept()[0].close()
        hole.settimeout(LIMIT)
        for _ in range(4):
            connection = stack.enter_context(server.connect())
            behind = stack.enter_context(hole.accept()[0])
            behind.sendall(b"hello")
            assert connection.recv(5) == b"hello"


def test_one_at_a_time_tries_a_silent_backend(serve, one, backend):
    with black_hole() as hole:
        server = serve("--workers", "1", *one, *in_pairs("--forward", [hole, backend(saying(b"good")).target]))
        assert seconds_of_an_answer(server) > CONNECT * 0.9
        server.line(event="backend", state="down")
        down = time.monotonic()
        took, threads = [], []
        while time.monotonic() < down + CONNECT + 1.5:  # it is tried again meanwhile
            threads.append(threading.Thread(target=lambda: took.append(seconds_of_an_answer(server))))
            threads[-1].start()
            time.sleep(0.25)
        for thread in threads:
            thread.join()
        wait_for(lambda: len(took) == len(threads))
        assert len([seconds for seconds in took if seconds > CONNECT * 0.9]) == 1
