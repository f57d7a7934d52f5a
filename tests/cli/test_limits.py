# SPDX-License-Identifier: MIT
"""tlsfd serve at its limits.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import socket
import ssl
import time

from serving import LIMIT, answer, saying

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


def test_a_handshake_has_its_time(serve, one, backend):
    """It is not pushed out at once: who comes later waits for a moment."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one, "--max-connections", "1")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.port)) as first, \
            socket.create_connection(("127.0.0.1", server.port)) as second:
        time.sleep(0.1)
        for raw in (first, second):
            raw.settimeout(LIMIT)
            with context.wrap_socket(raw) as connection:
                assert answer(connection) == b"hello"
