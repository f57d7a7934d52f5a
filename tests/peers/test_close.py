# SPDX-License-Identifier: MIT
"""How a connection ends: with close_notify, with FIN alone, with RST; each end tells
them apart."""
import os
import socket
import ssl
import struct
import subprocess

import pytest

from peers import (AES13, LIMIT, both_readings, each_version, exchange, kernel_makes, only_high, outcome,
                   report)
from test_client import PythonServer, gnutls_serv, s_server
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
@both_readings
@ends
def test_server_ends(client, certs, files, cipher, leave, end, bare):
    def talk(peer):
        peer.sendall(DATA)
        leave(peer)
        if leave is just_end:
            socket.socket.recv(peer, 1)  # until our end has answered

    peer = PythonServer(certs, cipher, talk)
    ours = client(peer.port, *cipher.ours, "--receive", files.path("received"), bare=bare)
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


# ---- one direction closed, the other still carries data (RFC 8446 section 6.1) ----

def close_half(peer):
    """close_notify, and reading goes on. unwrap() reads, too, and what it finds of our data is
    fatal to OpenSSL (and SSLEOFError to who reads next): it finds an empty socket here."""
    here, there = socket.socketpair()
    with socket.socket(fileno=os.dup(peer.fileno())) as tcp, here, there:
        os.dup2(here.fileno(), peer.fileno(), inheritable=False)
        peer.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            peer.unwrap()
        os.dup2(tcp.fileno(), peer.fileno(), inheritable=False)
        tcp.sendall(there.recv(100))
    peer.settimeout(LIMIT)


def go_on(peer):
    assert exchange(peer) == b""  # our close_notify
    peer.sendall(DATA)
    peer.unwrap()


def leave_first(peer):
    peer.sendall(DATA)
    close_half(peer)
    return exchange(peer)



@each_version
@both_readings
def test_client_goes_on_after_our_close_notify(server, certs, files, cipher, bare):
    with kernel_makes(1):
        ours = server("--count", "0", "--receive", files.path("received"), bare=bare)
        with python_client(certs, ours.port, cipher) as peer:
            go_on(peer)
        assert outcome(ours.finish()).end == "close_notify"
    files.same(files.holding(DATA, "sent"), files.path("received"))


@each_version
@both_readings
def test_server_goes_on_after_our_close_notify(client, certs, files, cipher, bare):
    with kernel_makes(1):
        peer = PythonServer(certs, cipher, go_on)
        ours = client(peer.port, *cipher.ours, "--count", "0", "--receive", files.path("received"), bare=bare)
        assert outcome(ours.finish()).end == "close_notify"
        peer.finish()
    files.same(files.holding(DATA, "sent"), files.path("received"))


@each_version
@both_readings
def test_we_go_on_after_the_clients_close_notify(server, certs, files, cipher, bare):
    with kernel_makes(1):
        ours = server("--echo-late", "--receive", files.path("received"), bare=bare)
        with python_client(certs, ours.port, cipher) as peer:
            got = leave_first(peer)
        done = outcome(ours.finish())
    assert (done.end, done.sent) == ("close_notify", str(len(DATA)))
    assert got == DATA


@each_version
@both_readings
def test_we_go_on_after_the_servers_close_notify(client, certs, files, cipher, bare):
    with kernel_makes(1):
        peer = PythonServer(certs, cipher, leave_first)
        ours = client(peer.port, *cipher.ours, "--echo-late", "--receive", files.path("received"), bare=bare)
        done = outcome(ours.finish())
        assert peer.finish() == DATA
    assert (done.end, done.sent) == ("close_notify", str(len(DATA)))


@each_version
def test_we_go_on_after_gnutls_cli_said_close_notify(start, server, certs, files, cipher):
    """At the end of its input it closes its half."""
    data = files.holding(b"line\n" * 1000, "data")
    ours = server("--echo-late", "--receive", files.path("received"))
    peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=data, stdout=files.path("out"))
    peer.finish()
    assert outcome(ours.finish()).end == "close_notify"
    files.same(data, files.path("received"))
    files.same(data, files.path("out"))


# ---- fatal alerts ----

def check_alert(ours, number):
    done = outcome(ours.finish())
    assert (done.end, done.alert) == ("EPROTO", str(number))


UNEXPECTED_MESSAGE, UNKNOWN_CA, ACCESS_DENIED = 10, 48, 49


@both_readings
def test_s_server_refuses_our_certificate(start, client, certs, bare):
    """In TLS 1.3 it learns of it when our handshake is over. It trusts nobody."""
    with kernel_makes(1):
        peer = s_server(start, certs, *AES13.flags, "-Verify", "1", "-verify_return_error",
                        "-CAfile", certs.server)
        ours = client(peer.port, *AES13.ours, "--cert", certs.client, "--key", certs.client_key, bare=bare)
        report(ours)
        check_alert(ours, UNKNOWN_CA)


@both_readings
def test_gnutls_serv_refuses_our_certificate(start, client, certs, bare):
    with kernel_makes(1):
        peer = gnutls_serv(start, certs, AES13, "--verify-client-cert", "--x509cafile", certs.server,
                           client_cert="--require-client-cert")
        ours = client(peer.port, *AES13.ours, "--cert", certs.client, "--key", certs.client_key, bare=bare)
        report(ours)
        check_alert(ours, ACCESS_DENIED)


@each_version
@both_readings
def test_s_client_says_what_it_cannot_take(start, server, certs, cipher, bare):
    with kernel_makes(1):
        ours = server("--wrong", "--count", "0", bare=bare)
        peer = s_client(start, certs, ours.port, *cipher.flags)
        check_alert(ours, UNEXPECTED_MESSAGE)
        peer.finish(status=1)


@each_version
@both_readings
def test_s_server_says_what_it_cannot_take(start, client, certs, files, cipher, bare):
    """What was sent before is there."""
    data = files.random(50_000, high=True)
    with kernel_makes(1):
        peer = s_server(start, certs, *cipher.flags)
        ours = client(peer.port, *cipher.ours, "--send", data, "--wrong", "--count", "0", bare=bare)
        check_alert(ours, UNEXPECTED_MESSAGE)
        files.same(data, files.holding(only_high(peer.finish()), "got"))


@each_version
@both_readings
def test_gnutls_cli_leaves_without_a_word(start, server, certs, files, cipher, bare):
    """It sends no alert for what it can't take."""
    with kernel_makes(1):
        ours = server("--wrong", "--count", "0", bare=bare)
        peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=subprocess.PIPE)
        done = outcome(ours.finish())
        peer.finish(status=1)
    assert (done.end, done.alert) == ("truncated", "-1")


@each_version
@both_readings
def test_gnutls_serv_says_what_it_cannot_take(start, client, certs, cipher, bare):
    with kernel_makes(1):
        peer = gnutls_serv(start, certs, cipher, "--echo")
        ours = client(peer.port, *cipher.ours, "--wrong", "--count", "0", bare=bare)
        check_alert(ours, UNEXPECTED_MESSAGE)


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
