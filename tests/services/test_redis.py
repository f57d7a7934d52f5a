# SPDX-License-Identifier: MIT
"""Redis behind tlsfd serve and redis-cli, which speaks TLS itself, in front of it; and both ends
plain with tlsfd connect in between."""
import os
import socket
import ssl
import subprocess

import pytest

from services import LIMIT, MEGABYTE, VERSIONS, digest, each_version, in_kernel, run, unused_port


@pytest.fixture(scope="module")
def redis(daemon, folder):
    """Its two targets."""
    place, port = folder(), unused_port()
    path = place.at("redis.sock")
    daemon(place, "redis-server", "--bind", "127.0.0.1", "--port", port, "--unixsocket", path, "--save", "",
           "--appendonly", "no", "--dir", place.path, port=port)
    return {"tcp": f"127.0.0.1:{port}", "unix": "unix:" + path}


CUT = ("truncated",)  # how redis-cli leaves
each_target = pytest.mark.parametrize("target", ["tcp", "unix"])


@pytest.fixture
def cli(certs):
    """redis-cli over TLS: what it prints. It leaves without close_notify."""
    def ask(port, *words, **how):
        return run("redis-cli", "-h", "localhost", "-p", port, "--tls", "--cacert", certs.root, "--sni", "localhost",
                   *words, **how)
    return ask


@each_target
def test_set_and_get(serve, redis, cli, target):
    server = serve(redis[target])
    assert cli(server.port, "SET", "name", "value") == b"OK\n"
    assert cli(server.port, "GET", "name") == b"value\n"
    for count in 1, 2:
        in_kernel(server.line(count, event="connection"), CUT, sni="localhost")


def test_one_big_value(serve, redis, cli):
    """8 MB there and back."""
    data = os.urandom(4 * MEGABYTE).hex().encode()
    server = serve(redis["tcp"])
    assert cli(server.port, "-x", "SET", "big", input=data) == b"OK\n"
    assert digest(cli(server.port, "--raw", "GET", "big")) == digest(data + b"\n")
    for count in 1, 2:
        in_kernel(server.line(count, event="connection"), CUT)


def bulk(*words):
    """A command as it is sent (RESP)."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


@each_target
def test_pipeline(serve, redis, cli, target):
    """10,000 commands without waiting for an answer, then their answers."""
    server = serve(redis[target])
    commands = b"".join(bulk(b"SET", b"key:%d" % i, b"value of %d" % i) for i in range(10_000))
    assert b"errors: 0, replies: 10000\n" in cli(server.port, "--pipe", input=commands)
    in_kernel(server.line(event="connection"), CUT)
    said = cli(server.port, "--raw", "MGET", *("key:%d" % i for i in range(0, 10_000, 9)))
    assert said.split(b"\n")[:-1] == [b"value of %d" % i for i in range(0, 10_000, 9)]
    in_kernel(server.line(2, event="connection"), CUT)


@each_version
def test_pipeline_of_python(serve, redis, certs, version):
    """Every answer is looked at; nothing is sent that small that it may wait."""
    server = serve(redis["tcp"], "--max-version", version, "--min-version", version)
    context = ssl.create_default_context(cafile=certs.root)
    with socket.create_connection(("localhost", server.port), LIMIT) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as peer:
        for _ in range(10):
            peer.sendall(b"".join(bulk(b"ECHO", b"%06d" % i) for i in range(1000)))
            wanted = b"".join(b"$6\r\n%06d\r\n" % i for i in range(1000))
            got = b""
            while len(got) < len(wanted):
                got += peer.recv(65536)
            assert got == wanted
        peer.unwrap()
    in_kernel(server.line(event="connection"), version=VERSIONS[version])


def test_publish_and_subscribe(serve, redis, cli, certs, start):
    """One connection waits, another sends: messages arrive one by one, in order."""
    server = serve(redis["unix"])
    listener = start("redis-cli", "-h", "localhost", "-p", str(server.port), "--tls", "--cacert", certs.root,
                     "SUBSCRIBE", "news")
    listener.wait_for(r"^subscribe\nnews\n1\n")
    for i in range(5):
        assert cli(server.port, "PUBLISH", "news", f"item {i}") == b"1\n"
        listener.wait_for(rf"^message\nnews\nitem {i}\n")
    listener.process.terminate()
    listener.process.wait(LIMIT)
    for count in range(1, 7):
        in_kernel(server.line(count, event="connection"), CUT)


def test_plain_at_both_ends(serve, redis, connect):
    """redis-cli without TLS - tlsfd connect - tlsfd serve - Redis."""
    server = serve(redis["unix"])
    tunnel = connect(server.port)
    said = subprocess.run(["redis-benchmark", "-p", str(tunnel.port), "-t", "set,get", "-n", "2000", "-c", "10", "-d",
                           "1000", "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
                          check=True).stdout
    assert b"GET:" in said and b"rror" not in said, said
    for log in server, tunnel:
        lines = [log.line(count, event="connection") for count in range(1, 21)]
        for line in lines:
            in_kernel(line)
        assert sum(int(line["in"]) for line in lines) > 1000 * 1000
