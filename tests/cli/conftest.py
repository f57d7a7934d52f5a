# SPDX-License-Identifier: MIT
import pytest

from connecting import Certificates, Program, need


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
