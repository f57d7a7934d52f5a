# SPDX-License-Identifier: MIT
"""How a connection ends: with close_notify, with FIN alone, with RST; each end tells
them apart."""
import socket
import ssl
import struct
import subprocess

import pytest

from peers import each_version, exchange, outcome, report
from test_client import PythonServer
from test_server import gnutls_cli, python_client, s_client

DATA = bytes(range(256)) * 100


def say_goodbye(peer):
    peer.unwrap()


def just_end(peer):
    """FIN without close_notify."""
    peer.shutdown(socket.SHUT_WR)


def reset(peer):
    """RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


ends = pytest.mark.parametrize(
    "leave,end", [(say_goodbye, "close_notify"), (just_end, "truncated"), (reset, "reset")],
    ids=["close_notify", "fin", "rst"])


@each_version
@ends
def test_client_ends(server, certs, files, cipher, leave, end):
    ours = server("--receive", files.path("received"))
    with python_client(certs, ours.port, cipher) as peer:
        report(ours)
        peer.sendall(DATA)
        leave(peer)
        done = outcome(ours.finish())
    assert done.end == end
    if leave is not reset:  # RST throws away what was not read
        files.same(files.holding(DATA, "sent"), files.path("received"))


@each_version
@pytest.mark.parametrize("bare", [[], ["--bare"]], ids=["conn", "bare"])
@ends
def test_server_ends(client, certs, files, cipher, leave, end, bare):
    def talk(peer):
        peer.sendall(DATA)
        leave(peer)
        if leave is just_end:
            socket.socket.recv(peer, 1)  # until our end has answered

    peer = PythonServer(certs, cipher, talk)
    ours = client(peer.port, *cipher.ours, *bare, "--receive", files.path("received"))
    report(ours)
    done = outcome(ours.finish())
    peer.finish()
    assert done.end == end
    if leave is not reset:  # RST throws away what was not read
        files.same(files.holding(DATA, "sent"), files.path("received"))


@each_version
def test_our_close_notify(server, certs, cipher):
    ours = server("--count", "0")
    with python_client(certs, ours.port, cipher) as peer:
        assert exchange(peer) == b""
        peer.unwrap()
    assert outcome(ours.finish()).end == "close_notify"


@each_version
def test_peer_goes_on_after_our_close_notify(server, certs, files, cipher):
    """One direction closed, the other still carries data (RFC 8446 section 6.1)."""
    ours = server("--count", "0", "--receive", files.path("received"))
    with python_client(certs, ours.port, cipher) as peer:
        assert exchange(peer) == b""
        peer.sendall(DATA)
        peer.unwrap()
    assert outcome(ours.finish()).end == "close_notify"
    files.same(files.holding(DATA, "sent"), files.path("received"))


# ---- the other ends see that ours left without close_notify ----

@each_version
def test_python_sees_our_abrupt_end(server, certs, cipher):
    ours = server("--count", "0", "--abrupt")
    with python_client(certs, ours.port, cipher) as peer:
        with pytest.raises(ssl.SSLError, match="EOF"):
            exchange(peer)
        just_end(peer)
    ours.finish()


@each_version
def test_s_client_sees_our_abrupt_end(start, server, certs, cipher):
    ours = server("--count", "0", "--abrupt")
    peer = s_client(start, certs, ours.port, *cipher.flags)
    peer.finish(status=1)
    ours.finish()


@each_version
def test_gnutls_cli_sees_our_abrupt_end(start, server, certs, files, cipher):
    ours = server("--count", "0", "--abrupt")
    peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=subprocess.PIPE)
    peer.finish(status=1)
    assert "properly terminated" in peer.said()
    ours.finish()
