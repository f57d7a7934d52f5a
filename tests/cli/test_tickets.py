# SPDX-License-Identifier: MIT
"""Sessions that tlsfd serve gives: resumed by any of its processes, over reloads, while nothing has
changed in whom it trusts.
"""
import contextlib
import os
import re
import signal
import ssl
import subprocess
import time

import pytest

from serving import LIMIT, Authority, answer, saying, wait_for
from test_roles import KERNEL, has, needs_root
from test_serve import reloaded

PLACE = "kernel" if KERNEL else "user"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
each_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


def key_name(port):
    """Of the key that seals a ticket: its first 16 bytes (RFC 5077 section 4)."""
    said = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-tls1_2"], check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT).stdout
    line = re.search(r"TLS session ticket:\n\s*0000 - ((?:[0-9a-f]{2}[ -]){16})", said)
    return bytes.fromhex(line.group(1).replace("-", " "))


class Client:
    """One that resumes: a context of its own, and the last session it was given."""

    def __init__(self, version=ssl.TLSVersion.TLSv1_3, cert=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version
        if cert:
            self.context.load_cert_chain(*cert)
        self.session = None

    def ask(self, server, name="one.example", session=None):
        """Is the connection resumed?"""
        session = session or self.session
        with contextlib.closing(server.connect(self.context, name, session=session)) as connection:
            answer(connection)
            resumed = connection.session_reused
            if not resumed or connection.version() == "TLSv1.3":
                self.session = connection.session
            connection.unwrap()
            return resumed


def lines(server, count):
    """What the log says of each connection, both directions where they should be."""
    server.line(count, event="connection", end="closed")
    found = server.matching(event="connection", end="closed")
    assert all((line["tx"], line["rx"]) == (PLACE, PLACE) for line in found)
    return sorted(line["resumed"] for line in found)  # they come in the order of their ends


def test_one_is_sent(serve, one, backend):
    """With each connection; a client that uses it gets another."""
    server = serve("--forward", backend(saying(b"hello")).target, *one)
    said = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-tls1_3", "-ign_eof"],
                          check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT).stdout
    assert said.count("Post-Handshake New Session Ticket arrived") == 1


@each_version
def test_reload_keeps_sessions(serve, ca, backend, tmp_path, version):
    """Also where the certificate is renewed, with another key, for the same names."""
    config = tmp_path / "config"

    def write(certificate):
        config.write_text("listen 127.0.0.1:0\nforward %s\nworkers 2\ncert %s\nkey %s\ncert %s\nkey %s\n" % (
            target, *ca.issue("one.example"), *certificate))

    target = backend(saying(b"hello")).target
    write(ca.issue("two.example", "two.example", "*.two.example"))
    server = serve("--config", str(config), listen=None)
    clients = {name: Client(version) for name in ("one.example", "two.example", "a.two.example", "none.example")}
    for name, client in clients.items():
        assert client.ask(server, name) is False
    for count in range(1, 4):
        write(ca.issue("two.example", "two.example", "*.two.example"))
        assert "error" not in reloaded(server, count)
        for name, client in clients.items():
            assert client.ask(server, name) is True, name
    assert lines(server, 16) == ["no"] * 4 + ["yes"] * 12


@each_version
def test_any_process_resumes(serve, one, backend, version):
    """20 connections, which the kernel spreads over 4 processes, and their replacements."""
    server = serve("--workers", "4", "--forward", backend(saying(b"hello")).target, *one)
    client = Client(version)
    assert client.ask(server) is False
    for _ in range(20):
        assert client.ask(server) is True
    lines(server, 21)  # in user space a handshake process has connections, and their lines
    for pid in server.workers("handshake"):
        os.kill(pid, signal.SIGKILL)
    server.line(4, event="worker", role="handshake")
    for _ in range(4):
        assert client.ask(server) is True
    assert lines(server, 25) == ["no"] + ["yes"] * 24


def test_another_client_ca(serve, one, backend, tmp_path):
    """Who was let in by the old authority has to show a certificate of the new one's."""
    for name in "old", "new":
        (tmp_path / name).mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    config = tmp_path / "config"

    def write(*lines):
        config.write_text("\n".join(["listen 127.0.0.1:0", "forward " + target, "workers 1", "cert " + one[1],
                                     "key " + one[3], *lines, ""]))

    def refused(client):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):  # TLS 1.3: by what is read
            client.ask(server)

    target = backend(saying(b"hello")).target
    write("client-ca " + old.root)
    server = serve("--config", str(config), listen=None)
    clients = [Client(version, old.issue("client")) for version in VERSIONS.values()]
    for client in clients:
        assert client.ask(server) is False
        assert client.ask(server) is True
    write("client-ca " + new.root)
    assert "error" not in reloaded(server, 1)
    for client in clients:
        refused(client)
    write("client-ca " + old.root)  # and back: as before
    assert "error" not in reloaded(server, 2)
    for client in clients:
        assert client.ask(server) is True
    write("client-ca " + old.root, "client-auth optional")
    assert "error" not in reloaded(server, 3)
    for client in clients:
        assert client.ask(server) is False


def is_resumed(client, server):
    """None: it is not let in."""
    with contextlib.suppress(ssl.SSLError, ConnectionResetError):
        return client.ask(server)
    return None


@pytest.mark.parametrize("ends", ["certificate", "list"])
def test_no_session_outlasts_what_let_its_client_in(serve, one, backend, tmp_path, ends):
    """Each is resumed with what it was given the time before, till there is no connection at all."""
    authority, target = Authority(tmp_path), backend(saying(b"hello")).target

    def begin(seconds):
        least = time.time() + seconds - 2  # dates are in whole seconds, and so are the ends of sessions
        if ends == "certificate":
            cert, options = authority.issue("client", seconds=seconds), []
        else:
            cert, options = authority.issue("client"), ["--crl", authority.revoke_none("-crlsec", str(seconds))]
        most = time.time() + seconds + 1
        server = serve("--client-ca", authority.root, "--forward", target, *one, *options)
        clients = [Client(version, cert) for version in VERSIONS.values()]
        for client in clients:
            assert client.ask(server) is False
        return server, clients, least, most

    began = time.monotonic()
    begin(3600)  # how long that takes here
    server, clients, least, most = begin(5 + round(3 * (time.monotonic() - began)))
    rounds = 0
    while time.time() < least:
        resumed = [is_resumed(client, server) for client in clients]
        if time.time() < least:  # else it took too long to tell
            assert resumed == [True, True]
            rounds += 1
        time.sleep(0.2)
    assert rounds
    while time.time() < most:
        time.sleep(0.2)
        is_resumed(clients[1], server)
    for client in clients:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):  # TLS 1.3: by what is read
            client.ask(server)
    for line in [server.line(count, event="connection", end="handshake") for count in (1, 2)]:
        assert "expired" in line["error"]


def test_keys_are_renewed(serve, one, backend):
    """A ticket is good under the key after its own, and not under the next."""
    period = 3
    server = serve("--workers", "2", "--ticket-renewal", str(period), "--forward", backend(saying(b"hello")).target,
                   *one)
    began, gone, resumed = time.monotonic(), None, []
    client = Client()
    client.ask(server)
    first = client.session
    while gone is None and time.monotonic() - began < LIMIT:
        asked = time.monotonic() - began
        if client.ask(server, session=first):
            resumed.append(asked)
        else:
            gone = time.monotonic() - began
        time.sleep(0.05)
    assert resumed and gone
    assert gone > period * 0.9  # the key before is kept for a period
    assert resumed[-1] < 2.9 * period  # one key more would make it 3
    assert client.ask(server, session=client.session) is True  # of now


def test_a_shorter_renewal_holds_from_the_reload_on(serve, one, backend, tmp_path):
    """And the processes agree, those that replace others, too."""
    config, period = tmp_path / "config", 2
    lines = ["listen 127.0.0.1:0", "forward " + backend(saying(b"hello")).target, "cert " + one[1], "key " + one[3],
             "workers 2", "ticket-renewal "]
    config.write_text("\n".join(lines) + "14400\n")
    server = serve("--config", str(config), listen=None)
    client, name = Client(), key_name(server.port)
    assert client.ask(server) is False
    assert client.ask(server) is True
    before = client.session
    config.write_text("\n".join(lines) + "%d\n" % period)
    began = time.monotonic()
    assert "error" not in reloaded(server, 1)
    assert client.ask(server, session=before) is True
    while client.ask(server, session=before):
        assert time.monotonic() - began < LIMIT  # it would be hours
        time.sleep(0.1)
    assert time.monotonic() - began > period
    if os.geteuid() == 0:  # and may read the master's memory
        wait_for(lambda: not has(server.process.pid, name))
    os.kill(server.workers("handshake")[0], signal.SIGKILL)
    server.line(event="worker", role="handshake")
    wait_for(lambda: len(server.workers("handshake")) == 2)
    wait_for(lambda: all(client.ask(server) for _ in range(8)))  # else they turn just now


@needs_root
@pytest.mark.skipif(not KERNEL, reason="needs kernel TLS: the others' data process has no connections")
def test_keys_are_not_in_a_data_process(serve, one, backend):
    """By their names, which lie beside them, and stand in tickets for all to read."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    name = key_name(server.port)
    old = server.children()
    assert "error" not in reloaded(server, 1)
    wait_for(lambda: not set(old) & set(server.children()))
    assert key_name(server.port) == name
    assert Client().ask(server) is False  # a connection in the data process, too
    for pid in server.workers("data"):
        assert not has(pid, name)
    for pid in server.workers("handshake"):
        assert has(pid, name)
