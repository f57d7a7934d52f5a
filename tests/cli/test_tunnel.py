# SPDX-License-Identifier: MIT
"""tlsfd connect --listen: plain connections here, TLS out."""
import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from connecting import (BIG, BIN, LIMIT, PLACE, Server, digest, each_version, echo_all,
                        exchange, one_line, only, receive_all, refused, tls, wrap)
from serving import keepalive, wait_for
from test_connect_reach import black_hole

LISTEN, USAGE = 5, 2  # exit status: can't listen
DATA = bytes(range(256)) * 1000


class Tunnel:
    """A running tlsfd connect --listen."""

    def __init__(self, start, port, *options, listen="127.0.0.1:0", command=(BIN,), host="localhost"):
        self.program = start(*command, "connect", "--listen", listen, *options, f"{host}:{port}")
        line = self.program.wait_for(r"^event=listening addr=(\S+):(\d+)\n")
        self.port = int(line.group(2))

    def dial(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        return s

    def line(self, pattern=""):
        """The line of a connection that has ended."""
        text = self.program.wait_for(r"^event=connection .*" + pattern + r".*\n").group().decode()
        return dict((name, value.strip('"')) for name, value in
                    re.findall(r'(\S+?)=("(?:[^"\\]|\\.)*"|\S*)', text))

    def stop(self):
        self.program.process.send_signal(signal.SIGTERM)
        self.program.finish()


class Servers:
    """Serves any number of connections, a thread for each."""

    def __init__(self, certs, talk):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = self.listener.getsockname()[1]
        self.certs, self.talk = certs, talk
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        plain.settimeout(LIMIT)
        with contextlib.suppress(OSError, ssl.SSLError), wrap(plain, self.certs) as peer:
            self.talk(peer)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # or accept would keep the port
        self.listener.close()


@pytest.fixture
def servers(certs):
    made = []

    def begin(talk):
        made.append(Servers(certs, talk))
        return made[-1]

    yield begin
    for server in made:
        server.close()


def echo_pieces(peer):
    """Sends back what comes, piece by piece, to close_notify."""
    while data := peer.recv(1 << 16):
        peer.sendall(data)
    peer.unwrap()


def receive(s, size):
    got = bytearray()
    while len(got) < size:
        got += s.recv(1 << 16) or pytest.fail(f"the end after {len(got)} bytes")
    return bytes(got)


def through(tunnel, data):
    """Sends data, half-closes, returns what comes back to its end."""
    def send():
        with contextlib.suppress(OSError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

    with tunnel.dial() as s:
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        got = bytearray()
        while piece := s.recv(1 << 16):
            got += piece
        sender.join(LIMIT)
        return bytes(got)


# ---- data ----

@each_version
def test_big_both_ways(certs, start, version):
    mine, theirs = os.urandom(BIG), os.urandom(BIG)

    def talk(peer):
        got = exchange(peer, theirs, BIG)
        peer.unwrap()
        return got

    server = Server(tls(certs, talk, only(version)))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    assert digest(through(tunnel, mine)) == digest(theirs)
    assert digest(server.finish()) == digest(mine)
    line = tunnel.line()
    assert (line["tx"], line["rx"], line["end"]) == (PLACE, PLACE, "closed")
    assert (line["in"], line["out"]) == (str(BIG), str(BIG))
    assert line["version"] == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    tunnel.stop()


def test_half_close(certs, start):
    """The server answers behind the end of the question."""
    server = Server(tls(certs, echo_all))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    assert through(tunnel, DATA) == DATA
    assert server.finish() == DATA
    tunnel.stop()


def test_many_at_once(certs, start, servers):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    wrong = []

    def one(number):
        data = bytes([number % 256]) * 50_000
        with contextlib.suppress(OSError):
            if through(tunnel, data) == data:
                return
        wrong.append(number)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not wrong
    tunnel.stop()
    lines = re.findall(rb"^event=connection .*\n", bytes(tunnel.program.err), re.M)
    assert len(lines) == 100
    assert all(f" tx={PLACE} rx={PLACE} ".encode() in line for line in lines)


def test_starttls(certs, start):
    def serve(plain):
        plain.sendall(b"+OK ready\r\n")
        assert plain.recv(100) == b"STLS\r\n"
        plain.sendall(b"+OK go\r\n")
        with wrap(plain, certs) as peer:
            return receive_all(peer)

    server = Server(serve)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--starttls", "pop3")
    through(tunnel, b"hello")
    assert server.finish() == b"hello"
    tunnel.stop()


@pytest.mark.parametrize("listen, dial", [("[::1]:0", "::1"), (":0", "127.0.0.1"), (":0", "::1")])
def test_addresses(certs, start, servers, listen, dial):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, listen=listen)
    ports = re.findall(rb"addr=\S+:(\d+)\n", bytes(tunnel.program.err))
    answers = []
    for port in ports:
        with contextlib.suppress(OSError), socket.create_connection((dial, int(port)), LIMIT) as s:
            s.sendall(b"x")
            answers.append(s.recv(1))
    assert b"x" in answers
    tunnel.program.process.kill()


# ---- ends ----

def reset_at_once(tunnel):
    """Where there is no TLS connection the plain one is reset, perhaps while it is made."""
    with pytest.raises(ConnectionResetError), tunnel.dial() as s:
        s.recv(1)


def plain_reset(s):
    with pytest.raises(ConnectionResetError):
        while s.recv(1 << 16):
            pass
    return True


def test_truncated(certs, start):
    """A cut must not look like an end: the plain side is reset."""
    def talk(peer):
        peer.sendall(b"half of it")
        peer.shutdown(socket.SHUT_WR)

    server = Server(tls(certs, talk))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    with tunnel.dial() as s:
        assert plain_reset(s)
    server.finish()
    assert tunnel.line()["end"] == "truncated"
    tunnel.stop()


def test_plain_side_is_reset(certs, start):
    """And the server sees no close_notify then."""
    def talk(peer):
        peer.sendall(b"ready")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            exchange(peer)

    server = Server(tls(certs, talk))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    with tunnel.dial() as s:
        s.sendall(b"half")
        assert s.recv(5) == b"ready"
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.finish()
    assert tunnel.line()["end"] == "backend-reset"
    tunnel.stop()


def test_plain_side_leaves_first(start):
    """Before the server has answered: those places are free at once."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(LIMIT)
    tunnel = Tunnel(start, server.getsockname()[1], "--max-connections", "2", "--timeout", str(LIMIT))
    for _ in range(4):
        with tunnel.dial() as s, server.accept()[0] as peer:
            assert peer.recv(1)  # a ClientHello
            s.sendall(b"nobody reads this")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
            while peer.recv(1000):
                pass
    line = tunnel.line()
    assert line["end"] == "backend-reset" and line["error"] == "Connection reset by peer"
    server.close()
    tunnel.stop()


def test_keepalive(certs, start):
    """On both sides: a peer that vanishes is noticed without --idle-timeout, too."""
    server = Server(tls(certs, echo_pieces))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    with tunnel.dial() as s:
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
        wait_for(lambda: keepalive(tunnel.port, None) and keepalive(None, server.port))
    server.finish()
    tunnel.stop()


def test_server_is_killed(certs, start):
    """A reset is passed on as one."""
    def talk(peer):
        peer.sendall(b"half of it")
        assert peer.recv(3) == b"yes"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    server = Server(tls(certs, talk))
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    with tunnel.dial() as s:
        assert s.recv(10) == b"half of it"
        s.sendall(b"yes")
        assert plain_reset(s)
    server.finish()
    line = only_line(tunnel)
    assert (line["end"], line["in"], line["out"]) == ("reset", "10", "3")
    assert line["error"] == "Connection reset by peer"


def test_idle_is_without_a_byte(certs, start, servers):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--idle-timeout", "3")
    with tunnel.dial() as s:
        talk_for(s, 4)
    tunnel.stop()


def talk_for(s, seconds):
    """A byte every 0.1 seconds."""
    end = time.monotonic() + seconds
    while True:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        if time.monotonic() >= end:
            return
        time.sleep(0.1)


def test_idle(certs, start, servers):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--idle-timeout", "0.2")
    with tunnel.dial() as s:
        assert plain_reset(s)
    assert tunnel.line()["end"] == "idle"
    tunnel.stop()


# ---- no connection ----

def test_certificate_is_not_accepted(certs, start):
    server = Server(lambda plain: refused(plain, certs))
    tunnel = Tunnel(start, server.port)
    with pytest.raises((ConnectionResetError, BrokenPipeError)), tunnel.dial() as s:
        s.sendall(b"secret")
        s.recv(1)
    assert server.finish() == b""
    line = tunnel.line()
    assert line["end"] == "handshake" and "certificate" in line["error"]
    tunnel.stop()


def only_line(tunnel):
    """The one that there is, but for that of the port; the tunnel is stopped."""
    tunnel.line()
    tunnel.stop()
    lines = tunnel.program.err.decode().splitlines()
    assert len(lines) == 2, lines
    return tunnel.line()


def test_nobody_answers(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tunnel = Tunnel(start, port, "-4")
    reset_at_once(tunnel)
    line = only_line(tunnel)
    assert line["end"] == "server" and line["to"] == f"localhost:{port}"
    assert line["error"] == "connect: Connection refused"


def test_server_is_silent(start):
    """From the first SYN on."""
    with black_hole() as port:
        tunnel = Tunnel(start, port, "--timeout", "0.3", host="[::1]")
        reset_at_once(tunnel)
        line = only_line(tunnel)
    assert line["end"] == "server" and line["error"] == "connect: Connection timed out"


def test_starttls_is_silent(start):
    server = Server(lambda plain: plain.recv(1000))
    tunnel = Tunnel(start, server.port, "--timeout", "3", "--starttls", "smtp")
    reset_at_once(tunnel)
    server.finish()
    line = only_line(tunnel)
    assert line["end"] == "starttls" and line["error"] == "STARTTLS: Connection timed out"


def test_the_deadline_is_for_the_start(certs, start, servers):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--timeout", "3")
    with tunnel.dial() as s:
        talk_for(s, 4)
    tunnel.stop()


def test_silent_server(start):
    server = Server(lambda plain: plain.recv(1000) and plain.recv(1000))
    tunnel = Tunnel(start, server.port, "--timeout", "3")
    reset_at_once(tunnel)
    assert "timed out" in tunnel.line()["error"]
    server.finish()
    tunnel.stop()


# ---- limits ----

def test_max_connections(certs, start, servers):
    """The third waits until one of the two is over."""
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--max-connections", "2")
    with tunnel.dial() as one, tunnel.dial() as two, tunnel.dial() as three:
        for s in (one, two):
            s.sendall(b"x")
            assert s.recv(1) == b"x"
        three.sendall(b"3")
        three.settimeout(0.3)
        with pytest.raises(TimeoutError):
            three.recv(1)
        three.settimeout(LIMIT)
        one.close()
        assert three.recv(1) == b"3"
    tunnel.stop()


def has_ended(s):
    """Without an error."""
    s.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        return s.recv(1) == b""
    return False


@pytest.mark.parametrize("limit", [24, 25])  # an odd one out: the last has no fd for its server
def test_out_of_descriptors(certs, start, servers, limit):
    """It says so once, rests, goes on when there are some again, and says that. Those that are there don't feel it."""
    server = servers(echo_pieces)
    limited = ("sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", BIN)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, command=limited)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(tunnel.dial())
        talk_for(first, 0)
        others = []
        for _ in range(100):
            with contextlib.suppress(ConnectionResetError):
                others.append(stack.enter_context(tunnel.dial()))
        talk_for(first, 0.5)
        first.sendall(DATA)
        assert receive(first, len(DATA)) == DATA
        assert not any(has_ended(s) for s in others)  # either reset or still there
        tunnel.program.wait_for(r'^event=accept state=short error="Too many open files"\n')
    for _ in range(1000):  # until those are over
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            if through(tunnel, DATA) == DATA:
                break
    else:
        pytest.fail("it does not recover; " + tunnel.program.said())
    told = tunnel.program.wait_for(r"^event=accept state=over pauses=(\d+) ms=(\d+)\n")
    pauses, ms = map(int, told.groups())
    assert pauses and ms >= 90 * pauses  # it does not spin
    assert bytes(tunnel.program.err).count(b"event=accept state=short") <= 3
    tunnel.stop()


def test_soft_limit_of_descriptors(certs, start, servers):
    """It is raised: a login shell's is 1024."""
    server = servers(echo_pieces)
    limited = ("sh", "-c", 'ulimit -Sn 24 && exec "$@"', "sh", BIN)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, command=limited)
    with contextlib.ExitStack() as stack:
        for s in [stack.enter_context(tunnel.dial()) for _ in range(20)]:
            talk_for(s, 0)
    tunnel.stop()


# ---- signals ----

def test_graceful_stop(certs, start, servers):
    """What is open goes on to its end; nothing new is taken."""
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root)
    with tunnel.dial() as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        tunnel.program.process.send_signal(signal.SIGTERM)
        s.sendall(DATA)
        got = b""
        while len(got) < len(DATA):
            got += s.recv(1 << 16)
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            while True:
                tunnel.dial().close()
    tunnel.program.finish()
    assert tunnel.line()["end"] == "closed"


@pytest.mark.parametrize("options, signals", [(["--grace", "0.2"], 1), ([], 2)],
                         ids=["grace-is-over", "second-signal"])
def test_stop(certs, start, servers, options, signals):
    server = servers(echo_pieces)
    tunnel = Tunnel(start, server.port, "--ca", certs.root, *options)
    with tunnel.dial() as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        tunnel.program.process.send_signal(signal.SIGTERM)
        if signals == 2:
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):  # it saw the first
                while True:
                    tunnel.dial().close()
            tunnel.program.process.send_signal(signal.SIGINT)
        assert plain_reset(s)
    tunnel.program.finish()
    assert tunnel.line("end=stopped")["end"] == "stopped"


def test_reload(certs, start, servers, tmp_path):
    """Another trust store for connections to come; those that are open stay; a file with a
    mistake changes nothing."""
    server = servers(echo_pieces)
    config = tmp_path / "config"
    config.write_text(f"ca {certs.client}\n")
    tunnel = Tunnel(start, server.port, "--config", config)
    hup = lambda: tunnel.program.process.send_signal(signal.SIGHUP)  # noqa: E731

    reset_at_once(tunnel)
    config.write_text(f"ca {certs.root}\n")
    hup()
    tunnel.program.wait_for(r"^event=reloaded\n")
    with tunnel.dial() as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        config.write_text(f"ca {certs.client}\nno-such-setting\n")
        hup()
        tunnel.program.wait_for(r"^event=reload error=")
        assert b"line 2: no setting 'no-such-setting'" in tunnel.program.err
        s.sendall(b"y")
        assert s.recv(1) == b"y"
    assert through(tunnel, DATA) == DATA
    tunnel.stop()


def reload(tunnel, config, text, count=1):
    config.write_text(text)
    tunnel.program.process.send_signal(signal.SIGHUP)
    tunnel.program.wait_for(r"^event=reloaded\n", count)


@pytest.mark.parametrize("before, after", [("3", "0"), ("0", "3")])
def test_reload_of_the_idle_time(certs, start, servers, tmp_path, before, after):
    """Connections keep what they began with."""
    server = servers(echo_pieces)
    config = tmp_path / "config"
    config.write_text(f"idle-timeout {before}\n")
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--config", config)
    with tunnel.dial() as old:
        talk_for(old, 0)
        reload(tunnel, config, f"idle-timeout {after}\n")
        talk_for(old, 4)  # longer than the limit
        with tunnel.dial() as new:
            talk_for(new, 0)
            limited, free = (old, new) if after == "0" else (new, old)
            assert plain_reset(limited)
            time.sleep(0.3)
            talk_for(free, 0.1)
    tunnel.stop()


def test_reload_of_max_connections(certs, start, servers, tmp_path):
    """Who waits is taken as soon as there is room."""
    server = servers(echo_pieces)
    config = tmp_path / "config"
    config.write_text("max-connections 1\n")
    tunnel = Tunnel(start, server.port, "--ca", certs.root, "--config", config)
    with tunnel.dial() as one, tunnel.dial() as two:
        talk_for(one, 0.1)
        two.sendall(b"2")
        two.settimeout(0.3)
        with pytest.raises(TimeoutError):
            two.recv(1)
        two.settimeout(LIMIT)
        reload(tunnel, config, "max-connections 2\n")
        assert two.recv(1) == b"2"
        reload(tunnel, config, "max-connections 1\n", 2)
        talk_for(one, 0.1)
        talk_for(two, 0.1)
    tunnel.stop()


# ---- the command line ----

def test_port_in_use(certs):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        done = subprocess.run([BIN, "connect", "--listen", address, "127.0.0.1:1"], check=False,
                              capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    one_line(done, LISTEN, address, "in use")


@pytest.mark.parametrize("address", ["8080", "nothing.invalid:1", "127.0.0.1:99999", ":65536", "[::1]", "[]:1"])
def test_no_address(address):
    done = subprocess.run([BIN, "connect", "--listen", address, "127.0.0.1:1"], check=False,
                          capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    one_line(done, USAGE, address)
