# SPDX-License-Identifier: MIT
"""A reload whose processes can't begin: all that it had begun to change is as it was."""
import os
import signal
import socket
import time

import pytest

from serving import answer, saying, wait_for
from test_misbehaving import listening
from test_roles import needs_root
from test_tickets import Client, key_name

WHY = "data process: killed by signal 9; the old settings stay"


class Held:
    """A server whose next data processes don't begin: they open OpenSSL's settings, a FIFO."""

    def __init__(self, serve, backend, one, folder, *options, workers=1):
        self.workers = workers
        self.lines = ["listen 127.0.0.1:0", "forward " + backend(saying(b"hello")).target, "workers %d" % workers,
                      "cert " + one[1], "key " + one[3]]
        self.config, self.openssl, self.folder = folder / "config", folder / "openssl.cnf", folder
        self.openssl.touch()
        self.write(*options)
        self.server = serve("--config", str(self.config), listen=None,
                            env={**os.environ, "OPENSSL_CONF": str(self.openssl)})

    def write(self, *options):
        self.config.write_text("\n".join([*self.lines, *options, ""]))

    def reload(self, *options):
        """Until the next processes are there: the one before that is the first, and one that doesn't begin."""
        self.openssl.unlink()
        os.mkfifo(self.openssl)
        self.write(*options)
        old = self.server.workers("data")
        self.server.signal(signal.SIGHUP)
        both = 2 * self.workers
        wait_for(lambda: len(self.server.workers("data")) == len(self.server.workers("handshake")) == both)
        return old[0], next(pid for pid in self.server.workers("data") if pid not in old)

    def fail(self, pid):
        """The next ones can begin again."""
        (self.folder / "file").touch()
        os.replace(self.folder / "file", self.openssl)
        os.kill(pid, signal.SIGKILL)
        assert self.server.line(event="reload")["error"] == WHY


def replace_handshake(server, pid):
    """Another one is there."""
    count = len(server.workers("handshake"))
    os.kill(pid, signal.SIGKILL)
    server.line(event="worker", role="handshake", pid=str(pid))
    wait_for(lambda: len(server.workers("handshake")) == count)


@pytest.fixture
def held(serve, backend, one, tmp_path):
    return lambda *options, **how: Held(serve, backend, one, tmp_path, *options, **how)


def test_keys_of_tickets(held):
    """Who replaces one of the old, meanwhile and later, turns them when the others of them do."""
    scene = held("ticket-renewal 8", workers=3)
    server, client = scene.server, Client()
    name = key_name(server.port)
    first, second, _ = server.workers("handshake")
    _, late = scene.reload("ticket-renewal 1")
    time.sleep(2.5)  # two turns of those that are to be
    replace_handshake(server, first)
    assert key_name(server.port) == name
    scene.fail(late)
    wait_for(lambda: len(server.workers()) == 6)
    replace_handshake(server, second)
    wait_for(lambda: key_name(server.port) != name)
    client.ask(server)
    for _ in range(20):  # whichever process it is
        assert client.ask(server) is True


def test_grace(held):
    """A process that hangs is not waited for as long as it was to be."""
    scene = held("grace 1")
    old, late = scene.reload("grace 60")
    scene.fail(late)
    os.kill(old, signal.SIGSTOP)
    began = time.monotonic()
    scene.server.signal(signal.SIGTERM)
    assert scene.server.wait() == 0
    assert time.monotonic() - began < 10
    assert scene.server.line(2, event="stopping")["how"] == "killed"


@needs_root
def test_a_new_port(held):
    """The old accept from one that is no good any more: others take their place, with the old settings."""
    scene = held()
    with listening(scene.server.workers("handshake")[0]) as port:
        port.shutdown(socket.SHUT_RD)
    _, late = scene.reload()
    assert scene.server.line(event="listen")["error"].endswith("a process has spoilt the socket; there is a new one")
    scene.fail(late)
    scene.server.line(2, event="listening")
    with scene.server.connect() as connection:
        assert answer(connection) == b"hello"


def test_a_reload_during_the_start(serve, backend, one, tmp_path):
    """The signal waits: the master is held at OpenSSL's settings."""
    settings = tmp_path / "openssl.cnf"
    os.mkfifo(settings)
    server = serve("--forward", backend(saying(b"hello")).target, *one, wait=False,
                   env={**os.environ, "OPENSSL_CONF": str(settings)})
    with open(settings, "w", encoding="ascii"):
        server.signal(signal.SIGHUP)
        (tmp_path / "file").touch()
        os.replace(tmp_path / "file", settings)
    server.line(event="listening")
    server.line(event="reload", generation="2")
