# SPDX-License-Identifier: MIT
"""tlsfd serve, confined as it is, follows a client's KeyUpdate and answers it."""
import os
import subprocess

import pytest

from connecting import Program
from serving import expected_place


def rekeys():
    """How often this kernel has changed keys; None: it can't."""
    if not os.path.exists("/proc/net/tls_stat"):
        return None
    with open("/proc/net/tls_stat", encoding="ascii") as lines:
        stat = dict(line.split() for line in lines)
    return (int(stat["TlsRxRekeyOk"]), int(stat["TlsTxRekeyOk"])) if "TlsRxRekeyOk" in stat else None


@pytest.mark.skipif(expected_place() == "kernel" and rekeys() is None, reason="needs Linux 6.14: rekeying in the kernel")
def test_key_update_of_a_client(serve, one, backend):
    server = serve("--forward", backend().target, *one)
    before = rekeys()
    peer = Program("openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-tls1_3",
                   stdin=subprocess.PIPE)
    try:
        for i, text in enumerate((b"first\n", b"second\n", b"third\n"), 1):
            peer.process.stdin.write(text)
            peer.wait_for("^" + text.decode())
            peer.process.stdin.write(b"K\n")  # new keys, please, as ours are
            peer.wait_for(r"KEYUPDATE", i)
        peer.process.stdin.write(b"Q\n")
        peer.finish()
    finally:
        peer.end()
    line = server.line(event="connection")
    assert (line["rx"], line["end"]) == (expected_place(), "closed"), line
    if before:
        assert [now - then for now, then in zip(rekeys(), before)] == [3, 3]
