# SPDX-License-Identifier: MIT
"""A client that handed its connection over, and other people's servers."""
import socket
import ssl
import subprocess
import threading

from peers import (AES12, BIG, LIMIT, each_version, every_amount, every_usual_amount, exchange, kernel_makes,
                   listening_port, need, only_high, outcome, python_context, report)


# ---- openssl s_server ----

def s_server(start, certs, *options, stdin=subprocess.PIPE):
    program = start("openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1",
                    "-cert", certs.server, "-key", certs.server_key, *options, stdin=stdin)
    program.port = int(program.wait_for(r"^ACCEPT 127\.0\.0\.1:(\d+)\n").group(1))
    return program


def write_stdin(program, path):
    def write():
        with open(path, "rb") as data:
            program.process.stdin.write(data.read())
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    return writer


@every_amount
def test_s_server_both_ways(start, client, certs, files, cipher, size):
    mine, theirs = files.random(size, "mine", high=True), files.random(size, "theirs", high=True)
    with kernel_makes(1):
        peer = s_server(start, certs, *cipher.flags)
        writer = write_stdin(peer, theirs)
        ours = client(peer.port, *cipher.ours, "--send", mine, "--receive", files.path("received"),
                      "--count", str(size))
        assert report(ours).cipher == cipher.openssl
        done = outcome(ours.finish())
        output = peer.finish()
    writer.join(LIMIT)
    assert (done.received, done.sent, done.end) == (str(size), str(size), "close_notify")
    files.same(theirs, files.path("received"))
    files.same(mine, files.holding(only_high(output), "got"))
    assert b"DONE\n" in output  # s_server saw a clean end


# ---- gnutls-serv ----

def gnutls_serv(start, certs, cipher, *options, client_cert="--disable-client-cert"):
    need("gnutls-serv")
    program = start("gnutls-serv", "-p", "0", "--x509certfile", certs.server, "--x509keyfile",
                    certs.server_key, "--priority", cipher.priority, client_cert, *options)
    program.wait_for(r"listening on IPv4 .*done\n")
    program.port = listening_port(program.process)
    return program


@every_amount
def test_gnutls_serv_shows_our_header(start, client, certs, files, cipher, size):
    """Its page repeats the header that it got; then it closes."""
    header = b"X: " + bytes(33 + i % 90 for i in range(size)) + b"\r\n\r\n"
    request = files.holding(b"GET / HTTP/1.0\r\n" + header, "request")
    with kernel_makes(1):
        peer = gnutls_serv(start, certs, cipher, "--http")
        ours = client(peer.port, *cipher.ours, "--send", request, "--receive", files.path("page"))
        assert report(ours).cipher == cipher.openssl
        done = outcome(ours.finish())
    assert done.end == "close_notify"
    with open(files.path("page"), "rb") as page:
        _, _, shown = page.read().partition(b"<PRE>")
    shown, _, _ = shown.partition(b"</PRE>")
    files.same(files.holding(header, "header"), files.holding(shown, "shown"))


@each_version
def test_gnutls_serv_sends_a_file(start, client, certs, files, cipher):
    """It closes first."""
    data = files.random(BIG)
    request = files.holding(b"GET / HTTP/1.0\r\n\r\n", "request")
    peer = gnutls_serv(start, certs, cipher, "--http", "--httpdata", data)
    ours = client(peer.port, *cipher.ours, "--bare", "--send", request, "--receive", files.path("received"))
    report(ours)
    done = outcome(ours.finish())
    assert done.end == "close_notify"
    with open(files.path("received"), "rb") as response:
        _, _, body = response.read().partition(b"\r\n\r\n")
    files.same(data, files.holding(body, "body"))


# ---- Python's ssl ----

class PythonServer:
    """Serves one connection in a thread: talk(peer)."""

    def __init__(self, certs, cipher, talk, prepare=lambda context: None):
        context = python_context(ssl.PROTOCOL_TLS_SERVER, cipher)
        context.load_cert_chain(certs.server, certs.server_key)
        prepare(context)
        self.error = None
        self.result = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, args=(context, talk), daemon=True)
        self.thread.start()

    def _serve(self, context, talk):
        try:
            plain, _ = self.listener.accept()
            plain.settimeout(LIMIT)
            with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as peer:
                self.result = talk(peer)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def finish(self):
        self.thread.join(LIMIT)
        self.listener.close()
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        return self.result


@every_usual_amount
def test_python_server_both_ways(client, certs, files, cipher, size):
    """Both ends send at the same time; the server closes first."""
    mine, theirs = files.random(size, "mine"), files.random(size, "theirs")

    def talk(peer):
        with open(theirs, "rb") as data:
            got = exchange(peer, data.read(), size)
        peer.unwrap()  # an SSLError without the peer's close_notify
        return got

    with kernel_makes(1):
        peer = PythonServer(certs, cipher, talk)
        ours = client(peer.port, *cipher.ours, "--send", mine, "--receive", files.path("received"))
        assert report(ours).cipher == cipher.openssl
        done = outcome(ours.finish())
        got = peer.finish()
    assert (done.received, done.sent, done.end) == (str(size), str(size), "close_notify")
    files.same(theirs, files.path("received"))
    files.same(mine, files.holding(got, "got"))


# ---- more than data ----

@each_version
def test_openssl_moves_what_it_can(start, client, certs, files, cipher):
    """With SSL_OP_ENABLE_KTLS: tlsfd adds what OpenSSL left."""
    data = files.random(100_000, high=True)
    with kernel_makes(1):
        peer = s_server(start, certs, *cipher.flags)
        ours = client(peer.port, *cipher.ours, "--ktls", "--send", data, "--count", "0")
        report(ours)
        ours.finish()
        files.same(data, files.holding(only_high(peer.finish()), "got"))


@each_version
def test_client_certificate(client, certs, cipher):
    def demand(context):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs.root)

    def talk(peer):
        peer.unwrap()
        return dict(pair[0] for pair in peer_name)

    peer_name = []

    def note_name(peer):
        peer_name.extend(peer.getpeercert()["subject"])
        return talk(peer)

    peer = PythonServer(certs, cipher, note_name, demand)
    ours = client(peer.port, *cipher.ours, "--cert", certs.client, "--key", certs.client_key)
    report(ours)
    assert outcome(ours.finish()).end == "close_notify"
    assert peer.finish() == {"commonName": "client-of-the-test"}


@each_version
def test_alpn(client, certs, cipher):
    def talk(peer):
        chosen = peer.selected_alpn_protocol()
        peer.unwrap()
        return chosen

    peer = PythonServer(certs, cipher, talk, lambda context: context.set_alpn_protocols(["other", "peers/1"]))
    ours = client(peer.port, *cipher.ours, "--alpn", "peers/1")
    assert report(ours).alpn == "peers/1"
    ours.finish()
    assert peer.finish() == "peers/1"


def test_session_of_a_connection_handed_over_is_resumed(start, client, certs, files):
    """TLS 1.2: SSL_free after the handover leaves the session good for another time."""
    data = files.random(1000, high=True)
    with kernel_makes(2):
        peer = s_server(start, certs, *AES12.flags, "-naccept", "2")
        ours = client(peer.port, *AES12.ours, "--connections", "2", "--send", data, "--count", "0")
        assert ours.wait_for(r"^tx=kernel rx=kernel .*resumed=0")
        assert ours.wait_for(r"^tx=kernel rx=kernel .*resumed=1")
        ours.finish()
        output = peer.finish()
    assert only_high(output) == (open(data, "rb").read()) * 2
    assert b"Reused session-id" in output
