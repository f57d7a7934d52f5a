# SPDX-License-Identifier: MIT
import os

import pytest

from services import Certificates, Daemon, Folder, Program, Serve, missing


@pytest.fixture(scope="session", autouse=True)
def machine():
    """What all tests need."""
    if not os.path.exists("/proc/net/tls_stat"):
        missing("kernel TLS")
    if os.geteuid() != 0:
        missing("root, for servers that change their user,")


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def folder():
    """Makes folders for a user that last as long as the module."""
    made = []

    def make(user="root"):
        made.append(Folder(user))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture(scope="module")
def daemon(folder):
    """Starts servers that last as long as the module."""
    running = []

    def begin(*command, **how):
        running.append(Daemon(*command, **how))
        return running[-1]

    yield begin
    for one in reversed(running):
        one.end()


@pytest.fixture
def begin():
    running = []

    def start(*options, **how):
        running.append(Serve(*options, **how))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def serve(begin, certs):
    """tlsfd serve for localhost, in front of a target."""
    return lambda target, *options: begin("--forward", target, "--cert", certs.server, "--key", certs.server_key,
                                          *options)


@pytest.fixture
def connect(begin, certs):
    """tlsfd connect --listen to a port of localhost."""
    return lambda port, *options: begin("--ca", certs.root, *options, "localhost:%d" % port, verb="connect")


@pytest.fixture
def start():
    """Starts clients that end with the test."""
    programs = []

    def run(*command, **where):
        programs.append(Program(*command, **where))
        return programs[-1]

    yield run
    for program in reversed(programs):
        program.end()
