# SPDX-License-Identifier: MIT
"""Names at a reload: nothing stands still while the resolver is silent."""
import contextlib
import os
import re
import signal
import socket
import time

import pytest

from connecting import BIN, OK, PLACE, UNREACHABLE, TIMEOUT
from resolver import NAME, Resolver
from serving import answer, saying, wait_for
from test_tunnel import DATA, Tunnel, plain_reset, reset_at_once, servers, through  # noqa: F401 # pylint: disable=unused-import

CUT = b"cut"
RELOADED = r"^event=reloaded\n"
STAYS = r'^event=reload error="the settings stay as they were"\n'


@pytest.fixture
def resolver(tmp_path):
    made = Resolver(tmp_path)
    yield made
    made.close()


@pytest.fixture
def config(tmp_path, certs):
    path = tmp_path / "config"
    path.write_text(f"ca {certs.root}\n")
    return path


def talk(peer):
    """Sends back what comes; at a word, the end of TCP alone."""
    while data := peer.recv(1 << 16):
        if data == CUT:
            peer.shutdown(socket.SHUT_WR)
            return
        peer.sendall(data)
    peer.unwrap()


@pytest.fixture
def tunnel(certs, start, servers, resolver, config):  # noqa: F811 # pylint: disable=redefined-outer-name
    return Tunnel(start, servers(talk).port, "--name", "localhost", "--config", config, host=NAME,
                  command=resolver.around(BIN))


def hup(tunnel):
    tunnel.program.process.send_signal(signal.SIGHUP)


def echo(s, data=b"x"):
    s.sendall(data)
    assert s.recv(len(data)) == data


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def said(tunnel, pattern):
    return len(re.findall(pattern.encode(), bytes(tunnel.program.err), re.M))


def test_silence(certs, tunnel, resolver, config):
    """Tunnels that are open go on, new ones are made with the old settings, until the answer
    comes; then the new ones are there."""
    with tunnel.dial() as before:
        echo(before)
        config.write_text(f"ca {certs.client}\n")
        resolver.be("silence")
        hup(tunnel)
        resolver.wait_for_a_question()
        echo(before)
        assert through(tunnel, DATA) == DATA
        with tunnel.dial() as meanwhile:
            echo(meanwhile)
            assert not said(tunnel, "^event=reload")
            resolver.be("answer")
            tunnel.program.wait_for(RELOADED)
            reset_at_once(tunnel)
            echo(before)
            echo(meanwhile)
    wait_for(lambda: not children(tunnel.program.process.pid))
    tunnel.stop()
    assert said(tunnel, f"tx={PLACE} rx={PLACE} ") >= 3


def test_ends_are_told_meanwhile(tunnel, resolver):
    """Nothing keeps a connection open that has been closed."""
    with tunnel.dial() as s:
        echo(s)
        resolver.be("silence")
        hup(tunnel)
        resolver.wait_for_a_question()
        s.sendall(CUT)
        s.settimeout(20)  # the resolver would wait for 30
        assert plain_reset(s)
    assert tunnel.line()["end"] == "truncated"
    tunnel.stop()


def test_no_such_name(certs, tunnel, resolver, config):
    config.write_text(f"ca {certs.client}\n")
    resolver.be("refuse")
    hup(tunnel)
    tunnel.program.wait_for(STAYS)
    tunnel.program.wait_for(rf"^tlsfd connect: {NAME}:\d+: Name or service not known\n")
    assert through(tunnel, DATA) == DATA
    resolver.be("answer")
    hup(tunnel)
    tunnel.program.wait_for(RELOADED)
    reset_at_once(tunnel)
    tunnel.stop()


def test_no_answer_in_time(tunnel, resolver, config):
    with config.open("a") as more:
        more.write("timeout 0.5\n")
    resolver.be("silence")
    hup(tunnel)
    tunnel.program.wait_for(STAYS)
    tunnel.program.wait_for(rf"^tlsfd connect: {NAME}:\d+: Connection timed out\n")
    wait_for(lambda: not children(tunnel.program.process.pid))
    assert through(tunnel, DATA) == DATA
    tunnel.stop()


def test_the_next_signal(certs, tunnel, resolver, config):
    """It is the last one that counts, and it asks anew."""
    resolver.be("silence")
    hup(tunnel)
    resolver.wait_for_a_question()
    first = children(tunnel.program.process.pid)
    config.write_text(f"ca {certs.client}\n")
    hup(tunnel)
    tunnel.program.wait_for('^event=reload error="the next SIGHUP came before the addresses"\n')
    assert through(tunnel, DATA) == DATA
    assert len(first) == 1
    wait_for(lambda: len(children(tunnel.program.process.pid)) == 1 and children(tunnel.program.process.pid) != first)
    resolver.be("answer")
    tunnel.program.wait_for(RELOADED)
    reset_at_once(tunnel)
    tunnel.stop()
    assert said(tunnel, RELOADED) == 1


def test_its_process_is_killed(tunnel, resolver):
    resolver.be("silence")
    hup(tunnel)
    resolver.wait_for_a_question()
    child, = children(tunnel.program.process.pid)
    os.kill(child, signal.SIGKILL)
    tunnel.program.wait_for(STAYS)
    tunnel.program.wait_for("the process that asked for it has died")
    assert through(tunnel, DATA) == DATA
    tunnel.stop()


def test_stop(tunnel, resolver):
    resolver.be("silence")
    hup(tunnel)
    resolver.wait_for_a_question()
    child, = children(tunnel.program.process.pid)
    began = time.monotonic()
    tunnel.stop()
    assert time.monotonic() - began < 20  # the resolver would wait for 30
    wait_for(lambda: not os.path.exists("/proc/%d" % child))


# ---- serve: the same, and workers are replaced meanwhile ----

@pytest.fixture
def server(serve, one, backend, resolver):
    port = backend(saying(b"hello")).target.split(":")[1]
    return serve("--forward", f"{NAME}:{port}", *one, "--workers", "1", around=resolver.around())


def asking(server):
    """The process that asks."""
    found = []
    for pid in server.children():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as comm:  # it may end meanwhile
            found += [pid] * (comm.read() == "tlsfd-lookup\n")
    return found


def works(server):
    with server.connect() as connection:
        return answer(connection) == b"hello"


def test_serve_silence(server, resolver):
    resolver.be("silence")
    server.signal(signal.SIGHUP)
    resolver.wait_for_a_question()
    assert works(server)
    for role in "handshake", "data":
        os.kill(server.workers(role)[0], signal.SIGKILL)
        server.line(event="worker", role=role, error="killed by signal 9; it is replaced")
        assert works(server)
    server.signal(signal.SIGHUP)
    server.line(event="reload", error="the next SIGHUP came before the addresses; the old settings stay")
    resolver.be("answer")
    assert server.line(event="reload", generation="2")
    wait_for(lambda: not asking(server))
    assert works(server)


def test_serve_no_such_name(server, resolver):
    resolver.be("refuse")
    server.signal(signal.SIGHUP)
    assert re.fullmatch(rf"forward {NAME}:\d+: Name or service not known; the old settings stay",
                        server.line(event="reload")["error"])
    assert works(server)


def test_serve_its_process_is_killed(server, resolver):
    resolver.be("silence")
    server.signal(signal.SIGHUP)
    resolver.wait_for_a_question()
    os.kill(asking(server)[0], signal.SIGKILL)
    assert "the process that asked for it has died; the old settings stay" in server.line(event="reload")["error"]
    assert works(server)


def test_serve_stop(server, resolver):
    resolver.be("silence")
    server.signal(signal.SIGHUP)
    resolver.wait_for_a_question()
    child, = asking(server)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == OK
    assert time.monotonic() - began < 20
    wait_for(lambda: not os.path.exists(f"/proc/{child}"))


# ---- the start ----

@pytest.mark.parametrize("mode, limit, status, why", [("refuse", 25, UNREACHABLE, "Name or service not known"),
                                                      ("silence", 1, TIMEOUT, "Connection timed out")])
def test_start(start, resolver, mode, limit, status, why):
    resolver.be(mode)
    began = time.monotonic()
    program = start(*resolver.around(BIN), "connect", "--listen", "127.0.0.1:0", "--timeout", str(limit), f"{NAME}:443")
    program.finish(status)
    assert program.err.decode() == f"tlsfd connect: {NAME}:443: {why}\n"
    assert time.monotonic() - began < 25  # the resolver would wait for 30
