# SPDX-License-Identifier: MIT
"""The EXAMPLES of tlsfd-connect(1), as they are printed there, in a world where the names in
them exist: the lab's guest."""
import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest

from connecting import BIN, LIMIT, OK, PLACE, Server, demand, receive_all, wrap

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../man/tlsfd-connect.1")


def examples():
    """Each a shell command; a file that an example shows comes with its name."""
    with open(PAGE, encoding="ascii") as page:
        text = page.read().partition(".Sh EXAMPLES")[2].partition("\n.Sh ")[0]
    found, files = [], {}
    for block in re.findall(r"^\.Bd [^\n]*\n(.*?)^\.Ed", text, re.S | re.M):
        for command in re.split(r"^\$ ", block.replace("\\e", "\\"), flags=re.M)[1:]:
            shown = re.match(r"cat (\S+)\n", command)
            if shown:
                files[shown[1]] = command[shown.end():]
            else:
                found.append(command.strip())
    return found, files


COMMANDS, FILES = examples()


class World:
    """A folder with the files of the examples, their names in /etc/hosts, our root as the
    system's."""

    def __init__(self, folder, certs):
        self.folder, self.certs = folder, certs
        self.server, self.key = certs._signed("world", "/CN=example.org",
                                              "subjectAltName=DNS:example.org,DNS:*.example.org")
        for name, text in FILES.items():
            (folder / name).write_text(text)
        for name, source in (("ca.pem", certs.root), ("client.pem", certs.client),
                             ("client.key", certs.client_key)):
            shutil.copy(source, folder / name)
        (folder / "dump").write_bytes(b"all of it" * 1000)
        os.symlink(BIN, folder / "tlsfd")
        self.env = dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}", SSL_CERT_FILE=certs.root)

    def wrap(self, plain, prepare=lambda context: None):
        def both(context):
            context.load_cert_chain(self.server, self.key)
            prepare(context)
        return wrap(plain, self.certs, both)

    def begin(self, word):
        [command] = [c for c in COMMANDS if word in c]
        return subprocess.Popen(["sh", "-c", command if "|" in command else "exec " + command], cwd=self.folder, env=self.env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def run(self, word):
        with self.begin(word) as process:
            out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == OK, err
        return out, err.decode()


@pytest.fixture
def world(tmp_path, certs):
    if socket.gethostname() != "tlsfd-lab":
        pytest.skip("names and ports of the examples are the lab's")
    with open("/etc/hosts", "r+", encoding="ascii") as hosts:
        before = hosts.read()
        hosts.write("\n127.0.0.1 example.org mail.example.org db.example.org\n")
        hosts.flush()
        yield World(tmp_path, certs)
        hosts.seek(0)
        hosts.truncate()
        hosts.write(before)


def lines(peer, count):
    """So many lines, and no look behind them."""
    got = b""
    while got.count(b"\n") < count:
        got += peer.recv(1000)
    return got


def test_web(world):
    def serve(plain):
        with world.wrap(plain) as peer:
            assert lines(peer, 3) == b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n"
            peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
            peer.unwrap()

    server = Server(serve, port=443)
    assert world.run("example.org:443")[0] == b"HTTP/1.0 200 OK\r\n\r\nhello"
    server.finish()


def test_session(world):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.server, world.key)

    def serve(plain):
        with context.wrap_socket(plain, server_side=True) as peer:
            assert lines(peer, 2) == b"HEAD / HTTP/1.0\r\n\r\n"
            peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            peer.unwrap()

    for resumed in "no", "yes", "yes":
        server = Server(serve, port=8443)
        assert f" resumed={resumed} " in world.run("web.session")[1]
        server.finish()


def test_dump(world):
    def serve(plain):
        with world.wrap(plain, demand(world.certs)) as peer:
            return receive_all(peer)

    server = Server(serve, port=7000)
    said = world.run("dump")[1]
    assert f"tx={PLACE} rx={PLACE} " in said
    assert server.finish() == b"all of it" * 1000


def test_mail(world):
    def serve(plain):
        plain.sendall(b"220 mail.example.org\r\n")
        assert lines(plain, 1).startswith(b"EHLO [127.0.0.1]")
        plain.sendall(b"250-mail.example.org\r\n250 STARTTLS\r\n")
        assert lines(plain, 1) == b"STARTTLS\r\n"
        plain.sendall(b"220 go\r\n")
        with world.wrap(plain) as peer:
            assert lines(peer, 2) == b"EHLO example.net\r\nQUIT\r\n"
            peer.sendall(b"250 AUTH PLAIN\r\n221 bye\r\n")
            peer.unwrap()

    server = Server(serve, port=25)
    assert world.run("smtp")[0] == b"250 AUTH PLAIN\r\n221 bye\r\n"
    server.finish()


def test_database(world):
    def serve(plain):
        assert plain.recv(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
        plain.sendall(b"S")
        with world.wrap(plain) as peer:
            return receive_all(peer)

    server = Server(serve, port=5432)
    process = world.begin("db.conf")
    assert process.stderr.readline() == b"event=listening addr=127.0.0.1:5433\n"
    with socket.create_connection(("127.0.0.1", 5433), LIMIT) as s:
        s.sendall(b"a query")
        s.shutdown(socket.SHUT_WR)
        assert s.recv(100) == b""
    assert server.finish() == b"a query"
    process.terminate()
    err = process.communicate(timeout=LIMIT)[1].decode()
    assert f"tx={PLACE} rx={PLACE} " in err and "end=closed" in err


def test_all_are_here():
    assert len(COMMANDS) == 5
