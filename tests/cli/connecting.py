# SPDX-License-Identifier: MIT
"""What the tests of tlsfd connect stand on: servers in threads, the command, what it said.

TLSFD_BIN         the command (default: build/tlsfd)
TLSFD_EXPECT_TLS  0: the kernel has no TLS
"""
import hashlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
from peers import LIMIT, Certificates, Program, exchange, listening_port, missing, need, started  # noqa: E402,F401

BIN = os.path.abspath(os.environ.get("TLSFD_BIN", "build/tlsfd"))
PLACE = "user" if os.environ.get("TLSFD_EXPECT_TLS") == "0" else "kernel"
BIG = 5_000_000
OK, USAGE, BROKEN, CONFIG, KERNEL, UNREACHABLE, TIMEOUT, HANDSHAKE, UNVERIFIED, CUT, STDIN = (
    0, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13)
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
each_version = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])



# ---- servers ----

def wrap(plain, certs, prepare=lambda context: None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(certs.server, certs.server_key)
    prepare(context)
    return context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)


class Server:
    """Serves one TCP connection in a thread: talk(socket)."""

    def __init__(self, talk, family=socket.AF_INET, address="127.0.0.1", port=0):
        self.error = self.result = None
        self.listener = socket.create_server((address, port), family=family)
        self.listener.settimeout(LIMIT)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, args=(talk,), daemon=True)
        self.thread.start()

    def _serve(self, talk):
        try:
            plain, _ = self.listener.accept()
            plain.settimeout(LIMIT)
            with plain:
                self.result = talk(plain)
        except BaseException as error:  # pylint: disable=broad-except # pytest.fail, too
            self.error = error

    def finish(self):
        self.thread.join(LIMIT)
        self.listener.close()
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        return self.result


def tls(certs, talk, prepare=lambda context: None):
    """What a Server does: the handshake, then talk(peer)."""
    def serve(plain):
        with wrap(plain, certs, prepare) as peer:
            return talk(peer)
    return serve


def only(version):
    def prepare(context):
        context.minimum_version = context.maximum_version = version
    return prepare


def say_goodbye(peer):
    peer.unwrap()


def receive_all(peer):
    got = exchange(peer)
    peer.unwrap()
    return got


def echo_all(peer):
    got = exchange(peer)
    peer.sendall(got)
    peer.unwrap()
    return got


def connect(port, *options, host="localhost", stdin=b"", **where):
    return subprocess.run([BIN, "connect", *options, f"{host}:{port}"], input=stdin, check=False,
                          capture_output=True, timeout=LIMIT, **where)


def one_line(done, status, *words):
    """How it failed: the status, and one line on stderr that has the words."""
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert text.startswith("tlsfd connect: ") and text.count("\n") == 1, text
    for word in words:
        assert word in text


def said(done):
    """The two lines of -v as a dict; both directions where they should be."""
    text = (bytes(done.err) if isinstance(done, Program) else done.stderr).decode()
    values = dict(re.findall(r'(\S+?)=("(?:[^"\\]|\\.)*"|\S*)', text))
    assert (values["tx"], values["rx"]) == (PLACE, PLACE), text
    return values


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


def refused(plain, certs, prepare=lambda context: None):
    """Nothing may come after a handshake that the client did not accept."""
    try:
        with wrap(plain, certs, prepare) as peer:
            return peer.recv(100)
    except (ssl.SSLError, OSError):
        return b""


def demand(certs):
    def prepare(context):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs.root)
    return prepare
