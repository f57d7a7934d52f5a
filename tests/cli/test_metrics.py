# SPDX-License-Identifier: MIT
"""tlsfd serve --metrics: what it says, who says it, and what is not forgotten.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import glob
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import BIN, LIMIT, echo, expected_place
from test_roles import forms_of_key, has, needs_root

HERE = ("--metrics", "127.0.0.1:0")


def get(server, path="/metrics", **how):
    url = "http://%s%s" % (server.line(event="metrics")["addr"], path)
    with urllib.request.urlopen(urllib.request.Request(url, **how), timeout=LIMIT) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return response.read().decode()


def metrics(server):
    """Each sample as name{label="value"}: its number."""
    samples = {}
    for family in text_string_to_metric_families(get(server)):
        assert family.type in ("counter", "gauge") and family.documentation
        for sample in family.samples:
            labels = ",".join('%s="%s"' % pair for pair in sorted(sample.labels.items()))
            samples["%s{%s}" % (sample.name, labels) if labels else sample.name] = sample.value
    return samples


def soon(server, **expected):
    """The numbers, when these have come."""
    limit = time.monotonic() + LIMIT
    while True:
        now = metrics(server)
        if all(now[name] == value for name, value in expected.items()) or time.monotonic() > limit:
            assert {name: now[name] for name in expected} == expected
            return now
        time.sleep(0.01)


def ended(end):
    return 'tlsfd_connections_ended_total{end="%s"}' % end


def talk(server, n=1, size=1000):
    for _ in range(n):
        with server.connect() as connection:
            connection.sendall(b"x" * size)
            while size > 0 and connection.recv(size) == b"":
                pytest.fail("a cut")
            connection.unwrap()


def test_as_the_log_says(serve, one, backend):
    place = expected_place()
    server = serve("--workers", "2", "--forward", backend(echo).target, *one, *HERE)
    handshakes = 'tlsfd_handshakes_total{rx="%s",tx="%s"}' % (place, place)
    assert metrics(server)[handshakes] == 0
    talk(server, 6)
    stays = server.connect()
    stays.sendall(b"y")
    assert stays.recv(1) == b"y"
    socket.create_connection(("127.0.0.1", server.port)).close()
    server.line(6, event="connection", end="closed")
    lines = server.matching(event="connection", end="closed")
    now = soon(server, **{handshakes: 7, "tlsfd_connections": 1, "tlsfd_connections_in_handshake": 0,
                          ended("closed"): 6, ended("handshake"): 1})
    assert now['tlsfd_bytes_total{direction="in"}'] == sum(int(line["in"]) for line in lines) == 6000
    assert now['tlsfd_bytes_total{direction="out"}'] == 6000
    assert now['tlsfd_build_info{version="%s"}' % subprocess.check_output(
        [BIN, "--version"], text=True).split()[1]] == 1
    reasons = {name: n for name, n in now.items() if name.startswith("tlsfd_user_space_total")}
    if place == "kernel":
        assert not reasons
    else:
        assert reasons == {'tlsfd_user_space_total{why="%s"}' % lines[0]["why"]: 7}
    stays.close()
    soon(server, **{"tlsfd_connections": 0, ended("truncated"): 1})


def test_reason_of_user_space(serve, one, backend):
    """A cipher that no kernel has."""
    server = serve("--forward", backend(echo).target, *one, *HERE, "--max-version", "1.2",
                   "--ciphers", "ECDHE-ECDSA-AES128-SHA256")
    talk(server)
    line = server.line(event="connection")
    assert line["tx"] == "user" and line["why"]
    now = metrics(server)
    assert now['tlsfd_user_space_total{why="%s"}' % line["why"]] == 1
    assert now['tlsfd_handshakes_total{rx="user",tx="user"}'] == 1


def test_nothing_is_forgotten(serve, one, backend):
    """Processes are killed, and settings read again: what was counted stays."""
    server = serve("--workers", "1", "--forward", backend(echo).target, *one, *HERE)
    talk(server, 3)
    soon(server, **{ended("closed"): 3})
    lost = server.connect()
    soon(server, tlsfd_connections=1)
    for role in "data", "handshake":
        for pid in server.workers(role):
            os.kill(pid, signal.SIGKILL)
        server.line(event="worker", role=role)
    lost.close()
    soon(server, tlsfd_connections=0)  # it has gone with its process
    talk(server, 2)
    server.signal(signal.SIGHUP)
    server.line(event="reload")
    talk(server, 2)
    now = soon(server, **{ended("closed"): 7})
    assert now['tlsfd_processes_replaced_total{role="data"}'] == 1
    assert now['tlsfd_processes_replaced_total{role="handshake"}'] == 1
    assert now['tlsfd_reloads_total{result="done"}'] == 1
    assert sum(n for name, n in now.items() if name.startswith("tlsfd_handshakes_total")) == 8


def test_the_metrics_process_is_replaced(serve, one, backend):
    server = serve("--forward", backend(echo).target, *one, *HERE)
    talk(server, 2)
    soon(server, **{ended("closed"): 2})
    for pid in server.workers("metrics"):
        os.kill(pid, signal.SIGKILL)
        server.line(event="worker", role="metrics", pid=str(pid), error="killed by signal 9; it is replaced")
    soon(server, **{ended("closed"): 2})


@needs_root
def test_what_it_has(serve, ca, backend):
    """No key, and nothing that peers have sent."""
    cert, key = ca.issue("one.example")
    server = serve("--forward", backend(echo).target, "--cert", cert, "--key", key, *HERE)
    secret = os.urandom(16).hex().encode()
    with server.connect() as connection:
        connection.sendall(secret)
        assert connection.recv(100)
        get(server)
        pid, = server.workers("metrics")
        assert not has(pid, secret, *forms_of_key(key))
        assert has(pid, b"tlsfd_connections_ended_total")
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        text = status.read()
    assert "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text


def test_it_is_confined(serve, one, backend):
    server = serve("--forward", backend(echo).target, *one, *HERE, "--self-check")
    line = server.line(event="self-check", role="metrics")
    allowed = {name for name, said in line.items() if said == "allowed"}
    assert not allowed and line["socket-tcp"] == "EPERM" and line["accept"] == "EBADF", line


@pytest.mark.parametrize("path, method, status", [
    ("/", "GET", 404), ("/metrics/", "GET", 404), ("/metrics", "POST", 405), ("/metrics", "DELETE", 405)])
def test_other_requests(serve, one, backend, path, method, status):
    server = serve("--forward", backend(echo).target, *one, *HERE)
    with pytest.raises(urllib.error.HTTPError) as error:
        get(server, path, method=method, data=b"x" * 100000 if method == "POST" else None)
    assert error.value.code == status
    assert metrics(server)


def test_bad_clients(serve, one, backend):
    """Who says nothing, half of it, or no HTTP keeps nobody else from asking."""
    server = serve("--forward", backend(echo).target, *one, *HERE)
    host, port = server.line(event="metrics")["addr"].split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(20)]
    for i, client in enumerate(held):
        client.sendall((b"", b"GET /met", b"\x16\x03\x01\x02\x00", b"GET " + b"x" * 20000)[i % 4])
    assert metrics(server)
    for client in held:
        client.close()
    assert len(server.workers("metrics")) == 1 and not server.matching(event="worker")


def refused(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stderr


def test_bad_addresses(serve, one, backend):
    server = serve("--forward", backend(echo).target, *one, *HERE)
    options = (BIN, "serve", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9", *one, "--metrics")
    assert refused(*options, server.line(event="metrics")["addr"])[0] == 5
    status, said = refused(*options, "example.org:1")
    assert status == 2 and "metrics" in said and "in digits" in said


@needs_root
def test_without_the_library(one):
    """libmicrohttpd is only needed with --metrics, and its absence is said at once."""
    hide = "; ".join("mount --bind /dev/null " + path for path in glob.glob("/usr/lib/*/libmicrohttpd.so.12"))
    command = ["unshare", "--mount", "sh", "-c", hide + '; exec "$@"', "sh", BIN, "serve", "--check-config",
               "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9", *one]
    assert refused(*command)[0] == 0
    status, said = refused(*command, *HERE)
    assert status == 4 and "apt install libmicrohttpd12" in said
