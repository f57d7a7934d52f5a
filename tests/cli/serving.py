# SPDX-License-Identifier: MIT
"""A running `tlsfd serve`, its log, certificates and backends: what the tests of serve stand on."""
import http.server
import contextlib
import inspect
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import threading
import time

BIN = os.path.abspath(os.environ.get("TLSFD_BIN", "build/tlsfd"))
LIMIT = 60  # seconds that any one thing may take
CUT = (ssl.SSLError, ConnectionResetError)  # of Python's clients: an end without close_notify


def wait_for(condition):
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, "never true: " + inspect.getsource(condition)
        time.sleep(0.01)


def expected_place():
    """Where records are to be made on this kernel."""
    return "kernel" if os.path.exists("/proc/net/tls_stat") else "user"


# ---- certificates ----

def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


class Authority:
    """A CA of our own."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.root = self.path("root.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                self.path("root.key"), "-out", self.root, "-subj", "/CN=root", "-days", "30")

    def path(self, name):
        return os.path.join(self.folder, name)

    def _config(self, names=()):
        config = self.path("ca.cnf")
        with open(config, "w", encoding="ascii") as out:
            out.write("[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=%s\ndatabase=%s\nserial=%s\nrand_serial=yes\n"
                      "policy=p\ndefault_md=sha256\nunique_subject=no\n[p]\ncommonName=supplied\n"
                      "[e]\nsubjectAltName=%s\n" % (
                          self.folder, self.path("index"), self.path("serial"), ",".join("DNS:" + n for n in names)))
        with open(self.path("index"), "a", encoding="ascii"):
            pass
        return ["ca", "-batch", "-config", config, "-cert", self.root, "-keyfile", self.path("root.key")]

    def issue(self, name, *names, year=None, seconds=None):
        """The paths of a certificate for these names and of its key. year: that it is good in; seconds: for how
        long; from now on."""
        request, cert, key = (self.path(name + end) for end in (".csr", ".pem", ".key"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", request, "-subj", "/CN=" + name)
        dates = ["-days", "30"]
        if year:
            dates = ["-startdate", "%d0101000000Z" % year, "-enddate", "%d0201000000Z" % year]
        elif seconds:
            dates = ["-enddate", time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))]
        openssl(*self._config(names or (name,)), "-extensions", "e", "-in", request, "-out", cert, "-notext", *dates)
        return cert, key

    def revoke_none(self, *dates):
        """The path of a revocation list that has nobody."""
        path = self.path("list.pem")
        openssl(*self._config(), "-gencrl", "-out", path, *dates)
        return path


# ---- backends ----

class Backend:
    """A TCP or Unix server in threads: handle(socket) is called for each connection."""

    def __init__(self, handle, path=None):
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(128)
            self.target = "unix:" + path
        else:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            self.target = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.handle, self.count = handle, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            connection.settimeout(LIMIT)
            try:
                self.handle(connection)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def echo(connection):
    """Sends back what comes, and an end for an end."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def saying(text):
    def say(connection):
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    return say


def web(folder):
    """Python's own web server on a folder: its target."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, "127.0.0.1:%d" % server.server_address[1]


held = []  # to the end of all tests


def hold(address, port):
    """A socket that doesn't listen."""
    held.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        held[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    held[-1].bind((address, port))
    return held[-1].getsockname()[1]


def unused_port(*addresses):
    """One where nobody listens, of 127.0.0.1 or of all of these addresses. It is held: the kernel gives it neither
    to who asks for any port nor to a connection, least of all to one that goes there and would meet itself. Who
    sets SO_REUSEADDR can listen there."""
    first, *others = addresses or ["127.0.0.1"]
    while True:
        port = hold(first, 0)
        with contextlib.suppress(OSError):  # it is free for the one, and in use for another
            for address in others:
                hold(address, port)
            return port


# ---- the server ----

def parse(line):
    """A line of logfmt as a dict."""
    fields = {}
    for word in shlex.split(line):
        name, _, value = word.partition("=")
        fields[name] = value
    return fields


def files_of(pid):
    """What a process has open: {number: name}; some may end meanwhile."""
    folder, files = "/proc/%d/fd" % pid, {}
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            files[int(fd)] = os.readlink(os.path.join(folder, fd))
    return files


def role_of(pid):
    """By the name that a process has given itself."""
    try:
        with open("/proc/%d/comm" % pid, encoding="ascii") as comm:
            return comm.read().strip().partition("tlsfd-")[2] or None
    except OSError:
        return None


def is_stopped(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


class Serve:
    """`tlsfd serve`, its log read as it comes. The verb connect with --listen logs likewise."""

    def __init__(self, *options, listen="127.0.0.1:0", wait=True, binary=BIN, verb="serve", around=(), **how):
        command = [*around, binary, verb, *(["--listen", listen] if listen else []), *options]
        how.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
        self.lines, self.changed, self.ended = [], threading.Condition(), False
        self.others = []  # of its lines: no log, but what a sanitizer says
        threading.Thread(target=self._read, daemon=True).start()
        if wait:
            address = self.line(event="listening")["addr"]
            self.port = int(re.search(r":(\d+)$", address).group(1))

    def _read(self):
        for line in self.process.stderr:
            if not line.startswith("event="):
                self.others.append(line)
                continue
            with self.changed:
                self.lines.append(parse(line))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def matching(self, **fields):
        return [line for line in self.lines if all(line.get(k) == v for k, v in fields.items())]

    def line(self, count=1, **fields):
        """The count-th line that has these fields, as soon as it is there."""
        with self.changed:
            there = self.changed.wait_for(lambda: len(self.matching(**fields)) >= count or self.ended, LIMIT)
            found = self.matching(**fields)
            assert there and len(found) >= count, "no line %s in %s" % (fields, self.lines)
            return found[count - 1]

    def connect(self, context=None, name="one.example", **options):
        """A TLS connection of Python's."""
        if not context:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python sets: a cut would look like an end
        options.setdefault("suppress_ragged_eofs", False)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        try:
            return context.wrap_socket(raw, server_hostname=name, **options)
        except BaseException:
            raw.close()
            raise

    def children(self):
        path = "/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)
        if not os.path.exists(path):  # a kernel without CONFIG_PROC_CHILDREN
            found = subprocess.run(["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE, check=False)
            return [int(word) for word in found.stdout.split()]
        with open(path, encoding="ascii") as children:
            return [int(word) for word in children.read().split()]

    def workers(self, role=None):
        """Pids of its processes: all, or those of a role, "handshake", "data" or "metrics"."""
        return [pid for pid in self.children() if role in (None, role_of(pid))]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(LIMIT)

    def stop(self):
        """Ends it and its workers, at once."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGINT)
                self.process.wait(LIMIT)
        self.process.stdout.close()
        print("the log of %d:" % self.process.pid, *self.lines[-40:], sep="\n")  # is seen where a test has failed
        assert not [line for line in self.others if not line.startswith("tlsfd ")], self.others


def answer(connection):
    """All bytes up to a clean end."""
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def keepalive(mine, his):
    """Have the sockets of this port, to that one, no timer but this (/proc/net/tcp)?"""
    found = set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        for _, local, remote, state, _, timer, *_ in (line.split() for line in table.readlines()[1:]):
            ports = [int(address.split(":")[1], 16) for address in (local, remote)]
            if state == "01" and mine in (ports[0], None) and his in (ports[1], None):
                found.add(timer.split(":")[0])
    return found == {"02"}
