# SPDX-License-Identifier: MIT
"""tlsfd connect --starttls, against servers that speak the dialogue of the RFC and hand over to
Python's ssl. They are ours: openssl s_client, which knows the same five protocols, is let
loose on them, too.
"""
import contextlib
import os
import re
import socket
import subprocess

import pytest

from connecting import (HANDSHAKE, LIMIT, OK, Server, connect, echo_all, one_line, receive_all,
                        said, wrap)


class Dialogue:
    """What a server says (bytes), and patterns of what a client answers."""

    def __init__(self, *parts, go):
        self.parts = parts
        self.go = go  # the go-ahead

    def play(self, plain, instead=None, behind=b""):
        """instead: said in place of the go-ahead; behind: said in one piece with it."""
        for part in self.parts:
            if isinstance(part, bytes):
                plain.sendall(part)
            else:
                self.expect(plain, part)
        plain.sendall(self.go + behind if instead is None else instead)

    @staticmethod
    def expect(plain, pattern):
        got = b""
        while not pattern.fullmatch(got):
            data = plain.recv(1)
            assert data, f"after {got!r}"
            got += data
            assert len(got) < 1000, got


XMPP_STREAM = (b"<?xml version='1.0'?><stream:stream id='1' xmlns='jabber:client' version='1.0' "
               b"xmlns:stream='http://etherx.jabber.org/streams' from='localhost'>")
XMPP_TLS = b"urn:ietf:params:xml:ns:xmpp-tls"
XMPP_OFFER = (b"<stream:features><starttls xmlns='" + XMPP_TLS + b"'><required/></starttls>"
              b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>"
              b"</mechanisms></stream:features>")
# what openssl s_client says, and what we say
XMPP_HELLO = re.compile(rb"(<\?xml[^>]*\?>)?<stream:stream [^>]*to=['\"]localhost['\"][^>]*>", re.S)
XMPP_START = re.compile(rb"<starttls xmlns=['\"]urn:ietf:params:xml:ns:xmpp-tls['\"]\s*/>")
IMAP_START = re.compile(rb"[!-~]+ STARTTLS\r\n")

DIALOGUES = {
    "smtp": Dialogue(b"220-mail.example.org ESMTP\r\n", b"220 ready\r\n", re.compile(rb"EHLO \S+\r\n"),
                     b"250-mail.example.org\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
                     re.compile(rb"STARTTLS\r\n"), go=b"220 2.0.0 Ready to start TLS\r\n"),
    "imap": Dialogue(b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready.\r\n", IMAP_START,
                     go=b"TAG OK Begin TLS negotiation now.\r\n"),
    "pop3": Dialogue(b"+OK ready.\r\n", re.compile(rb"STLS\r\n"), go=b"+OK Begin TLS negotiation now.\r\n"),
    "postgres": Dialogue(re.compile(rb"\0\0\0\x08\x04\xd2\x16\x2f", re.S), go=b"S"),
    "xmpp": Dialogue(XMPP_HELLO, XMPP_STREAM, XMPP_OFFER, XMPP_START,
                     go=b"<proceed xmlns='" + XMPP_TLS + b"'/>"),
}
each_protocol = pytest.mark.parametrize("protocol", DIALOGUES)


class ImapDialogue(Dialogue):
    """A tag comes back; s_client asks for CAPABILITY first."""

    def play(self, plain, instead=None, behind=b""):
        plain.sendall(self.parts[0])
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += plain.recv(1)
            tag, _, command = line.partition(b" ")
            if command.strip().upper() == b"CAPABILITY":
                plain.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done.\r\n")
                continue
            assert command == b"STARTTLS\r\n"
            break
        if instead is None:
            plain.sendall(b"* OK still here\r\n" + tag + b" OK Begin TLS now.\r\n" + behind)
        else:
            plain.sendall(instead.replace(b"TAG", tag))


DIALOGUES["imap"] = ImapDialogue(*DIALOGUES["imap"].parts, go=b"")


def after_go_ahead(dialogue, certs, talk):
    def serve(plain):
        dialogue.play(plain)
        with wrap(plain, certs) as peer:
            return talk(peer)
    return serve


@each_protocol
def test_starttls(certs, protocol):
    mine = os.urandom(100_000)
    server = Server(after_go_ahead(DIALOGUES[protocol], certs, echo_all))
    done = connect(server.port, "-v", "--ca", certs.root, "--starttls", protocol, stdin=mine)
    assert done.returncode == OK, done.stderr
    assert server.finish() == mine
    assert done.stdout == mine
    said(done)


@each_protocol
def test_s_client_takes_these_servers(certs, protocol):
    server = Server(after_go_ahead(DIALOGUES[protocol], certs, lambda peer: peer.sendall(b"hello from it\n")))
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile",
                           certs.root, "-starttls", protocol, "-verify_return_error", "-quiet",
                           *(["-xmpphost", "localhost"] if protocol == "xmpp" else [])],
                          stdin=subprocess.PIPE, capture_output=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT, check=False)
    server.finish()
    assert b"hello from it\n" in done.stdout, done.stderr


@each_protocol
@pytest.mark.parametrize("what", ["line", "response"])
def test_injected(certs, protocol, what):
    """CVE-2011-0411, CVE-2021-23222: said by somebody in between, meant for the session."""
    behind = b"250-EVIL\r\n" if what == "line" else os.urandom(500)
    server = Server(lambda plain: (DIALOGUES[protocol].play(plain, behind=behind), plain.recv(1000))[1])
    done = connect(server.port, "--ca", certs.root, "--starttls", protocol, stdin=b"secret")
    one_line(done, HANDSHAKE, "bytes came behind")
    assert done.stdout == b""
    assert server.finish() == b""  # not even a ClientHello


@pytest.mark.parametrize("protocol, instead, word", [
    ("smtp", b"454 4.7.0 TLS not available\r\n", "454 4.7.0 TLS not available"),
    ("imap", b"TAG BAD unknown command\r\n", "BAD unknown command"),
    ("imap", b"TAG NO not now\r\n", "refuses"),
    ("imap", b"* BYE going down\r\n", "refuses"),
    ("pop3", b"-ERR command not permitted\r\n", "-ERR command not permitted"),
    ("postgres", b"N", "does not offer"),
    ("postgres", b"E\0\0\0\x20SFATAL\0", "another protocol"),
    ("xmpp", b"<failure xmlns='" + XMPP_TLS + b"'/></stream:stream>", "refuses"),
    ("smtp", b"go ahead\r\n", "another protocol"),
    ("pop3", b"SSH-2.0-OpenSSH_9.2\r\n", "another protocol"),
    ("smtp", b"220-" + b"x" * 20000, "too long"),
    ("imap", b"* OK \r\n" * 3000, "too long"),
    ("xmpp", b"<proceed" + b" " * 20000, "too long"),
    ("smtp", b"", "closed the connection"),
    ("xmpp", b"<proceed", "closed the connection"),
], ids=lambda value: str(value)[:20])
def test_starttls_is_refused(certs, protocol, instead, word):
    def serve(plain):
        DIALOGUES[protocol].play(plain, instead=instead)
        got = b""
        with contextlib.suppress(OSError):  # it may have left
            plain.shutdown(socket.SHUT_WR)
            got = plain.recv(1000)
        return got

    server = Server(serve)
    done = connect(server.port, "--ca", certs.root, "--starttls", protocol, stdin=b"secret")
    one_line(done, HANDSHAKE, word, protocol)
    assert server.finish() == b""


@pytest.mark.parametrize("protocol, first, word", [
    ("smtp", b"554 no service\r\n", "refuses"),
    ("imap", b"* PREAUTH welcome back\r\n", "refuses"),
    ("imap", b"220 this is smtp\r\n", "another protocol"),
    ("pop3", b"* OK this is imap\r\n", "another protocol"),
    ("smtp", b"220 ready\r\n220 again\r\n", "bytes came behind"),
    ("smtp", b"\x1b[31m220\r\n", "another protocol"),
])
def test_greeting(protocol, first, word):
    server = Server(lambda plain: (plain.sendall(first), plain.recv(1000))[1])
    done = connect(server.port, "--starttls", protocol)
    one_line(done, HANDSHAKE, word)
    assert b"\x1b" not in done.stderr
    assert server.finish() == b""


@pytest.mark.parametrize("protocol, dialogue", [
    ("smtp", [b"220 ready\r\n", DIALOGUES["smtp"].parts[2], b"250-mail\r\n250-STARTTLSX\r\n250 XSTARTTLS STARTTLS\r\n"]),
    ("xmpp", [XMPP_HELLO, XMPP_STREAM, b"<stream:features></stream:features>"]),
    ("xmpp", [XMPP_HELLO, XMPP_STREAM, b"<stream:features/>"]),
])
def test_not_offered(protocol, dialogue):
    """Somebody in between may have taken it out: never on in plain text."""
    def serve(plain):
        Dialogue(*dialogue, go=b"").play(plain)
        return plain.recv(1000)

    server = Server(serve)
    one_line(connect(server.port, "--starttls", protocol), HANDSHAKE, "does not offer")
    assert server.finish() == b""


@each_protocol
def test_byte_by_byte(certs, protocol):
    """An answer may come in any pieces."""
    class Slow:
        def __init__(self, plain):
            self.plain, self.recv = plain, plain.recv
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def sendall(self, data):
            for byte in data:
                self.plain.send(bytes([byte]))

    def serve(plain):
        DIALOGUES[protocol].play(Slow(plain))
        with wrap(plain, certs) as peer:
            return receive_all(peer)

    server = Server(serve)
    done = connect(server.port, "--ca", certs.root, "--starttls", protocol, stdin=b"x")
    assert done.returncode == OK, done.stderr
    assert server.finish() == b"x"


def test_a_name_that_breaks_out_of_xml():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one_line(connect(listener.getsockname()[1], "--starttls", "xmpp", "--name", "a'/><b c='"),
                 HANDSHAKE, "name")
