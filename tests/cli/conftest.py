# SPDX-License-Identifier: MIT
import pytest

from connecting import Certificates, Program, need, started
from serving import Authority, Backend, Serve, echo


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    need("openssl")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start():
    yield from started(Program, Program.end)


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
    yield from started(Serve, Serve.stop)


@pytest.fixture
def backend():
    yield from started(lambda handle=echo, **how: Backend(handle, **how), Backend.close)
