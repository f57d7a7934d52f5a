# SPDX-License-Identifier: MIT
"""tlsfd serve at its limits.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import os
import signal
import socket
import ssl
import threading
import time

import pytest

from serving import LIMIT, answer, expected_place, saying, wait_for

OLDEST = "too many connections at once, this was the oldest handshake"


# ---- connections ----

def test_silence_does_not_fill_the_limit(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one, "--max-connections", "10",
                   "--handshake-timeout", "60")
    with contextlib.ExitStack() as silent:
        for _ in range(30):
            silent.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        began = time.monotonic()
        with server.connect() as connection:
            assert answer(connection) == b"hello"
        assert time.monotonic() - began < LIMIT / 2
        server.line(21, event="connection", end="handshake", error=OLDEST)
        for _ in range(10):
            with server.connect() as connection:
                assert answer(connection) == b"hello"


FAIR = 0.5  # seconds that a handshake has, whoever waits for its place (cmd/serve/handshaker.c)


def test_a_handshake_has_its_time(serve, one, backend):
    """It is not pushed out at once: who comes later waits for a moment."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one, "--max-connections", "1")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def is_pushed_out():
        """The first of two; None: it took too long itself."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as first, \
                socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as second:
            time.sleep(0.1)
            try:
                with context.wrap_socket(first) as connection:
                    assert answer(connection) == b"hello"
            except OSError:
                return True if time.monotonic() - began < FAIR else None
            with context.wrap_socket(second) as connection:
                assert answer(connection) == b"hello"
        return False

    limit = time.monotonic() + LIMIT
    while (pushed_out := is_pushed_out()) is None and time.monotonic() < limit:
        pass
    assert pushed_out is False


def clients(server):
    """A list of the connections that are served, and a function that begins some more."""
    served = []

    def client():
        with contextlib.suppress(OSError):  # the server ends at last
            connection = server.connect()
            connection.sendall(b"x")
            if connection.recv(1):
                served.append(connection)

    def want_in(count):
        for _ in range(count):
            threading.Thread(target=client, daemon=True).start()

    return served, want_in


@pytest.mark.parametrize("workers, most", [(1, 4), (2, 5)])
def test_the_limit_holds_over_reloads(serve, one, backend, workers, most):
    server = serve("--workers", str(workers), "--forward", backend().target, *one, "--max-connections", str(most))
    served, want_in = clients(server)
    many = 40  # of 15 in 250 runs once less than its share of the limit came to one of the two workers

    def are_served(count):
        wait_for(lambda: len(served) >= count)
        time.sleep(0.5)  # in which more of them could be
        assert len(served) == count

    for _ in range(10):  # those of before the first word of a data process are not all counted
        with server.connect() as connection:
            connection.unwrap()
    server.line(10, event="connection")
    want_in(many)
    are_served(most)
    for generation in range(2, 4):
        server.signal(signal.SIGHUP)
        server.line(event="reload", generation=str(generation))
        want_in(many)
        are_served(most)
    served[0].close()  # nobody is told of it, so the workers have to look
    are_served(most + 1)


@pytest.mark.skipif(expected_place() != "kernel", reason="needs kernel TLS: connections outlive who accepted them")
def test_the_limit_holds_for_who_replaces_another(serve, one, backend):
    """The data process has connections that the new one has not brought."""
    server = serve("--workers", "1", "--forward", backend().target, *one, "--max-connections", "4")
    served, want_in = clients(server)

    want_in(4)
    wait_for(lambda: len(served) == 4)
    before = server.workers("handshake")
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: set(server.workers("handshake")) - set(before))
    want_in(10)
    time.sleep(0.5)
    assert len(served) == 4
    served[0].close()
    wait_for(lambda: len(served) == 5)
    time.sleep(0.5)
    assert len(served) == 5


# ---- the system's limits ----

@pytest.mark.skipif(not os.path.exists("/run/lab"), reason="is for all programs: in the lab's guest only")
def test_no_room_in_epoll(serve, one, backend):
    """Who has connected has a line, whatever is short."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    path = "/proc/sys/fs/epoll/max_user_watches"
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    with open(path, encoding="ascii") as file:
        before = file.read()
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("1")
        with pytest.raises(OSError):
            server.connect()
        assert server.line(event="connection", end="error")["error"] == "No space left on device"
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write(before)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
