# SPDX-License-Identifier: MIT
import hashlib
import os

import pytest

from peers import BUILD, ECHO, STAT, TRANSFER, Certificates, Program, missing, need, set_high, started


@pytest.fixture(scope="session", autouse=True)
def machine():
    """What all tests need."""
    for program in (ECHO, TRANSFER):
        assert os.access(program, os.X_OK), "not built: " + os.path.relpath(program, BUILD)
    if not os.path.exists(STAT):
        missing("kernel TLS (%s)" % STAT)
    need("openssl")


@pytest.fixture(scope="session")
def certs(machine, tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start():
    """Starts programs that end with the test."""
    yield from started(Program, Program.end)


@pytest.fixture
def server(start, certs):
    """The server under test; sets .port."""
    def begin(*options, bare=True):
        program = start(ECHO, "--server", "--cert", certs.server, "--key", certs.server_key,
                        *(["--bare"] if bare else []), *options)
        program.port = int(program.wait_for(r"^port (\d+)\n").group(1))
        return program
    return begin


@pytest.fixture
def client(start, certs):
    """The client under test."""
    def begin(port, *options, bare=False):
        return start(ECHO, "--client", str(port), "--ca", certs.root, *(["--bare"] if bare else []), *options)
    return begin


class Files:
    """Files of a test: random ones, and places for what comes."""

    def __init__(self, folder):
        self.folder = folder

    def random(self, size, name="in", high=False):
        """high: only bytes from 128 on, which no program takes for a command."""
        data = os.urandom(size)
        if high:
            data = set_high(data)
        return self.holding(data, name)

    def holding(self, data, name):
        (self.folder / name).write_bytes(data)
        return self.path(name)

    def path(self, name):
        return str(self.folder / name)

    def same(self, one, other):
        def digest(path):
            with open(path, "rb") as data:
                return os.path.getsize(path), hashlib.sha256(data.read()).hexdigest()
        assert digest(one) == digest(other)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)
