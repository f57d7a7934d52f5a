# SPDX-License-Identifier: MIT
"""KeyUpdate, by other people's TLS 1.3 and by ours: the data is whole, and the kernel has
changed keys as often as was said. Where it can't, the end is clear."""
import os
import socket
from functools import partial

import pytest

from peers import (AES13, KERNEL_CHANGES_KEYS, LIMIT, both_readings, every_tls13, kernel_makes, only_high,
                   outcome, report, set_high)
from test_client import gnutls_serv, s_server
from test_server import gnutls_cli, s_client

BLOCK, BLOCKS = 50_000, 5
can = pytest.mark.skipif(not KERNEL_CHANGES_KEYS, reason="this kernel can't change keys")
can_not = pytest.mark.skipif(KERNEL_CHANGES_KEYS, reason="this kernel can change keys")
# ours too: behind each of our writes, and the peer is asked to do the same
who_changes = pytest.mark.parametrize("ours_too", [[], ["--rekey", "1"]], ids=["theirs", "both"])


def block():
    return set_high(os.urandom(BLOCK))


class Peer:
    """A peer that is echoed: what it says comes back."""

    def __init__(self, start, get=only_high, make=block):
        """start: with this stdin. One message is one read there: openssl takes a command only
        at the beginning of what it reads, and drops the rest."""
        theirs, self.stdin = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.program = start(stdin=theirs)
        self.stdin.settimeout(LIMIT)
        self.get, self.make = get, make
        self.sent = b""

    def say(self, data):
        for at in range(0, len(data), 4096):
            self.stdin.send(data[at:at + 4096])

    def block(self):
        more = self.make()
        self.sent += more
        self.say(more)
        self.program.wait_for_bytes(lambda out: len(self.get(out)) >= len(self.sent))
        assert self.get(self.program.out) == self.sent

    def talk(self, commands):
        self.block()
        for command in commands:
            self.say(command)
            self.block()

    def finish(self, status=0):
        self.stdin.close()
        return self.program.finish(status)


def check(kernel, done, ours_too, updates, requests):
    """updates of the peer's of its own will, of them requests that are to be answered."""
    assert done.end == "close_notify"
    kernel.rx_rekeys, kernel.tx_rekeys = int(done.rx_rekeys), int(done.tx_rekeys)
    if ours_too:
        assert kernel.rx_rekeys > updates and kernel.tx_rekeys > requests
    else:
        assert (kernel.rx_rekeys, kernel.tx_rekeys) == (updates, requests)


COMMANDS = [b"K\n", b"k\n", b"k\n", b"K\n"]


@can
@who_changes
@both_readings
@every_tls13
def test_s_client(start, server, certs, cipher, bare, ours_too):
    with kernel_makes(1) as kernel:
        ours = server(*cipher.ours, "--echo", "--count", str(BLOCKS * BLOCK), *ours_too, bare=bare)
        peer = Peer(partial(s_client, start, certs, ours.port, *cipher.flags, commands=True))
        report(ours)
        peer.talk(COMMANDS)
        peer.finish()
        check(kernel, outcome(ours.finish()), ours_too, 4, 2)


@can
@who_changes
@both_readings
@every_tls13
def test_s_server(start, client, certs, cipher, bare, ours_too):
    with kernel_makes(1) as kernel:
        peer = Peer(partial(s_server, start, certs, *cipher.flags))
        ours = client(peer.program.port, *cipher.ours, "--echo", "--count", str(BLOCKS * BLOCK), *ours_too,
                      bare=bare)
        report(ours)
        peer.talk(COMMANDS)
        check(kernel, outcome(ours.finish()), ours_too, 4, 2)
        assert b"DONE\n" in peer.finish()


def line():
    """gnutls-cli makes a record of a line; it bears 8 KeyUpdates in a second."""
    return set_high(os.urandom(2000)) + b"\n"


@can
@who_changes
@both_readings
@every_tls13
def test_gnutls_cli(start, server, certs, files, cipher, bare, ours_too):
    with kernel_makes(1) as kernel:
        ours = server(*cipher.ours, "--echo", *ours_too, bare=bare)
        peer = Peer(partial(gnutls_cli, start, certs, files, ours.port, cipher, "--inline-commands"),
                    bytes, line)
        report(ours)
        request, update = b"^rekey^\n", b"^rekey1^\n"
        if ours_too:  # it takes requests that cross for an illegal parameter
            request = update
        peer.talk([request, update, update, request])
        peer.finish()
        check(kernel, outcome(ours.finish()), ours_too, 4, 2)


@can
@both_readings
@every_tls13
def test_gnutls_serv(start, client, certs, files, cipher, bare):
    """It changes keys only when it is asked to; it echoes lines."""
    data = files.holding(set_high(os.urandom(299_999)) + b"\n", "line")
    with kernel_makes(1) as kernel:
        peer = gnutls_serv(start, certs, cipher, "--echo")
        ours = client(peer.port, *cipher.ours, "--send", data, "--receive", files.path("received"), "--count", "300000",
                      "--rekey", "1", bare=bare)
        report(ours)
        check(kernel, outcome(ours.finish()), True, 0, 0)
        assert kernel.tx_rekeys == 5
    files.same(data, files.path("received"))


# ---- kernels before 6.14 ----

def check_end(ours, peer, files):
    """What came before is delivered, and the peer is told."""
    done = outcome(ours.finish())
    assert (done.received, done.end) == (str(BLOCK), "EKEYEXPIRED")
    peer.program.wait_for("alert internal error")
    files.same(files.holding(peer.sent, "sent"), files.path("received"))


@can_not
@both_readings
@pytest.mark.parametrize("command", [b"K\n", b"k\n"])
def test_clear_end_for_s_client(start, server, certs, files, bare, command):
    with kernel_makes(1):
        ours = server("--echo", "--receive", files.path("received"), bare=bare)
        peer = Peer(partial(s_client, start, certs, ours.port, *AES13.flags, commands=True))
        report(ours)
        peer.block()
        peer.say(command)
        peer.say(b"behind it")
        check_end(ours, peer, files)
        peer.finish(status=1)


@can_not
@both_readings
@pytest.mark.parametrize("command", [b"K\n", b"k\n"])
def test_clear_end_for_s_server(start, client, certs, files, bare, command):
    with kernel_makes(1):
        peer = Peer(partial(s_server, start, certs, *AES13.flags))
        ours = client(peer.program.port, "--echo", "--receive", files.path("received"), bare=bare)
        report(ours)
        peer.block()
        peer.say(command)
        check_end(ours, peer, files)
