# SPDX-License-Identifier: MIT
"""tlsfd serve with thousands of connections: idle, busy, and half begun.

TLSFD_BIN    the command (default: build/tlsfd)
TLSFD_BUILD  the build folder (default: build), for its tests/cli/crowd
"""
import os
import resource
import subprocess
import time

import pytest

from serving import BIN, LIMIT, expected_place

CROWD = os.path.join(os.environ.get("TLSFD_BUILD", os.path.dirname(BIN)), "tests/cli/crowd")
FILES = 65536


class Crowd:
    """The clients, and the service to which they want."""

    def __init__(self):
        self.process = subprocess.Popen([CROWD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.target = "127.0.0.1:" + self.process.stdout.readline().strip()

    def does(self, *command):
        """What it took, in seconds."""
        began = time.monotonic()
        self.process.stdin.write(" ".join(str(word) for word in command) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n", "%s: exit status %s" % (command, self.process.wait())
        return time.monotonic() - began

    def end(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def crowd():
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, old[1])))
    except ValueError:  # root who may not
        pytest.skip("wants %d file descriptors: ulimit -Hn is %d" % (FILES, old[1]))
    people = Crowd()
    yield people
    people.end()
    resource.setrlimit(resource.RLIMIT_NOFILE, old)


def files_of(server):
    return {pid: len(os.listdir("/proc/%d/fd" % pid)) for pid in server.workers()}


def test_idle_and_busy(serve, one, crowd):
    """5,000 connections that are there, and 500 that work, through two workers; without kernel
    TLS, where there is no promise, a tenth."""
    idle, working = (5000, 500) if expected_place() == "kernel" else (500, 50)
    server = serve("--workers", "2", "--forward", crowd.target, *one)
    crowd.does("port", server.port)
    crowd.does("open", 1)
    before = files_of(server)
    crowd.does("open", idle - 1)
    crowd.does("busy", working, 100000)
    crowd.does("check")
    crowd.does("close")
    server.line(idle + working, event="connection", end="closed")
    busy = server.matching(event="connection")
    assert len(busy) == idle + working
    assert {(line["tx"], line["rx"]) for line in busy} == {(expected_place(), expected_place())}
    assert sum(line["in"] == line["out"] == "100000" for line in busy) == working
    assert sum(line["in"] == line["out"] == "15" for line in busy) == idle
    after = files_of(server)
    assert all(after[pid] <= before[pid] + 64 for pid in before), (before, after)  # pipes are kept for the next


def test_half_begun(serve, one, crowd):
    """10,000 that say a part of a ClientHello and no more: others don't notice."""
    server = serve("--workers", "2", "--forward", crowd.target, *one, "--handshake-timeout", "600")
    crowd.does("port", server.port)
    crowd.does("open", 100)
    crowd.does("half", 10000)
    crowd.does("check")
    assert crowd.does("busy", 10, 100000) < LIMIT  # and not 600
    crowd.does("drop")
    crowd.does("check")
    crowd.does("close")
    server.line(110, event="connection", end="closed")
    server.line(10000, event="connection", end="handshake")
    reasons = {line["error"] for line in server.matching(event="connection", end="handshake")}
    assert "too many handshakes at once, this was the oldest" in reasons
    assert len(server.matching(event="error")) == 0, server.matching(event="error")


def test_half_begun_have_a_deadline(serve, one, crowd):
    server = serve("--forward", crowd.target, *one, "--handshake-timeout", "5")
    crowd.does("port", server.port)
    crowd.does("half", 3000)
    server.line(3000, event="connection", end="handshake")
    crowd.does("open", 1)
    crowd.does("close")
    crowd.does("drop")
