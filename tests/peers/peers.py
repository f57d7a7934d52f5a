# SPDX-License-Identifier: MIT
"""Programs, certificates, counters: what the tests of this folder stand on.

TLSFD_BUILD      the build folder (default: build)
TLSFD_NO_SKIP=1  a missing program or kernel TLS is a failure, not a skip
"""
import contextlib
import itertools
import os
import re
import select
import shutil
import ssl
import subprocess
import threading

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("TLSFD_BUILD", "build"))
ECHO = os.path.join(BUILD, "tests/peers/handover-echo")
TRANSFER = os.path.join(BUILD, "demo/transfer")
LIMIT = 60  # seconds that any one thing may take
STAT = "/proc/net/tls_stat"
ERRORS = "TlsDecryptError", "TlsTxRekeyError", "TlsRxRekeyError"
KERNEL_CHANGES_KEYS = os.path.exists(STAT) and "TlsTxRekeyOk" in open(STAT, encoding="ascii").read()


def missing(what):
    """Skips the test, unless nothing may be skipped."""
    if os.environ.get("TLSFD_NO_SKIP") == "1":
        pytest.fail(what + " is missing and TLSFD_NO_SKIP is set")
    pytest.skip(what + " is missing")


def need(program):
    if not shutil.which(program):
        missing(program)


def started(make, end):
    """For a fixture: a function that makes things, all of which are ended with the test."""
    running = []

    def start(*args, **how):
        running.append(make(*args, **how))
        return running[-1]

    yield start
    for one in reversed(running):
        end(one)


class Program:
    """A running program. Its output goes to files, or is collected while it comes; end()
    is always called."""

    def __init__(self, *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE):
        self.name = os.path.basename(command[0])
        with contextlib.ExitStack() as files:
            if isinstance(stdin, str):
                stdin = files.enter_context(open(stdin, "rb"))
            if isinstance(stdout, str):
                stdout = files.enter_context(open(stdout, "wb"))
            self.process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                                            bufsize=0)
        self.out, self.err = bytearray(), bytearray()
        self.changed = threading.Condition()
        self.open = 0
        self.readers = [self._reader(pipe, text) for pipe, text in
                        ((self.process.stdout, self.out), (self.process.stderr, self.err)) if pipe]

    def _reader(self, pipe, text):
        self.open += 1
        thread = threading.Thread(target=self._read, args=(pipe, text), daemon=True)
        thread.start()
        return thread

    def _read(self, pipe, text):
        data = True
        while data:
            data = os.read(pipe.fileno(), 1 << 16)
            with self.changed:
                text += data
                self.open -= not data
                self.changed.notify_all()

    def said(self):
        text = (self.out + self.err).decode(errors="replace")
        return "%s said:\n%s" % (self.name, text[-3000:])

    def wait_for(self, pattern, count=1):
        """The count-th match of pattern in what the program says on stdout or stderr."""
        def find():
            matches = (re.finditer(pattern.encode(), bytes(text), re.M) for text in (self.out, self.err))
            last = (next(itertools.islice(match, count - 1, None), None) for match in matches)
            return next(filter(None, last), None) or not self.open

        with self.changed:
            found = self.changed.wait_for(find, LIMIT)
        if not isinstance(found, re.Match):
            pytest.fail("no %s (%d); %s" % (pattern, count, self.said()))
        return found

    def wait_for_bytes(self, wanted):
        """Until wanted(stdout)."""
        with self.changed:
            found = self.changed.wait_for(lambda: wanted(self.out) or not self.open, LIMIT)
        if not found or not wanted(self.out):
            pytest.fail("of its bytes %d came; %s" % (len(self.out), self.said()))

    def finish(self, status=0):
        """Waits for the end, checks the exit status; returns stdout."""
        with self.changed:
            ended = self.changed.wait_for(lambda: not self.open, LIMIT)
        if not ended:
            pytest.fail("it does not end; " + self.said())
        got = self.process.wait(LIMIT)
        if got != status:
            pytest.fail("it ended with status %d; %s" % (got, self.said()))
        return bytes(self.out)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        for reader in self.readers:
            reader.join(LIMIT)
        print(self.said())  # is seen where a test has failed
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def listening_port(process):
    """The port a process listens on, for those that don't say it. They have said before
    that they listen."""
    inodes = set()
    for fd in os.listdir("/proc/%d/fd" % process.pid):
        with contextlib.suppress(OSError):
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink("/proc/%d/fd/%s" % (process.pid, fd))))
    with open("/proc/%d/net/tcp" % process.pid, encoding="ascii") as table:
        for line in table.readlines()[1:]:
            field = line.split()
            if field[3] == "0A" and field[9] in inodes:
                return int(field[1].split(":")[1], 16)
    pytest.fail("process %d listens on no IPv4 port" % process.pid)


def set_high(data):
    return data.translate(bytes(byte | 128 for byte in range(256)))


def only_high(text):
    """Of what a program prints the bytes that came over the connection."""
    return bytes(text).translate(None, bytes(range(128)))


class Certificates:
    """A root, a server's for localhost, a client's."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.root, self.root_key = self._new("root", "/CN=root", "basicConstraints=critical,CA:TRUE")
        self.server, self.server_key = self._signed("server", "/CN=localhost",
                                                    "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client, self.client_key = self._signed("client", "/CN=client-of-the-test",
                                                    "extendedKeyUsage=clientAuth")

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)

    def _names(self, name):
        return [os.path.join(self.folder, name + end) for end in (".pem", ".key")]

    def _new(self, name, subject, extension, *more):
        cert, key = self._names(name)
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-days", "2", "-subj", subject, "-addext", extension, "-keyout", key, "-out", cert, *more)
        return cert, key

    def _signed(self, name, subject, extension):
        cert, key = self._names(name)
        request, extensions = cert + ".req", cert + ".ext"
        with open(extensions, "w", encoding="ascii") as out:
            out.write("basicConstraints=critical,CA:FALSE\n" + extension + "\n")
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", subject, "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.root_key,
                      "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", cert)
        return cert, key


def counters():
    with open(STAT, encoding="ascii") as lines:
        stat = {name: int(value) for name, value in (line.split() for line in lines)}
    return {
        "tx": stat["TlsTxSw"] + stat["TlsTxDevice"],
        "rx": stat["TlsRxSw"] + stat["TlsRxDevice"],
        "errors": sum(stat.get(name, 0) for name in ERRORS),
        "tx_rekeys": stat.get("TlsTxRekeyOk", 0),
        "rx_rekeys": stat.get("TlsRxRekeyOk", 0),
        "received": stat.get("TlsRxRekeyReceived", 0),
    }


class Made:
    """What the kernel is to have made; a test that changes keys says so."""

    def __init__(self):
        self.rx_rekeys = self.tx_rekeys = 0


@contextlib.contextmanager
def kernel_makes(connections):
    """The kernel took both directions of so many connections meanwhile, changed no keys but
    those that it should, and could open every record."""
    made = Made()
    before = counters()
    yield made
    after = counters()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"tx": connections, "rx": connections, "errors": 0, "tx_rekeys": made.tx_rekeys,
                     "rx_rekeys": made.rx_rekeys, "received": made.rx_rekeys}


class Said:
    """A line of name=value of handover-echo."""

    def __init__(self, line):
        self.__dict__.update(word.split("=", 1) for word in line.split())


def report(program):
    """Its report; both directions have to be in the kernel."""
    said = Said(program.wait_for(r"^tx=.*\n").group().decode())
    assert (said.tx, said.rx) == ("kernel", "kernel")
    return said


def outcome(output):
    """The last line: received, sent, rx_rekeys, tx_rekeys, alert, end."""
    lines = [line for line in output.decode().splitlines() if line.startswith("received=")]
    assert lines, "no outcome in:\n" + output.decode()
    return Said(lines[-1])


# ---- Python's ssl ----

def python_context(protocol, cipher):
    context = ssl.SSLContext(protocol)
    version = ssl.TLSVersion.TLSv1_3 if cipher.version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = version
    if cipher.version == "1.2":
        context.set_ciphers(cipher.openssl)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default: a cut stream is no error
    return context


def exchange(peer, data=b"", count=None):
    """Sends data and receives count bytes at the same time; count None: to the peer's
    close_notify (a FIN without one is an SSLEOFError). One thread: two may not use one
    SSL object."""
    left, got = memoryview(data), bytearray()
    ended = False
    peer.setblocking(False)
    while left or not (ended or len(got) == count):
        moved = False
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if left:
                left = left[peer.send(left[:16384]):]
                moved = True
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not ended:
                try:
                    some = peer.recv(70_000)
                except ssl.SSLZeroReturnError:  # so it is told when close_notify was sent, too
                    some = b""
                got += some
                ended = not some
                moved = True
        if not moved and not any(select.select([peer], [peer] if left else [], [], LIMIT)):
            pytest.fail("nothing moves after %d bytes" % len(got))
    peer.settimeout(LIMIT)
    return bytes(got)


# ---- the variants ----

class Cipher:
    def __init__(self, version, openssl, gnutls):
        self.version = version
        self.openssl = openssl
        self.priority = "NONE:+VERS-TLS%s:+%s:+AEAD:+ECDHE-ECDSA:+GROUP-ALL:+SIGN-ALL" % (version, gnutls)

    def __repr__(self):
        return "%s-%s" % (self.version, self.openssl)

    @property
    def flags(self):
        """For openssl s_client and s_server."""
        which = "-ciphersuites" if self.version == "1.3" else "-cipher"
        return ["-tls1_" + self.version[2], which, self.openssl]

    @property
    def ours(self):
        return ["--version", self.version, "--cipher", self.openssl]


CIPHERS = [
    Cipher("1.3", "TLS_AES_128_GCM_SHA256", "AES-128-GCM"),
    Cipher("1.3", "TLS_AES_256_GCM_SHA384", "AES-256-GCM"),
    Cipher("1.3", "TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    Cipher("1.3", "TLS_AES_128_CCM_SHA256", "AES-128-CCM"),
    Cipher("1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM"),
    Cipher("1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM"),
    Cipher("1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305"),
    Cipher("1.2", "ECDHE-ECDSA-AES128-CCM", "AES-128-CCM"),
]
AES13, AES12 = CIPHERS[1], CIPHERS[4]
BOTH_VERSIONS = [AES13, AES12]
SIZES = [1, 100_000]
BIG = 5_000_000
# every cipher with both sizes, and 5 MB with one cipher of each version
AMOUNTS = [(c, n) for c in CIPHERS for n in SIZES] + [(c, BIG) for c in BOTH_VERSIONS]
AMOUNT_IDS = ["%r-%d" % amount for amount in AMOUNTS]
every_amount = pytest.mark.parametrize("cipher,size", AMOUNTS, ids=AMOUNT_IDS)
# for programs that don't offer CCM without being told
USUAL = [c for c in CIPHERS if "CCM" not in c.openssl]
every_usual_amount = pytest.mark.parametrize("cipher,size", [a for a in AMOUNTS if "CCM" not in a[0].openssl],
                                             ids=[i for i in AMOUNT_IDS if "CCM" not in i])
every_small_amount = pytest.mark.parametrize("cipher,size", [a for a in AMOUNTS if a[1] != BIG],
                                             ids=[i for i in AMOUNT_IDS if not i.endswith(str(BIG))])
TLS13 = [c for c in CIPHERS if c.version == "1.3"]
every_tls13 = pytest.mark.parametrize("cipher", TLS13, ids=repr)
each_version = pytest.mark.parametrize("cipher", BOTH_VERSIONS, ids=repr)
both_readings = pytest.mark.parametrize("bare", [False, True], ids=["conn", "bare"])
