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
        assert CONNECT * 900 < int(line["ms"]) < LIMIT * 1000
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
def two_ports():
    """The kernel may choose the first one only; nobody has the other."""
    path = "/proc/sys/net/ipv4/ip_local_port_range"
    with open(path, encoding="ascii") as file:
        before = file.read()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [listener.getsockname()[1] for listener in (one, two)]
    with open(path, "w", encoding="ascii") as file:
        file.write("%d %d" % (ports[0], ports[0]))
    yield ports
    with open(path, "w", encoding="ascii") as file:
        file.write(before)


@pytest.mark.skipif(not os.path.exists("/run/lab"), reason="takes all ports of the machine: in the lab's guest only")
def test_no_port_for_a_backend(serve, one, backend, request):
    behind = backend(saying(b"hello"))
    server = serve("--workers", "1", "--forward", behind.target, *one)
    port, own = request.getfixturevalue("two_ports")
    to = ("127.0.0.1", int(behind.target.split(":")[1]))
    with socket.create_connection(to, source_address=("127.0.0.1", port)) as held, \
            socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.1", own)) as raw:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
        with unverified().wrap_socket(raw) as connection:
            takes_its_time(server, connection)
            held.close()
            assert answer(connection) == b"hello"


# ---- one that swallows SYNs ----

class Hole:
    """A listener whose queue is full: further SYNs are dropped."""

    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=0)
        self.port = self.listener.getsockname()[1]
        self.queue = [socket.socket() for _ in range(4)]
        for client in self.queue:
            client.setblocking(False)
            client.connect_ex(self.listener.getsockname())
        self.own = {self._address(client.getsockname()[1]) for client in self.queue}

    @staticmethod
    def _address(port):
        return "0100007F:%04X" % port

    def syns(self):
        """How many of others' have no answer: SYN_SENT is state 2 (include/net/tcp_states.h)."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split()[1:4] for line in table.readlines()[1:]]
        return sum(to == self._address(self.port) and state == "02" and own not in self.own for own, to, state in rows)

    def greet_all(self):
        """From now on it answers."""
        self._leave()
        self.listener.listen(100)
        threading.Thread(target=self._greet, daemon=True).start()

    def _greet(self):
        with contextlib.suppress(OSError):
            while True:
                with self.listener.accept()[0] as connection, contextlib.suppress(OSError):  # of the queue: it has gone
                    connection.sendall(b"hello")

    def _leave(self):
        for client in self.queue:
            client.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._leave()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_a_backend_comes_back_while_one_tries_it(serve, one):
    """The last hope of those that come meanwhile."""
    port = unused_port()
    server = serve("--workers", "1", *one, "--forward", "127.0.0.1:%d" % port)
    with server.connect() as connection, contextlib.suppress(*CUT):
        connection.recv(1)
    server.line(event="backend", state="down")
    time.sleep(CONNECT + 0.2)
    with Hole(port) as hole, server.connect():
        wait_for(lambda: hole.syns() == 1)
        hole.greet_all()
        for _ in range(4):
            with server.connect() as connection:
                assert answer(connection) == b"hello"


def test_one_at_a_time_tries_a_silent_backend(serve, one, backend):
    """It is tried again when CONNECT is over, by one of those that come then; the others don't wait."""
    good, clients, tries = [], [], []

    def ask():
        with server.connect() as connection:
            good.append(answer(connection) == b"good")

    with Hole() as hole:
        targets = ["127.0.0.1:%d" % hole.port, backend(saying(b"good")).target]
        server = serve("--workers", "1", *one, *in_pairs("--forward", targets))
        began = time.monotonic()
        ask()
        assert time.monotonic() - began > CONNECT * 0.9
        server.line(event="backend", state="down")
        while sum(tries) < 6:
            assert time.monotonic() - began < LIMIT, tries
            clients.append(threading.Thread(target=ask))
            clients[-1].start()
            time.sleep(0.25)
            tries.append(hole.syns())
        for client in clients:
            client.join(LIMIT)
    assert set(tries) == {0, 1}, tries
    assert len(good) == 1 + len(clients) and all(good)
