# SPDX-License-Identifier: MIT
"""Real programs at the plain side and at the other end of serve and connect: how they are
started and ended.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "cli"), os.path.join(HERE, "..", "peers")]
from serving import BIN, Serve, openssl, parse, unused_port, wait_for  # noqa: E402,F401
from peers import LIMIT, Certificates, Program, missing, need  # noqa: E402,F401

VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
each_version = pytest.mark.parametrize("version", VERSIONS)
MEGABYTE = 1_000_000


def in_kernel(line, ends=("closed",), **fields):
    """Of the line of a connection: both directions were in the kernel, and it ended as it should."""
    wanted = {"tx": "kernel", "rx": "kernel", "why": "", **fields}
    assert {name: line.get(name) for name in wanted} == wanted and line["end"] in ends, line


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


def run(*command, status=0, **how):
    """Its stdout; stderr is shown when the status is another one."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT, check=False, **({} if "input" in how else {"stdin": subprocess.DEVNULL}),
                          **how)
    assert done.returncode == status, (command, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


class Folder:
    """A folder in /tmp that a user of the system owns and can reach; tmp_path is root's alone."""

    def __init__(self, user="root"):
        self.user = user
        self.path = tempfile.mkdtemp(prefix="tlsfd-")
        os.chmod(self.path, 0o755)
        self.give(self.path)

    def give(self, path, user=None):
        owner = pwd.getpwnam(user or self.user)
        os.chown(path, owner.pw_uid, owner.pw_gid)

    def at(self, name):
        return os.path.join(self.path, name)

    def make(self, name, user=None):
        """A folder in it."""
        os.mkdir(self.at(name))
        self.give(self.at(name), user)
        return self.at(name)

    def write(self, name, text):
        with open(self.at(name), "wb" if isinstance(text, bytes) else "w") as file:
            file.write(text)
        self.give(self.at(name))
        return self.at(name)

    def copy(self, source):
        """A certificate or key as this user's own, whom some programs insist on."""
        with open(source, "rb") as file:
            path = self.write(os.path.basename(source), file.read())
        os.chmod(path, 0o600)
        return path

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Daemon:
    """A server in the foreground, there as soon as its port or socket takes connections."""

    def __init__(self, folder, *command, port=None, path=None, how_to_end=signal.SIGTERM, **where):
        need(command[0])
        self.log, self.how_to_end = folder.at("daemon.log"), how_to_end
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, start_new_session=True, **where)
        self._wait_for((socket.AF_UNIX, path) if path else (socket.AF_INET, ("127.0.0.1", port)))

    def _wait_for(self, place):
        family, address = place
        deadline = time.monotonic() + LIMIT
        while True:
            with socket.socket(family) as probe:
                if probe.connect_ex(address) == 0:
                    return
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "%s said:\n%s" % (self.process.args[0], log.read()[-3000:])

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(self.how_to_end)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # its helpers, too
        except ProcessLookupError:
            pass
        self.process.wait(LIMIT)

