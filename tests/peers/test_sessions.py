# SPDX-License-Identifier: MIT
"""Sessions of other people's servers, in a file from one process to the next."""
import os
import stat

import pytest

from peers import BUILD, USUAL
from test_client import gnutls_serv, s_server

RESUME = os.path.join(BUILD, "tests/peers/resume")
each_cipher = pytest.mark.parametrize("cipher", USUAL, ids=repr)


def connections(start, certs, files, port, answer):
    """Three in a row: the first makes a session, the others resume."""
    session = files.path("session")
    for number in range(3):
        output = start(RESUME, "127.0.0.1", str(port), certs.root, session).finish()
        assert output == (b"resumed\n" if number else b"new\n") + answer
        if number == 0 or os.path.exists(session):
            assert stat.S_IMODE(os.stat(session).st_mode) == 0o600
            with open(session, "rb") as saved:
                kept = saved.read()
        else:  # TLS 1.2: the first one is good for more
            files.holding(kept, "session")
            os.chmod(session, 0o600)


@each_cipher
def test_s_server(start, certs, files, cipher):
    peer = s_server(start, certs, *cipher.flags, "-rev", "-naccept", "3")
    connections(start, certs, files, peer.port, b"olleh\n")


@each_cipher
def test_gnutls_serv(start, certs, files, cipher):
    peer = gnutls_serv(start, certs, cipher, "--echo")
    connections(start, certs, files, peer.port, b"hello\n")
