# SPDX-License-Identifier: MIT
"""tlsfd serve --ocsp: what openssl s_client and gnutls-cli get, and what is refused."""
import os
import re
import shutil
import signal
import subprocess

import pytest

from connecting import need
from serving import BIN, LIMIT, answer, openssl, saying

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


class Responder:
    """What the authority's OCSP responder says of its certificates."""

    def __init__(self, ca, folder):
        self.ca, self.folder = ca, folder

    def answer(self, cert, name="ocsp", revoked=False, old=False):
        """The path of a response. old: out of date since long; nobody has signed that."""
        path, index = os.path.join(self.folder, name), os.path.join(self.folder, "index")
        serial = re.search("=(.*)", subprocess.check_output(
            ["openssl", "x509", "-noout", "-serial", "-in", cert], text=True))[1]
        with open(index, "w", encoding="ascii") as out:
            out.write("%s\t351231235959Z\t%s\t%s\tunknown\t/CN=any\n" % (
                "R" if revoked else "V", "260101000000Z" if revoked else "", serial))
        openssl("ocsp", "-index", index, "-CA", self.ca.root, "-rsigner", self.ca.root, "-rkey",
                self.ca.path("root.key"), "-issuer", self.ca.root, "-cert", cert, "-no_nonce", "-ndays", "1",
                "-respout", path, *(["-resp_no_certs"] if old else []))
        if old:
            with open(path, "r+b") as file:
                data = re.sub(rb"20\d\d(\d{10}Z)", rb"2020\1", file.read())
                file.seek(0)
                file.write(data)
        return path

    def status(self, cert, path):
        """What a client makes of it."""
        done = subprocess.run(["openssl", "ocsp", "-respin", path, "-CAfile", self.ca.root, "-issuer", self.ca.root,
                               "-cert", cert], capture_output=True, text=True, check=False, timeout=LIMIT)
        assert "Response verify OK" in done.stderr, done
        return re.search(r": (\w+)\n", done.stdout)[1]


@pytest.fixture
def responder(ca, tmp_path):
    return Responder(ca, str(tmp_path))


def stapled(server, ca, name, version="-tls1_3"):
    """The serial number and the status that s_client gets, None: nothing; the certificate is for name."""
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port, "-servername", name,
                           "-verify_hostname", name, "-verify_return_error", "-CAfile", ca.root, "-status", version],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert "Verification: OK" in done.stdout, done
    if "OCSP response: no response sent" in done.stdout:
        return None
    return tuple(re.search(what + r": (\w+)", done.stdout)[1] for what in ("Serial Number", "Cert Status"))


def serial(cert):
    return subprocess.check_output(["openssl", "x509", "-noout", "-serial", "-in", cert], text=True).strip()[7:]


def refusal(*options):
    """Status and sentence of a configuration that is no good."""
    done = subprocess.run([BIN, "serve", "--check-config", "--forward", "127.0.0.1:1", *options],
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stderr


@VERSIONS
def test_each_certificate_has_its_own(serve, ca, backend, responder, version):
    """In another order than the certificates; the last one has none."""
    certs = [ca.issue(name) for name in ("one.example", "two.example", "three.example")]
    answers = [responder.answer(cert, "%d" % i) for i, (cert, _) in enumerate(certs[:2])]
    server = serve("--ocsp", answers[1], "--ocsp", answers[0], "--forward", backend(saying(b"hello")).target,
                   *[word for cert, key in certs for word in ("--cert", cert, "--key", key)])
    assert stapled(server, ca, "one.example", version) == (serial(certs[0][0]), "good")
    assert stapled(server, ca, "two.example", version) == (serial(certs[1][0]), "good")
    assert stapled(server, ca, "three.example", version) is None
    with server.connect() as connection:  # who does not ask
        assert answer(connection) == b"hello"


@pytest.mark.parametrize("priority", ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"])
def test_gnutls_verifies_it(serve, ca, backend, responder, tmp_path, priority):
    need("gnutls-cli")
    cert, key = ca.issue("one.example")
    server = serve("--forward", backend().target, "--cert", cert, "--key", key, "--ocsp", responder.answer(cert))
    got = str(tmp_path / "got")
    done = subprocess.run(["gnutls-cli", "--priority", priority, "--x509cafile", ca.root, "--sni-hostname",
                           "one.example", "--verify-hostname", "one.example", "--save-ocsp", got, "-p",
                           str(server.port), "127.0.0.1"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 0 and "OCSP status request," in done.stdout and "is trusted" in done.stdout, done
    assert responder.status(cert, got) == "good"


def test_folder_and_reload(serve, ca, backend, responder, tmp_path):
    """NAME.ocsp next to NAME.pem; SIGHUP takes a new one."""
    folder = tmp_path / "certs"
    folder.mkdir()
    for name in "a.example", "b.example":
        cert, key = ca.issue(name)
        shutil.copy(cert, folder / (name + ".pem"))
        shutil.copy(key, folder / (name + ".key"))
    a, b = str(folder / "a.example.pem"), str(folder / "b.example.pem")
    responder.answer(b, folder / "b.example.ocsp")
    server = serve("--forward", backend().target, "--cert-dir", str(folder))
    assert stapled(server, ca, "a.example") is None
    assert stapled(server, ca, "b.example") == (serial(b), "good")

    responder.answer(a, folder / "a.example.ocsp")
    server.signal(signal.SIGHUP)
    assert "error" not in server.line(1, event="reload")
    assert stapled(server, ca, "a.example") == (serial(a), "good")

    responder.answer(a, folder / "a.example.ocsp", revoked=True)
    server.signal(signal.SIGHUP)
    said = server.line(2, event="reload")["error"]
    assert "a.example.ocsp" in said and "is revoked" in said and "the old settings stay" in said
    assert stapled(server, ca, "a.example") == (serial(a), "good")


def test_out_of_date(serve, ca, backend, responder):
    """It is said once, and not sent."""
    cert, key = ca.issue("one.example")
    old = responder.answer(cert, old=True)
    server = serve("--forward", backend().target, "--cert", cert, "--key", key, "--ocsp", old)
    assert stapled(server, ca, "one.example") is None
    [said] = [line["error"] for line in server.matching(event="warning")
              if not line["error"].startswith("no kernel TLS")]
    assert old in said and "was good until 2020-" in said and "not sent" in said


def test_what_is_refused(ca, responder, tmp_path):
    one, two = ca.issue("one.example"), ca.issue("two.example")
    options = ["--cert", one[0], "--key", one[1]]
    good, other = responder.answer(one[0], "good"), responder.answer(two[0], "other")
    garbage = str(tmp_path / "garbage")
    with open(garbage, "wb") as out:
        out.write(b"<html>no such page</html>")
    assert refusal(*options, "--ocsp", good)[0] == 0
    for path, sentence in ((other, "for none of the certificates"), (garbage, "no OCSP response in DER"),
                           (one[0], "no OCSP response in DER"), ("/no.such.file", "No such file"),
                           (responder.answer(one[0], "revoked", revoked=True), "is revoked")):
        status, said = refusal(*options, "--ocsp", good, "--ocsp", path)
        assert status == 4 and path in said and sentence in said, (path, status, said)
    assert refusal("--self-signed", "--ocsp", good)[0] == 4
    folder = tmp_path / "certs"
    folder.mkdir()
    shutil.copy(one[0], folder / "a.pem")
    shutil.copy(one[1], folder / "a.key")
    shutil.copy(other, folder / "a.ocsp")
    status, said = refusal("--cert-dir", str(folder))
    assert status == 4 and "a.ocsp: the OCSP response is for another certificate" in said
