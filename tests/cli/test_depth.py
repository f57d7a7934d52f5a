# SPDX-License-Identifier: MIT
"""--verify-depth of tlsfd serve and tlsfd connect: a chain with two intermediate authorities."""
import os
import subprocess

import pytest

from connecting import UNVERIFIED, Server, connect, one_line, refused, tls
from serving import BIN, LIMIT, openssl, saying


class Deep:
    """root, first, second, leaf; chain: without the root."""

    def __init__(self, folder):
        self.folder = str(folder)
        self._sign("root", None, True)
        self._sign("first", "root", True)
        self._sign("second", "first", True)
        self._sign("leaf", "second", False)
        self.root, self.key, self.chain = (self.path(name) for name in ("root.pem", "leaf.key", "chain"))
        with open(self.chain, "wb") as out:
            for name in "leaf", "second", "first":
                with open(self.path(name + ".pem"), "rb") as cert:
                    out.write(cert.read())

    def path(self, name):
        return os.path.join(self.folder, name)

    def _sign(self, name, issuer, authority):
        cert, key, request, extensions = (self.path(name + end) for end in (".pem", ".key", ".csr", ".ext"))
        with open(extensions, "w", encoding="ascii") as out:
            out.write("basicConstraints=critical,CA:%s\nsubjectAltName=DNS:localhost\n" % str(authority).upper())
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=" + name, "-keyout", key, "-out", request)
        by = ["-CA", self.path(issuer + ".pem"), "-CAkey", self.path(issuer + ".key"), "-CAcreateserial"] \
            if issuer else ["-signkey", key]
        openssl("x509", "-req", "-in", request, "-days", "2", "-extfile", extensions, "-out", cert, *by)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return Deep(tmp_path_factory.mktemp("deep"))


class Ours:
    """A server's certificate, as Server wants it."""

    def __init__(self, deep):
        self.server, self.server_key = deep.chain, deep.key


def test_connect(deep):
    for options in [], ["--verify-depth", "2"]:
        server = Server(tls(Ours(deep), lambda peer: peer.unwrap() and None))
        assert connect(server.port, "--ca", deep.root, *options).returncode == 0
        server.finish()
    for depth in "1", "0":
        server = Server(lambda plain: refused(plain, Ours(deep)))
        one_line(connect(server.port, "--ca", deep.root, "--verify-depth", depth), UNVERIFIED, "chain too long")
        assert server.finish() == b""


def client(server, deep):
    """What s_client with the deep certificate receives."""
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-quiet", "-tls1_2",
                           "-cert", deep.path("leaf.pem"), "-key", deep.key, "-cert_chain", deep.chain],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LIMIT)
    return done.stdout


def test_serve(serve, one, backend, deep):
    target = backend(saying(b"hello")).target
    for options in [], ["--verify-depth", "2"]:
        server = serve("--forward", target, *one, "--client-ca", deep.root, *options)
        assert client(server, deep) == b"hello"
    server = serve("--forward", target, *one, "--client-ca", deep.root, "--verify-depth", "1")
    assert client(server, deep) == b""
    assert "chain too long" in server.line(event="connection", end="handshake")["error"]


def test_what_is_no_depth():
    for verb in ["serve"], ["connect", "localhost:1"]:
        for depth in "101", "-1", "many":
            done = subprocess.run([BIN, *verb, "--verify-depth", depth], capture_output=True, text=True, check=False)
            assert done.returncode == 2 and "number from 0 to 100" in done.stderr
