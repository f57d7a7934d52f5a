# SPDX-License-Identifier: MIT
"""Sessions that tlsfd connect keeps: in a file, and in memory with --listen; against openssl
s_server, gnutls-serv and tlsfd serve.
"""
import contextlib
import os
import re
import signal
import socket
import ssl
import stat
import threading
import time

import pytest

from connecting import (BIN, LIMIT, OK, PLACE, UNVERIFIED, USAGE, V12, V13, Server, connect,
                        each_version, exchange, listening_port, need, one_line, said)
from serving import Backend, echo
from test_starttls import DIALOGUES, each_protocol
from test_tunnel import Tunnel, echo_pieces, reset_at_once, servers, through  # noqa: F401

HELLO = b"hello\n"


# ---- servers ----

def name(version):
    return "1.2" if version == V12 else "1.3"


def s_server(start, certs, version, *options):
    program = start("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certs.server, "-key",
                    certs.server_key, "-rev", "-tls1_2" if version == V12 else "-tls1_3", *options)
    return int(program.wait_for(r"^ACCEPT 127\.0\.0\.1:(\d+)\n").group(1)), HELLO[-2::-1] + b"\n"


def gnutls_serv(start, certs, version):
    need("gnutls-serv")
    program = start("gnutls-serv", "-p", "0", "--x509certfile", certs.server, "--x509keyfile", certs.server_key,
                    "--disable-client-cert", "--echo", "--priority",
                    "NORMAL:-VERS-ALL:+VERS-TLS" + name(version))
    program.wait_for(r"listening on IPv4 .*done\n")
    return listening_port(program.process), HELLO


def tlsfd_serve(start, certs, version):
    program = start(BIN, "serve", "--listen", "127.0.0.1:0", "--forward", Backend(echo).target, "--workers", "2",
                    "--cert", certs.server, "--key", certs.server_key, "--min-version", name(version),
                    "--max-version", name(version))
    return int(program.wait_for(r"^event=listening addr=\S+:(\d+)\n").group(1)), HELLO


each_server = pytest.mark.parametrize("serve", [s_server, gnutls_serv, tlsfd_serve], ids=lambda f: f.__name__)


def served(context, plain):
    """A line, sent back."""
    with context.wrap_socket(plain, server_side=True) as peer:
        resumed = peer.session_reused
        peer.sendall(exchange(peer))
        peer.unwrap()
        return resumed


def server_context(certs, *prepares):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.server, certs.server_key)
    for prepare in prepares:
        prepare(context)
    return context


# ---- a file ----

def ask(port, path, certs, *options, **where):
    done = connect(port, "-v", "--ca", certs.root, "--session", path, *options, stdin=HELLO, **where)
    assert done.returncode == OK, done.stderr
    return said(done)["resumed"], done


@each_version
@each_server
def test_file(certs, start, tmp_path, serve, version):
    port, answer = serve(start, certs, version)
    path = tmp_path / "session"
    for number in range(4):
        if number == 3:  # who has the file open goes on reading what it was
            os.link(path, tmp_path / "kept")
            before = path.read_bytes()
        resumed, done = ask(port, path, certs)
        assert (resumed, done.stdout) == ("yes" if number else "no", answer)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert set(os.listdir(tmp_path)) <= {"session", "kept"}
        assert b"event=session" not in done.stderr
    assert (tmp_path / "kept").read_bytes() == before


def test_a_ticket_is_used_once(certs, tmp_path):
    """The server gives none the second time: the file goes. A file of TLS 1.2 would stay."""
    context = server_context(certs)
    path = tmp_path / "session"
    server = Server(lambda plain: served(context, plain))
    ask(server.port, path, certs)
    assert server.finish() is False and path.exists()
    context.num_tickets = 0
    server = Server(lambda plain: served(context, plain))
    assert ask(server.port, path, certs)[0] == "yes"
    assert server.finish() is True and not path.exists()


@each_protocol
def test_file_behind_starttls(certs, tmp_path, protocol):
    context = server_context(certs)

    def talk(plain):
        DIALOGUES[protocol].play(plain)
        return served(context, plain)

    for number in range(2):
        server = Server(talk)
        resumed, done = ask(server.port, tmp_path / "session", certs, "--starttls", protocol)
        assert (resumed, server.finish()) == (("no", False), ("yes", True))[number]
        assert done.stdout == HELLO


def session_line(done):
    return re.search(rb"^event=session file=\S+ error=\"(.*)\"\n", done.stderr, re.M).group(1).decode()


def test_file_that_is_refused(certs, start, tmp_path):
    """By a server that does not know it any more: a full handshake, and a new session."""
    path = tmp_path / "session"
    for _ in range(2):
        port, answer = s_server(start, certs, V13)
        resumed, done = ask(port, path, certs)
        assert (resumed, done.stdout) == ("no", answer)
    assert "not resumed" in session_line(done)
    assert ask(port, path, certs)[0] == "yes"


def damaged(path):
    path.write_bytes(path.read_bytes()[:-20])


def for_all_to_write(path):
    path.chmod(0o622)


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm, words", [(damaged, "not resumed"), (for_all_to_write, "somebody else"),
                                         (emptied, None)])
def test_bad_file(certs, start, tmp_path, harm, words):
    """It is a full handshake, and the file is good again."""
    port, _ = s_server(start, certs, V13)
    path = tmp_path / "session"
    ask(port, path, certs)
    harm(path)
    resumed, done = ask(port, path, certs)
    assert resumed == "no"
    assert words is None or words in session_line(done)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(port, path, certs)[0] == "yes"


def test_alien_file_stays(certs, start, tmp_path):
    port, _ = s_server(start, certs, V13)
    path = tmp_path / "letter"
    path.write_text("Dear reader")
    resumed, done = ask(port, path, certs)
    assert resumed == "no" and "this is no session" in session_line(done)
    assert path.read_text() == "Dear reader"
    os.mkfifo(tmp_path / "fifo")  # nobody writes to it, and nobody waits
    assert "this is no session" in session_line(ask(port, tmp_path / "fifo", certs)[1])


def test_file_that_can_not_be_written(certs, start, tmp_path):
    port, _ = s_server(start, certs, V13)
    path = tmp_path / "no" / "such" / "folder"
    done = connect(port, "--ca", certs.root, "--session", path, stdin=HELLO)
    one_line(done, OK, str(path), "No such file")


def test_no_resumption_without_trust(certs, start, tmp_path):
    """The chain of the saved session has to be one that we trust now, for the name we want now."""
    port, _ = s_server(start, certs, V13)
    path = tmp_path / "session"
    done = connect(port, "-v", "--insecure-no-verify", "--session", path, stdin=HELLO)
    assert done.returncode == OK
    kept = path.read_bytes()
    one_line(connect(port, "--session", path), UNVERIFIED)  # the system's trust store
    one_line(connect(port, "--ca", certs.root, "--name", "else.example", "--session", path), UNVERIFIED)
    assert path.read_bytes() == kept
    assert ask(port, path, certs)[0] == "yes"  # it is the server's, after all


def test_session_of_another_client(certs, start, tmp_path):
    """The server granted it to a certificate that we don't present now."""
    port, _ = s_server(start, certs, V13, "-Verify", "1", "-CAfile", certs.root)
    path = tmp_path / "session"
    ask(port, path, certs, "--cert", certs.client, "--key", certs.client_key)
    assert ask(port, path, certs, "--cert", certs.client, "--key", certs.client_key)[0] == "yes"
    done = connect(port, "-v", "--ca", certs.root, "--session", path, stdin=HELLO)
    assert done.returncode != OK and b"resumed=yes" not in done.stderr


@pytest.mark.parametrize("more", [["--listen", "127.0.0.1:0"], ["--no-resumption"]])
def test_options_that_exclude_each_other(tmp_path, more):
    one_line(connect(1, "--session", tmp_path / "session", *more), USAGE, "--session and --", "exclude")


# ---- memory ----

def resumed_of(tunnel, count):
    """What the lines of so many connections say."""
    tunnel.program.wait_for(r"^event=connection .*\n", count)
    lines = re.findall(r"^event=connection .*", tunnel.program.err.decode(), re.M)
    assert len(lines) == count and all(" tx=%s rx=%s " % (PLACE, PLACE) in line for line in lines), lines
    return [re.search(r" resumed=(\w*)", line).group(1) for line in lines]


def talk_through(tunnel, answer, count):
    for _ in range(count):
        assert through(tunnel, HELLO) == answer


@each_version
@each_server
def test_memory(certs, start, serve, version):
    port, answer = serve(start, certs, version)
    tunnel = Tunnel(start, port, "--ca", certs.root)
    talk_through(tunnel, answer, 5)
    assert resumed_of(tunnel, 5) == ["no"] + ["yes"] * 4
    tunnel.stop()


def test_no_resumption(certs, start):
    port, answer = s_server(start, certs, V13)
    tunnel = Tunnel(start, port, "--ca", certs.root, "--no-resumption")
    talk_through(tunnel, answer, 3)
    assert resumed_of(tunnel, 3) == ["no"] * 3
    tunnel.stop()


@contextlib.contextmanager
def listening(start, certs, *options):
    """A tunnel, and the listener that it connects to."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        tunnel = Tunnel(start, listener.getsockname()[1], "--ca", certs.root, *options)
        yield tunnel, listener
        tunnel.stop()


def serve_at_once(tunnel, listener, context, count):
    """How many of these connections are resumed; each had said hello before one was answered."""
    with contextlib.ExitStack() as stack:
        ours = [stack.enter_context(tunnel.dial()) for _ in range(count)]
        theirs = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
        for plain in theirs:
            assert plain.recv(1, socket.MSG_PEEK)
        for s in ours:
            s.shutdown(socket.SHUT_WR)
        resumed = [served(context, plain) for plain in theirs]
        for s in ours:
            assert s.recv(1) == b""
    return resumed.count(True)


def test_several_at_once_have_a_ticket_each(certs, start):
    """Of two that the server gives with each connection one is kept; none is used twice."""
    context = server_context(certs)
    with listening(start, certs) as (tunnel, listener):
        assert serve_at_once(tunnel, listener, context, 5) == 0
        resumed_of(tunnel, 5)
        context.num_tickets = 0
        assert serve_at_once(tunnel, listener, context, 3) == 3
        resumed_of(tunnel, 8)
        assert serve_at_once(tunnel, listener, context, 8) == 2


def test_memory_is_bounded(certs, start):
    """Of 40 tickets the newest 32 stay."""
    context = server_context(certs)
    with listening(start, certs) as (tunnel, listener):
        serve_at_once(tunnel, listener, context, 40)
        resumed_of(tunnel, 40)
        assert serve_at_once(tunnel, listener, context, 40) == 32


def private_bytes(tunnel):
    with open("/proc/%d/smaps_rollup" % tunnel.program.process.pid, encoding="ascii") as file:
        return int(re.search(r"^Private_Dirty:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024


@pytest.mark.skipif(PLACE == "user", reason="OpenSSL stays where it makes the records")
def test_nobody_waits_for_another_ticket(certs, start, servers):
    """It would take 20 KB of memory and more for each of those that are idle."""
    tunnel = Tunnel(start, servers(echo_pieces).port, "--ca", certs.root)
    with contextlib.ExitStack() as stack:
        def add(count):
            for _ in range(count):
                s = stack.enter_context(tunnel.dial())
                s.sendall(b"x")
                assert s.recv(1) == b"x"
            return private_bytes(tunnel)

        few, many = add(20), add(100)
        assert (many - few) / 100 < 4000
    tunnel.stop()


def test_no_ticket_comes(certs, start):
    """The waiting for one ends, and nothing else."""
    context = server_context(certs)
    context.num_tickets = 0
    with listening(start, certs) as (tunnel, listener), tunnel.dial() as s, listener.accept()[0] as plain:
        def serve():
            with context.wrap_socket(plain, server_side=True) as peer:
                echo_pieces(peer)

        server = threading.Thread(target=serve)
        server.start()
        end = time.monotonic() + 5.5
        while time.monotonic() < end:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            time.sleep(0.5)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        server.join(LIMIT)


def test_refused_by_a_server_that_has_restarted(certs, start):
    """Full handshakes, and what it gives then is resumed."""
    with listening(start, certs) as (tunnel, listener):
        for context in server_context(certs), server_context(certs):
            assert serve_at_once(tunnel, listener, context, 1) == 0
            assert serve_at_once(tunnel, listener, context, 1) == 1
        assert resumed_of(tunnel, 4) == ["no", "yes", "no", "yes"]


def test_starttls_in_memory(certs, start):
    context = server_context(certs)
    with listening(start, certs, "--starttls", "smtp") as (tunnel, listener):
        for _ in range(3):
            with tunnel.dial() as s, listener.accept()[0] as plain:
                s.sendall(HELLO)
                s.shutdown(socket.SHUT_WR)
                DIALOGUES["smtp"].play(plain)
                served(context, plain)
                assert s.recv(100) == HELLO
        assert resumed_of(tunnel, 3) == ["no", "yes", "yes"]


def test_reload_keeps_sessions_but_not_trust(certs, start, tmp_path):
    """A reload keeps them. One that trusts others makes them useless: there is no connection at all.
    And one that goes back finds none that would be for the wrong name."""
    port, answer = s_server(start, certs, V13, "-num_tickets", "4")
    config = tmp_path / "config"
    config.write_text(f"ca {certs.root}\n")
    tunnel = Tunnel(start, port, "--config", config)
    reloads = 0

    def reload(text):
        nonlocal reloads
        config.write_text(text)
        tunnel.program.process.send_signal(signal.SIGHUP)
        reloads += 1
        tunnel.program.wait_for(r"^event=reloaded\n", reloads)

    talk_through(tunnel, answer, 2)
    reload(f"ca {certs.root}\nidle-timeout 60\n")
    talk_through(tunnel, answer, 1)
    assert resumed_of(tunnel, 3) == ["no", "yes", "yes"]
    reload(f"ca {certs.client}\n")
    reset_at_once(tunnel)
    line = tunnel.line("end=handshake")
    assert "certificate" in line["error"] and line["resumed"] in ("", "no")
    reload(f"ca {certs.root}\nname wrong.example\n")
    reset_at_once(tunnel)
    reload(f"ca {certs.root}\n")
    talk_through(tunnel, answer, 2)
    tunnel.program.wait_for(r"^event=connection .*end=closed\n", 5)
    assert re.findall(r" resumed=(\w+) .*end=closed$", tunnel.program.err.decode(), re.M)[3:] == ["no", "yes"]
    tunnel.stop()
