# SPDX-License-Identifier: MIT
"""A resolver that answers, refuses, or is silent, and a mount namespace in which it is the only one."""
import os
import queue
import random
import socket
import threading

import pytest

from connecting import LIMIT

NAME = "server.test"
A, NO_SUCH_NAME = 1, 3
ENTER = """
mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"
"""


class Resolver:
    """A name server on an address of its own of 127.0.0.0/8. It knows one name."""

    def __init__(self, folder):
        if os.geteuid() != 0:
            pytest.skip("only root can have a resolver of its own")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))
        self.socket.bind((self.address, 53))
        self.mode = "answer"
        self.asked = queue.Queue()
        self.changed = threading.Condition()
        self.files = [str(folder / "resolv.conf"), str(folder / "nsswitch.conf")]
        self.patience(30)
        (folder / "nsswitch.conf").write_text("hosts: dns\nservices: files\n")
        threading.Thread(target=self._serve, daemon=True).start()

    def patience(self, seconds):
        """How long the C library waits for an answer, once."""
        with open(self.files[0], "w", encoding="ascii") as conf:
            conf.write(f"nameserver {self.address}\noptions attempts:1 timeout:{seconds}\n")

    def _serve(self):
        while True:
            question, client = self.socket.recvfrom(512)
            if not question:
                return
            self.asked.put(question)
            with self.changed:
                self.changed.wait_for(lambda: self.mode != "silence")
                answer = self._answer(question)
            self.socket.sendto(answer, client)

    def _answer(self, question):
        end = question.index(b"\0", 12) + 5
        is_ours = question[12:end - 4] == b"".join(bytes([len(p)]) + p.encode() for p in NAME.split(".")) + b"\0"
        is_a = question[end - 3] == A
        status = 0 if self.mode == "answer" and is_ours else NO_SUCH_NAME
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if status == 0 and is_a else b""
        return (question[:2] + bytes([0x84, status]) + b"\0\1" + bytes([0, len(record) > 0]) + bytes(4) +
                question[12:end] + record)

    def be(self, mode):
        """answer, refuse (there is no such name), silence. Questions that wait are answered now."""
        while not self.asked.empty():
            self.asked.get()
        with self.changed:
            self.mode = mode
            self.changed.notify_all()

    def wait_for_a_question(self):
        self.asked.get(timeout=LIMIT)

    def around(self, *command):
        """The command, with this resolver."""
        return ("unshare", "--mount", "sh", "-c", ENTER, "sh", *self.files, *command)

    def close(self):
        self.be("answer")
        self.socket.sendto(b"", (self.address, 53))
