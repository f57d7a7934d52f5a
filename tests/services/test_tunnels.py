# SPDX-License-Identifier: MIT
"""stunnel, hitch and HAProxy at the other end of tlsfd connect and tlsfd serve."""
import os
import socket
import threading

import pytest

from serving import Backend, echo
from services import BIN, LIMIT, MEGABYTE, VERSIONS, Daemon, digest, each_version, in_kernel, run, unused_port

AMOUNTS = {"1.2": 5 * MEGABYTE, "1.3": 20 * MEGABYTE}


@pytest.fixture
def echoes():
    """A plain service that sends back what comes, and an end for an end: its target."""
    backend = Backend(echo)
    yield backend.target
    backend.close()


# ---- how they are set up ----

def stunnel_config(version, port, target, lines):
    return (f"foreground = yes\npid =\nsyslog = no\n[tls]\naccept = 127.0.0.1:{port}\nconnect = {target}\n"
            f"sslVersion = TLSv{version}\n{lines}")


def stunnel_server(place, certs, version, port, target):
    lines = f"cert = {certs.server}\nkey = {certs.server_key}\n"
    return ["stunnel", place.write("stunnel.conf", stunnel_config(version, port, target, lines))]


def stunnel_client(place, certs, version, port, target):
    lines = f"client = yes\nCAfile = {certs.root}\nverifyChain = yes\ncheckHost = localhost\nsni = localhost\n"
    return ["stunnel", place.write("stunnel.conf", stunnel_config(version, port, target, lines))]


def pem(place, certs):
    parts = []
    for path in certs.server, certs.server_key:
        with open(path, encoding="ascii") as file:
            parts.append(file.read())
    return place.write("server-with-key.pem", "".join(parts))


def hitch_server(place, certs, version, port, target):
    host, _, number = target.partition(":")
    return ["hitch", "--config", place.write("hitch.conf", f"""
frontend = "[127.0.0.1]:{port}"
backend = "[{host}]:{number}"
pem-file = "{pem(place, certs)}"
workers = 1
tls-protos = TLSv{version}
user = "nobody"
group = "nogroup"
""")]


def haproxy_config(place, listen):
    return ["haproxy", "-f", place.write("haproxy.cfg", f"""
global
    maxconn 100
    nbthread 1
    ssl-default-server-options no-tls-tickets
defaults
    mode tcp
    timeout connect 30s
    timeout client 30s
    timeout server 30s
listen tls
{listen}
""")]


def haproxy_server(place, certs, version, port, target):
    return haproxy_config(place, f"""
    bind 127.0.0.1:{port} ssl crt {pem(place, certs)} ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}
    server plain {target}""")


def haproxy_client(place, certs, version, port, target):
    return haproxy_config(place, f"""
    bind 127.0.0.1:{port}
    server tls {target} ssl ca-file {certs.root} verify required verifyhost localhost sni str(localhost) \
ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}""")


@pytest.fixture
def peer(folder, certs):
    """Starts one of them: its port."""
    running = []

    def begin(program, version, target):
        place, port = folder(), unused_port()
        running.append(Daemon(place, *program(place, certs, version, port, target), port=port))
        return port

    yield begin
    for one in running:
        one.end()


# ---- what goes through ----

def there_and_back(port, version, half_close):
    """So much there and the same back at the same time; a clean end of both directions. In TLS 1.2
    none can end alone."""
    data = os.urandom(AMOUNTS[version])
    half_close &= version == "1.3"

    def send():
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)

    with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        got = bytearray()
        while len(got) < len(data) and (piece := connection.recv(1 << 18)):
            got += piece
        sender.join(LIMIT)
        assert digest(got) == digest(data)
        if not half_close:
            connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def check(log, version):
    """The line of the connection that all of it went through."""
    amount = str(AMOUNTS[version])
    in_kernel(log.line(event="connection", **{"in": amount, "out": amount}), version=VERSIONS[version])


@each_version
@pytest.mark.parametrize("program, half_close", [(stunnel_server, False), (haproxy_server, True),
                                                 (hitch_server, False)])
def test_server(peer, connect, echoes, program, half_close, version):
    """A plain client - tlsfd connect - one of them - a plain service. Behind a half-close stunnel
    5.68 leaves what is still unread of the service when that ends ("Read socket closed (HUP)")."""
    tunnel = connect(peer(program, version, echoes))
    there_and_back(tunnel.port, version, half_close)
    check(tunnel, version)


@pytest.mark.parametrize("program", [stunnel_server, haproxy_server])
def test_server_of_stdin(peer, certs, echoes, program):
    data = os.urandom(5 * MEGABYTE)
    port = peer(program, "1.3", echoes)
    assert digest(run(BIN, "connect", "--require-kernel", "--ca", certs.root, f"localhost:{port}",
                      input=data)) == digest(data)


@each_version
@pytest.mark.parametrize("program", [stunnel_client, haproxy_client])
def test_client(peer, serve, echoes, program, version):
    """A plain client - one of them - tlsfd serve - a plain service."""
    server = serve(echoes)
    there_and_back(peer(program, version, f"127.0.0.1:{server.port}"), version, True)
    check(server, version)
