# SPDX-License-Identifier: MIT
"""The processes of tlsfd serve: what each of them can't see, can't do, and how they are replaced.

TLSFD_BIN  the command (default: build/tlsfd)
"""
import contextlib
import ctypes
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from serving import BIN, CUT, answer, expected_place, files_of, saying, unused_port, wait_for

KERNEL = expected_place() == "kernel"
needs_kernel = pytest.mark.skipif(not KERNEL, reason="needs kernel TLS: connections are passed on in kernel mode only")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the memory of other processes")


# ---- what is in their memory ----

def memory(pid):
    """All that a process has in its memory, mapping by mapping."""
    with open("/proc/%d/maps" % pid, encoding="ascii") as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if "r" not in line.split()[1] or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            mem.seek(start)
            try:
                yield mem.read(end - start)
            except OSError:
                pass


def has(pid, *needles):
    return any(needle in part for part in memory(pid) for needle in needles)


def forms_of_key(path):
    """The private scalar as OpenSSL may hold it: big-endian (DER), its BIGNUM's words, and PEM text."""
    text = subprocess.check_output(["openssl", "ec", "-in", path, "-noout", "-text"], stderr=subprocess.DEVNULL, text=True)
    digits = re.search(r"priv:\s*([0-9a-f:\s]+)pub:", text).group(1)
    scalar = bytes.fromhex(re.sub(r"[^0-9a-f]", "", digits))[-32:]
    with open(path, "rb") as pem:
        lines = [line for line in pem.read().splitlines() if b"-----" not in line]
    # a part is enough: limbs may be apart from each other
    return scalar[:16], scalar[16:], scalar[::-1][:16], scalar[::-1][16:], lines[1][:32]


@contextlib.contextmanager
def talking(server, text):
    with server.connect() as connection:
        connection.sendall(text)
        got = b""
        while len(got) < len(text):
            got += connection.recv(65536)
        assert got == text
        yield connection


def check_keys(server, forms, gone=()):
    for pid in server.workers("data"):
        assert not has(pid, *forms, *gone)
    for pid in server.workers("handshake"):
        assert has(pid, *forms)  # the search finds what is there
        assert not has(pid, *gone)


@needs_root
def test_no_key_in_a_data_process(serve, ca, backend, tmp_path):
    config = tmp_path / "config"

    def write(name):
        cert, key = ca.issue(name)
        config.write_text("listen 127.0.0.1:0\nforward %s\nworkers 1\ncert %s\nkey %s\n" % (target, cert, key))
        return forms_of_key(key)

    target = backend().target
    forms = write("old.example")
    server = serve("--config", str(config), listen=None)
    with talking(server, b"x" * 1000):
        check_keys(server, forms)
    old, first = forms, server.workers()
    forms = write("new.example")
    server.signal(signal.SIGHUP)
    server.line(event="reload")
    wait_for(lambda: not set(first) & set(server.workers()))
    with talking(server, b"x" * 1000):
        check_keys(server, forms, old)
        assert not [name for pid in server.workers("handshake") for name in files_of(pid).values() if "memfd" in name]
    for role in "data", "handshake":  # and those that replace others after a reload
        killed = server.workers(role)[0]
        os.kill(killed, signal.SIGKILL)
        server.line(event="worker", pid=str(killed))
        with talking(server, b"x" * 1000):
            check_keys(server, forms, old)
    assert not has(server.process.pid, *old)


@needs_root
@needs_kernel
def test_no_data_in_a_handshake_process(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"application data, marked " + os.urandom(8).hex().encode() * 400):
        for pid in server.workers("handshake"):
            assert not has(pid, b"application data, marked ")
    line = server.line(event="connection")
    assert (line["tx"], line["rx"]) == ("kernel", "kernel")


@needs_root
def test_data_in_user_space_stays_with_the_handshake(serve, one, backend):
    """As the manual says; and the search above finds such bytes."""
    server = serve("--workers", "1", "--forward", backend().target, *one, "--max-version", "1.2", "--ciphers",
                   "ECDHE-ECDSA-AES128-SHA256")
    with talking(server, b"application data, marked " * 400):
        assert has(server.workers("handshake")[0], b"application data, marked ")
    assert server.line(event="connection")["tx"] == "user"


@needs_kernel
def test_who_has_the_connection(serve, one, backend):
    """The socket is the data process's, and nobody else's."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"x"):  # beside the channel between them
        assert len(sockets(server.workers("data")[0])) == 1 + 2
        wait_for(lambda: len(sockets(server.workers("handshake")[0])) == 1 + 1)  # it closes after it has sent


def sockets(pid):
    return [name for name in files_of(pid).values() if name.startswith("socket:")]


# ---- what they may do ----

FORBIDDEN = {"open-root", "open-passwd", "make-file", "stat", "socket-udp", "socket-netlink", "socket-mptcp", "fast-open",
             "attach-filter", "attach-steering", "detach-steering", "bind", "execve", "fork", "ptrace",
             "process-vm-readv", "kill", "fcntl-setown", "mmap-exec", "mremap", "setuid"}
TCP = {"socket-tcp", "connect-elsewhere"}
UNIX = {"socket-unix", "connect-abstract"}


def landlock_abi():
    return ctypes.CDLL(None).syscall(444, None, 0, 1)  # landlock_create_ruleset


def self_check(server, role):
    """What seccomp forbids."""
    fields = dict(server.line(event="self-check", role=role))
    del fields["event"], fields["role"]
    assert FORBIDDEN | TCP | UNIX | {"accept"} == set(fields)
    return {name for name, said in fields.items() if said == "EPERM"}


@pytest.mark.parametrize("user", [[], ["--user", "nobody"]])
def test_forbidden_calls_from_inside(serve, one, backend, user):
    if user and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    server = serve("--workers", "1", "--self-check", "--forward", backend(saying(b"hello")).target, *one, *user)
    assert self_check(server, "handshake") == FORBIDDEN | UNIX
    assert self_check(server, "data") == FORBIDDEN | UNIX | {"accept"}
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    said = "EACCES" if landlock_abi() >= 4 else "ECONNREFUSED"
    server.line(2, event="self-check")
    assert [line["connect-elsewhere"] for line in server.matching(event="self-check")] == [said] * 2


def test_a_path_needs_no_tcp(serve, one, backend, tmp_path):
    """Nor sockets without a path, of others on this machine."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("\0tlsfd-self-check")
        other.listen()
        server = serve("--workers", "1", "--self-check", "--forward",
                       backend(saying(b"hello"), path=str(tmp_path / "socket")).target, *one)
        assert {"connect-abstract"} | self_check(server, "data") == FORBIDDEN | TCP | {"accept", "connect-abstract"}
        said = "EPERM" if landlock_abi() >= 6 else "allowed"
        server.line(2, event="self-check")
    assert [line["connect-abstract"] for line in server.matching(event="self-check")] == [said] * 2
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    assert server.line(event="connection")["tx"] == expected_place()


@needs_kernel
def test_no_sockets_with_required_kernel(serve, one, backend):
    server = serve("--workers", "1", "--self-check", "--require-kernel", "--forward", backend(saying(b"hello")).target,
                   *one)
    assert self_check(server, "handshake") == FORBIDDEN | TCP | UNIX
    with server.connect() as connection:
        assert answer(connection) == b"hello"


def status_of(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


def capabilities(pid):
    """The values of CapInh, CapPrm, CapEff, CapAmb."""
    return {int(value, 16) for name, value in status_of(pid).items() if name.startswith("Cap") and name != "CapBnd"}


@needs_root
def test_a_path_needs_one_capability(serve, one, backend, tmp_path):
    """A service's socket can be another user's."""
    path = str(tmp_path / "socket")
    target = backend(saying(b"hello"), path=path).target
    os.chown(path, 65534, 65534)
    os.chmod(path, 0o600)
    server = serve("--workers", "1", "--forward", target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    for pid in server.workers():
        assert capabilities(pid) == {0, 1 << 1}


def test_confinement_seen_from_outside(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    for pid in server.workers():
        wait_for(lambda pid=pid: status_of(pid)["Seccomp"] == "2")
        assert status_of(pid)["NoNewPrivs"] == "1"
        assert capabilities(pid) == {0}
        if os.geteuid() == 0:
            root = "/proc/%d/root" % pid
            assert os.listdir(root) == [] and os.readlink(root).endswith("(deleted)")
    # another server may be starting
    wait_for(lambda: not [name for name in os.listdir("/tmp") if name.startswith("tlsfd-root.")])


def in_a_namespace(path):
    """A program that is BIN with mounts of its own."""
    path.write_text("#!/bin/sh\nexec unshare --mount '%s' \"$@\"\n" % BIN)
    path.chmod(0o755)
    return str(path)


def mount(server, *what):
    subprocess.run(["nsenter", "-t", str(server.process.pid), "-m", *what], check=True)


def roots(server):
    found = []
    for pid in server.workers():
        with contextlib.suppress(OSError):  # it may end meanwhile
            found.append(os.listdir("/proc/%d/root" % pid))
    return found


@needs_root
def test_an_empty_root_after_a_reload(serve, backend, tmp_path):
    """When /tmp, where it is made, can't be written to any more."""
    server = serve("--workers", "1", "--self-signed", "--forward", backend().target,
                   binary=in_a_namespace(tmp_path / "program"))
    old = server.workers()
    with talking(server, b"x"):
        wait_for(lambda: roots(server) == [[], []])
    mount(server, "mount", "-t", "tmpfs", "-o", "ro", "none", "/tmp")
    server.signal(signal.SIGHUP)
    server.line(event="reload")
    wait_for(lambda: not set(old) & set(server.workers()) and len(server.workers()) == 2)
    with talking(server, b"x"):
        wait_for(lambda: roots(server) == [[], []])
    assert not [line for line in server.matching(event="confinement") if "chroot" in line["missing"]]


@needs_root
def test_the_user_stays(serve, one, backend, tmp_path):
    """A reload doesn't change who the processes are."""
    config = tmp_path / "config"
    lines = "listen 127.0.0.1:0\nforward %s\ncert %s\nkey %s\nworkers 1\n" % (backend().target, one[1], one[3])
    config.write_text(lines + "user nobody\n")
    server = serve("--config", str(config), listen=None)
    with talking(server, b"x"):
        old = server.workers()
    config.write_text(lines)
    server.signal(signal.SIGHUP)
    wait_for(lambda: not set(old) & set(server.workers()) and len(server.workers()) == 2)
    with talking(server, b"x"):
        assert {status_of(pid)["Uid"].split()[0] for pid in server.workers()} == {str(pwd.getpwnam("nobody").pw_uid)}


def test_a_missing_step_is_said_once(serve, one, backend):
    server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one)
    for _ in range(4):
        with server.connect() as connection:
            assert answer(connection) == b"hello"
    landlock = landlock_abi() > 0
    said = [line["missing"] for line in server.matching(event="confinement")]
    assert len(said) == (0 if landlock else 1)
    assert all(re.fullmatch("landlock: [^;]+", line) for line in said)


# ---- who is killed, and replaced ----

@needs_kernel
def test_a_killed_data_process_takes_only_its_own(serve, one, backend):
    server = serve("--workers", "2", "--forward", backend().target, *one)
    held = []
    while len(held) < 14:  # few: a backend waits for LIMIT only, and guests can be slow
        connection = server.connect()
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        held.append(connection)
    victim, other = server.workers("data")
    lost = (len(sockets(victim)) - 1) // 2
    stay = (len(sockets(other)) - 1) // 2
    assert lost and stay and lost + stay == 14
    os.kill(victim, signal.SIGKILL)
    server.line(event="worker", role="data", pid=str(victim), error="killed by signal 9; it is replaced")
    cut = sum(is_cut(connection) for connection in held)
    assert cut == lost
    wait_for(lambda: len(server.workers("data")) == 2)
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(b"y")
            assert connection.recv(1) == b"y"


def is_cut(connection):
    try:
        connection.sendall(b"z")
        return connection.recv(1) != b"z"
    except (*CUT, BrokenPipeError):
        return True


@needs_kernel
def test_a_killed_handshake_process_takes_no_connection(serve, one, backend):
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"before") as connection:
        victim = server.workers("handshake")[0]
        os.kill(victim, signal.SIGKILL)
        server.line(event="worker", role="handshake", pid=str(victim), error="killed by signal 9; it is replaced")
        assert not is_cut(connection)
        with talking(server, b"by the next one"):
            pass
        assert not is_cut(connection)


def get_fd(pid, fd):
    """That file of another process (pidfd_getfd), as if we were in it."""
    got = ctypes.CDLL(None, use_errno=True).syscall(438, os.pidfd_open(pid), fd, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got


def the_listening(server, pid):
    for fd, name in files_of(pid).items():
        with contextlib.suppress(OSError):  # a connection may end meanwhile
            if not name.startswith("socket:"):
                continue
            found = socket.socket(fileno=get_fd(pid, fd))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == server.port:
                return found
            found.close()
    raise AssertionError("it listens nowhere")


def shut(listening, target):  # pylint: disable=unused-argument
    listening.shutdown(socket.SHUT_RD)


def make_it_block(listening, target):  # pylint: disable=unused-argument
    listening.setblocking(True)


def connect_it(listening, target):
    listening.shutdown(socket.SHUT_RD)
    listening.setblocking(True)
    listening.connect(("127.0.0.1", int(target.rpartition(":")[2])))


def shut_channel(pid, how):
    for fd, name in files_of(pid).items():
        if name.startswith("socket:"):
            with socket.socket(fileno=get_fd(pid, fd)) as found:
                if found.family == socket.AF_UNIX:
                    found.shutdown(how)


@needs_root
@needs_kernel
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_spoilt_channel(serve, one, backend, how):
    """Nor what it has done to the way to its data process, which has the other end of it."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"before") as connection:
        old = server.workers("handshake")[0]
        shut_channel(old, how)
        os.kill(old, signal.SIGKILL)
        server.line(event="worker", pid=str(old))
        with talking(server, b"behind it"):
            assert not is_cut(connection)
    assert len(server.matching(event="worker")) == 1


@needs_root
@needs_kernel
def test_a_channel_shut_in_between(serve, one, backend):
    """Whose data process ends, as nobody sends any more."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"before"):
        old = server.workers("handshake")[0]
    shut_channel(old, socket.SHUT_RDWR)
    server.line(event="worker", role="data")
    wait_for(lambda: old not in server.workers("handshake"))
    with talking(server, b"behind it"):
        assert len(server.matching(event="worker", role="data")) == 1


@needs_root
@pytest.mark.parametrize("spoil", [shut, make_it_block, connect_it])
@pytest.mark.parametrize("reload_, any_port", [(False, True), (True, True), (False, False)])
def test_a_spoilt_port(serve, one, backend, spoil, reload_, any_port):
    """What one handshake process has done to its socket is not the next one's trouble."""
    target = backend(saying(b"hello")).target
    server = serve("--workers", "1", "--forward", target, *one, listen="127.0.0.1:%d" % (0 if any_port else unused_port()))
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    victim = server.workers("handshake")[0]
    with the_listening(server, victim) as listening:
        spoil(listening, target)
    if reload_:
        server.signal(signal.SIGHUP)
        server.line(event="reload")
    else:
        os.kill(victim, signal.SIGKILL)
        server.line(event="worker", pid=str(victim))
    with server.connect() as connection:
        assert answer(connection) == b"hello"

    def none_blocks():
        with contextlib.suppress(AssertionError, OSError):  # where the port is new, who had the old one ends
            for pid in set(server.workers("handshake")) - {victim}:
                with the_listening(server, pid) as listening:
                    if os.get_blocking(listening.fileno()):
                        return False
            return True
        return False

    wait_for(none_blocks)


@pytest.mark.parametrize("role", ["handshake", "data"])
def test_kills_under_load(serve, one, backend, role):
    """Connections fail at the moment of a kill; the service goes on, and what it may have stays right."""
    server = serve("--workers", "2", "--forward", backend(saying(b"hello")).target, *one, "--max-connections", "8")
    over, done, failed = threading.Event(), [], []

    def ask():
        while not over.is_set():
            try:
                with server.connect() as connection:
                    assert answer(connection) == b"hello"
                done.append(1)
            except OSError as error:
                failed.append(error)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for round_ in range(3):
        wait_for(lambda: len(server.workers(role)) == 2)
        before = len(done)
        wait_for(lambda: len(done) > before + 20)
        os.kill(server.workers(role)[0], signal.SIGKILL)
        server.line(round_ + 1, event="worker", role=role)
    before = len(done)
    wait_for(lambda: len(done) > before + 40)
    over.set()
    for client in clients:
        client.join()
    assert len(failed) <= 3 * 8, failed
    for _ in range(20):
        with server.connect() as connection:
            assert answer(connection) == b"hello"


@needs_kernel
def test_limit_holds_over_a_killed_data_process(serve, one, backend):
    """The connections that died with it make room."""
    server = serve("--workers", "1", "--forward", backend().target, *one, "--max-connections", "3")
    held = [server.connect() for _ in range(3)]
    for connection in held:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    os.kill(server.workers("data")[0], signal.SIGKILL)
    for _ in range(2):
        with talking(server, b"there is room again"):
            pass
    for connection in held:
        connection.close()


@needs_kernel
def test_a_slow_data_process(serve, one, backend):
    """What it doesn't take waits, and is served later; its partner accepts only so many."""
    server = serve("--workers", "1", "--forward", backend(saying(b"hello")).target, *one)
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    pid = server.workers("data")[0]
    os.kill(pid, signal.SIGSTOP)
    answers, clients = [], []

    def ask():
        with server.connect() as connection:
            answers.append(answer(connection))

    for _ in range(60):
        clients.append(threading.Thread(target=ask))
        clients[-1].start()
    handshake = server.workers("handshake")[0]
    time.sleep(1)
    assert not answers and len(os.listdir("/proc/%d/fd" % handshake)) < 100
    os.kill(pid, signal.SIGCONT)
    for client in clients:
        client.join()
    assert answers == [b"hello"] * 60


@needs_root
def test_the_old_go_on_until_the_new_can(serve, one, backend, tmp_path):
    """Who becomes a user reads /etc/group: it hangs there."""
    fifo = str(tmp_path / "group")
    os.mkfifo(fifo)
    server = serve("--workers", "1", "--user", "nobody", "--forward", backend(saying(b"hello")).target, *one,
                   binary=in_a_namespace(tmp_path / "program"))
    with server.connect() as connection:
        assert answer(connection) == b"hello"
    old = set(server.workers("handshake"))
    mount(server, "mount", "--bind", fifo, "/etc/group")
    server.signal(signal.SIGHUP)
    wait_for(lambda: len(server.workers("handshake")) == 2)
    for _ in range(5):
        with server.connect() as connection:
            assert answer(connection) == b"hello"
    assert not server.matching(event="reload") and old <= set(server.workers("handshake"))
    mount(server, "umount", "--lazy", "/etc/group")
    with open(fifo, "wb"):
        pass
    server.line(event="reload")
    wait_for(lambda: len(server.workers()) == 2 and not old & set(server.workers()))
    with server.connect() as connection:
        assert answer(connection) == b"hello"


@needs_kernel
def test_drained_processes_end(serve, one, backend):
    """After a reload the old pair goes with its last connection."""
    server = serve("--workers", "1", "--forward", backend().target, *one)
    with talking(server, b"x") as connection:
        old = server.workers()
        server.signal(signal.SIGHUP)
        server.line(event="reload")
        wait_for(lambda: not set(old) & set(server.workers("handshake")))
        assert set(old) & set(server.workers("data")) and not is_cut(connection)
        connection.unwrap()
    wait_for(lambda: not set(old) & set(server.workers()))
    wait_for(lambda: len(server.workers("data")) == len(server.workers("handshake")) == 1)
    assert not server.matching(event="worker")
