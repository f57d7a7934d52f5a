# SPDX-License-Identifier: MIT
"""A server that handed its connection over, and other people's clients. Both directions
are in the kernel, the data arrives as it was, the end is clean."""
import socket
import ssl
import subprocess

from peers import (BIG, LIMIT, TRANSFER, each_version, every_amount, every_small_amount,
                   every_usual_amount, exchange, kernel_makes, need, outcome, python_context, report)

LOCAL = "127.0.0.1:%d"


def s_client(start, certs, port, *options, commands=False, **where):
    return start("openssl", "s_client", "-connect", LOCAL % port, "-servername", "localhost",
                 "-verify_hostname", "localhost", "-CAfile", certs.root, "-verify_return_error",
                 "-quiet", "-no_ign_eof" if commands else "-nocommands", *options, **where)


def gnutls_cli(start, certs, files, port, cipher, *options, **where):
    need("gnutls-cli")
    return start("gnutls-cli", "--x509cafile", certs.root, "--priority", cipher.priority,
                 "--logfile", files.path("gnutls.log"), "-p", str(port), *options, "localhost", **where)


def curl(start, certs, port, cipher, *options):
    need("curl")
    ciphers = "--tls13-ciphers" if cipher.version == "1.3" else "--ciphers"
    return start("curl", "--disable", "--silent", "--show-error", "--http1.0", "--noproxy", "*", "--ipv4",
                 "--cacert", certs.root, "--tlsv" + cipher.version, "--tls-max", cipher.version,
                 ciphers, cipher.openssl, *options, "https://localhost:%d/file" % port)


def python_client(certs, port, cipher, alpn=None):
    context = python_context(ssl.PROTOCOL_TLS_CLIENT, cipher)
    context.load_verify_locations(certs.root)
    if alpn:
        context.set_alpn_protocols([alpn])
    plain = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def negotiated(program, cipher):
    said = report(program)
    assert (said.version, said.cipher) == ("TLSv" + cipher.version, cipher.openssl)


# ---- openssl s_client ----

@every_amount
def test_s_client_receives(start, server, certs, files, cipher, size):
    data = files.random(size)
    with kernel_makes(1):
        ours = server(*cipher.ours, "--send", data, "--count", "0")
        peer = s_client(start, certs, ours.port, *cipher.flags, stdout=files.path("out"))
        negotiated(ours, cipher)
        peer.finish()  # a stream cut short is status 1
        done = outcome(ours.finish())
    assert (done.sent, done.end) == (str(size), "close_notify")
    files.same(data, files.path("out"))


@every_amount
def test_s_client_sends(start, server, certs, files, cipher, size):
    data = files.random(size)
    with kernel_makes(1):
        ours = server(*cipher.ours, "--receive", files.path("out"))
        peer = s_client(start, certs, ours.port, "-no_ign_eof", *cipher.flags, stdin=data)
        negotiated(ours, cipher)
        peer.finish()
        done = outcome(ours.finish())
    assert (done.received, done.end) == (str(size), "close_notify")
    files.same(data, files.path("out"))


@each_version
def test_s_client_is_echoed(start, server, certs, files, cipher):
    size = 100_000
    data = files.random(size)
    ours = server("--echo", "--count", str(size))
    peer = s_client(start, certs, ours.port, *cipher.flags, stdin=data, stdout=files.path("out"))
    report(ours)
    peer.finish()
    assert outcome(ours.finish()).end == "close_notify"
    files.same(data, files.path("out"))


# ---- gnutls-cli ----

@every_small_amount
def test_gnutls_cli_is_echoed(start, server, certs, files, cipher, size):
    data = files.random(size)
    with kernel_makes(1):
        ours = server(*cipher.ours, "--echo")
        peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=data, stdout=files.path("out"))
        negotiated(ours, cipher)
        peer.finish()
        done = outcome(ours.finish())
    assert (done.received, done.sent, done.end) == (str(size), str(size), "close_notify")
    files.same(data, files.path("out"))


@each_version
def test_gnutls_cli_sees_our_close(start, server, certs, files, cipher):
    """This end closes first; gnutls-cli's stdin stays open."""
    data = files.random(100_000)  # it writes its output byte by byte
    ours = server("--send", data, "--count", "0")
    peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=subprocess.PIPE,
                      stdout=files.path("out"))
    report(ours)
    peer.finish()
    assert outcome(ours.finish()).sent == "100000"
    files.same(data, files.path("out"))
    with open(files.path("gnutls.log"), encoding="utf-8") as log:
        assert "Peer has closed the GnuTLS connection" in log.read()


@each_version
def test_gnutls_cli_sends(start, server, certs, files, cipher):
    data = files.random(BIG, high=True)  # no newlines: it makes a record of every line
    ours = server("--receive", files.path("out"))
    peer = gnutls_cli(start, certs, files, ours.port, cipher, stdin=data)
    report(ours)
    peer.finish()
    assert outcome(ours.finish()).end == "close_notify"
    files.same(data, files.path("out"))


# ---- curl, to the demo's sendfile and splice ----

def transfer(start, certs, name):
    program = start(TRANSFER, "http", certs.server, certs.server_key, name)
    program.port = int(program.wait_for(r"^port (\d+)\n").group(1))
    return program


@every_usual_amount
def test_curl_gets(start, certs, files, cipher, size):
    data = files.random(size)
    with kernel_makes(1):
        ours = transfer(start, certs, data)
        curl(start, certs, ours.port, cipher, "--output", files.path("out")).finish()
        said = ours.finish().decode()
    assert "TLSv%s, %s: tx kernel, rx kernel\n" % (cipher.version, cipher.openssl) in said
    files.same(data, files.path("out"))


@every_usual_amount
def test_curl_puts(start, certs, files, cipher, size):
    data = files.random(size)
    with kernel_makes(1):
        ours = transfer(start, certs, files.path("out"))
        curl(start, certs, ours.port, cipher, "--upload-file", data).finish()
        said = ours.finish().decode()
    assert "TLSv%s, %s: tx kernel, rx kernel\n" % (cipher.version, cipher.openssl) in said
    files.same(data, files.path("out"))


# ---- Python's ssl ----

@every_usual_amount
def test_python_both_ways(server, certs, files, cipher, size):
    """Both ends send at the same time."""
    mine, theirs = files.random(size, "mine"), files.random(size, "theirs")
    with kernel_makes(1):
        ours = server(*cipher.ours, "--send", mine, "--receive", files.path("received"), "--count", str(size))
        with python_client(certs, ours.port, cipher) as peer:
            with open(theirs, "rb") as data:
                got = exchange(peer, data.read())
            peer.unwrap()
        negotiated(ours, cipher)
        done = outcome(ours.finish())
    assert (done.received, done.sent, done.end) == (str(size), str(size), "close_notify")
    files.same(theirs, files.path("received"))
    files.same(mine, files.holding(got, "got"))


# ---- more than data ----

@each_version
def test_openssl_moves_what_it_can(start, server, certs, files, cipher):
    """With SSL_OP_ENABLE_KTLS: tlsfd adds what OpenSSL left."""
    data = files.random(100_000)
    with kernel_makes(1):
        ours = server("--ktls", "--echo", "--count", "100000")
        peer = s_client(start, certs, ours.port, *cipher.flags, stdin=data, stdout=files.path("out"))
        report(ours)
        peer.finish()
        ours.finish()
    files.same(data, files.path("out"))


@each_version
def test_client_certificate(start, server, certs, files, cipher):
    data = files.random(1000)
    ours = server("--ca", certs.root, "--echo", "--count", "1000")
    peer = s_client(start, certs, ours.port, "-cert", certs.client, "-key", certs.client_key, *cipher.flags,
                    stdin=data, stdout=files.path("out"))
    assert report(ours).peer == "client-of-the-test"
    peer.finish()
    assert outcome(ours.finish()).end == "close_notify"
    files.same(data, files.path("out"))


@each_version
def test_client_certificate_of_gnutls(start, server, certs, files, cipher):
    data = files.random(1000)
    ours = server("--ca", certs.root, "--echo")
    peer = gnutls_cli(start, certs, files, ours.port, cipher, "--x509certfile", certs.client,
                      "--x509keyfile", certs.client_key, stdin=data, stdout=files.path("out"))
    assert report(ours).peer == "client-of-the-test"
    peer.finish()
    ours.finish()
    files.same(data, files.path("out"))


@each_version
def test_alpn(server, certs, cipher):
    ours = server("--alpn", "peers/1", "--count", "0")
    with python_client(certs, ours.port, cipher, alpn="peers/1") as peer:
        assert peer.selected_alpn_protocol() == "peers/1"
        assert report(ours).alpn == "peers/1"
        assert exchange(peer) == b""
        peer.unwrap()
    assert outcome(ours.finish()).end == "close_notify"


@each_version
def test_session_is_resumed(start, server, certs, files, cipher):
    data = files.random(100_000)
    session = files.path("session.pem")
    with kernel_makes(2):
        ours = server("--connections", "2", "--send", data, "--count", "0")
        s_client(start, certs, ours.port, *cipher.flags, "-sess_out", session,
                 stdout=files.path("first")).finish()
        assert ours.wait_for(r"^tx=kernel rx=kernel .*resumed=0")
        s_client(start, certs, ours.port, *cipher.flags, "-sess_in", session,
                 stdout=files.path("second")).finish()
        assert ours.wait_for(r"^tx=kernel rx=kernel .*resumed=1")
        assert outcome(ours.finish()).end == "close_notify"
    files.same(data, files.path("first"))
    files.same(data, files.path("second"))
