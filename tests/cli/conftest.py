# SPDX-License-Identifier: MIT
import pytest

from connecting import Certificates, Program, need
from serving import Authority, Backend, Serve, echo


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    need("openssl")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start():
    programs = []

    def begin(*command, **where):
        programs.append(Program(*command, **where))
        return programs[-1]

    yield begin
    for program in reversed(programs):
        program.end()


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def one(ca):
    """Options of the plainest certificate."""
    cert, key = ca.issue("one.example")
    return ["--cert", cert, "--key", key]


@pytest.fixture
def serve():
    running = []

    def begin(*options, **how):
        running.append(Serve(*options, **how))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


@pytest.fixture
def backend():
    running = []

    def begin(handle=echo, **how):
        running.append(Backend(handle, **how))
        return running[-1]

    yield begin
    for server in running:
        server.close()
