# SPDX-License-Identifier: MIT
"""tlsfd connect --starttls with Exim, Postfix, Dovecot (IMAP and POP3) and Prosody (XMPP)."""
import base64
import contextlib
import glob
import os
import pwd
import re
import smtplib
import socket
import subprocess

import pytest

from services import BIN, HERE, LIMIT, MEGABYTE, digest, each_version, in_kernel, missing, run, unused_port, wait_for

USER, PASSWORD = "somebody", "secret"


def letter(size):
    """A mail of lines that no protocol changes."""
    lines = base64.encodebytes(os.urandom(size * 3 // 4)).replace(b"\n", b"\r\n")
    return b"Subject: a test\r\n\r\n" + lines


class Dialogue:
    """Lines over a plain socket."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.file = self.socket.makefile("rb")

    def ask(self, text, until):
        """What comes up to a line that begins so."""
        self.socket.sendall(text)
        got = []
        while not got or not got[-1].startswith(until):
            got.append(self.file.readline())
            assert got[-1].endswith(b"\n"), b"".join(got)[-1000:]
        return b"".join(got)

    def end(self):
        """The server's, which comes as one."""
        assert self.file.read() == b""
        self.file.close()
        self.socket.close()


# ---- SMTP ----

class Mailbox:
    """A server's port, and how the newest letter in it is found."""

    def __init__(self, port, pattern, skip=b""):
        self.port, self.pattern, self.skip = port, pattern, skip

    def newest(self):
        """Behind what the server has put in front."""
        wait_for(lambda: glob.glob(self.pattern, recursive=True))
        with open(max(glob.glob(self.pattern, recursive=True), key=os.path.getmtime), "rb") as file:
            return file.read().split(self.skip, 1)[1]


@pytest.fixture(scope="module")
def exim(daemon, folder, certs):
    """By GnuTLS. Keeps what it takes in its queue."""
    place, port = folder("Debian-exim"), unused_port()
    config = folder().write("exim.conf", f"""
primary_hostname = localhost
spool_directory = {place.at("spool")}
log_file_path = {place.at("%slog")}
local_interfaces = 127.0.0.1
tls_advertise_hosts = *
tls_certificate = {place.copy(certs.server)}
tls_privatekey = {place.copy(certs.server_key)}
queue_only
message_size_limit = 50M
acl_smtp_rcpt = only_with_tls
acl_smtp_data = only_with_tls
begin acl
only_with_tls:
  deny !encrypted = *
  accept
""")
    daemon(place, "exim4", "-C", config, "-bdf", "-oX", port, "-oP", place.at("pid"), port=port)
    return Mailbox(port, place.at("spool/input/**/*-D"), b"\n")  # the first line is the file's name


@pytest.fixture(scope="module")
def postfix(daemon, folder, certs):
    """By OpenSSL. Delivers. It runs from the folder that it was unpacked in."""
    unpacked = subprocess.run([os.path.join(HERE, "../../lab/prepare"), "--path", "postfix"], check=True,
                              capture_output=True, text=True).stdout.strip()
    programs = unpacked + "/usr/lib/postfix"
    if not os.path.exists(programs):
        missing("Postfix (lab/prepare postfix)")
    place, port, owner = folder("mail"), unused_port(), pwd.getpwnam("mail")
    config = place.make("config", "root")
    place.make("queue", "root")
    for name in "active", "bounce", "defer", "deferred", "incoming", "maildrop", "pid", "private", "public":
        place.make("queue/" + name, "root" if name == "pid" else None)
    place.write("config/main.cf", f"""
compatibility_level = 3.6
queue_directory = {place.at("queue")}
data_directory = {place.make("data")}
daemon_directory = {programs}/sbin
command_directory = {unpacked}/usr/sbin
shlib_directory = {programs}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH={programs}
maillog_file = {place.at("mail.log")}
maillog_file_prefixes = {place.path}
mail_owner = mail
setgid_group = news
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
myhostname = localhost
mydestination =
local_recipient_maps =
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = {place.copy(certs.server_key)}, {place.copy(certs.server)}
message_size_limit = 50000000
virtual_mailbox_limit = 50000000
virtual_mailbox_domains = localhost
virtual_mailbox_base = {place.path}
virtual_mailbox_maps = static:box/
virtual_minimum_uid = 1
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
""")
    place.write("config/master.cf", f"""
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""")
    daemon(place, programs + "/sbin/master", "-c", config, "-d", port=port,
           env={**os.environ, "LD_LIBRARY_PATH": programs})
    return Mailbox(port, place.at("box/new/*"), b"\n\n")


@pytest.fixture(params=["exim", "postfix"])
def mailbox(request):
    return request.getfixturevalue(request.param)


@each_version
def test_smtp(mailbox, connect, version):
    """A letter of 5 MB arrives."""
    tunnel = connect(mailbox.port, "--starttls", "smtp", "--max-version", version)
    client, text = smtplib.SMTP(timeout=LIMIT, local_hostname="localhost"), letter(5 * MEGABYTE)
    client.sock = socket.create_connection(("127.0.0.1", tunnel.port), LIMIT)  # no greeting comes
    assert client.ehlo()[0] == 250 and not client.has_extn("starttls")
    client.sendmail("from@localhost", ["to@localhost"], text)
    assert client.quit()[0] == 221
    in_kernel(tunnel.line(event="connection"), version="TLSv" + version)
    body = text.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n")
    wait_for(lambda: digest(mailbox.newest()) == digest(body))


def test_smtp_at_stdin(mailbox, certs):
    """What the manual's example asks."""
    said = run(BIN, "connect", "--require-kernel", "--ca", certs.root, "--no-half-close", "--starttls", "smtp",
               f"localhost:{mailbox.port}", input=b"EHLO example.net\r\nQUIT\r\n")
    assert said.startswith(b"250-localhost") and re.search(rb"\r\n221 .*\r\n$", said), said


# ---- IMAP, POP3 ----

@pytest.fixture(scope="module")
def dovecot(daemon, folder, certs):
    """Its ports."""
    place, imap, pop3 = folder("dovecot"), unused_port(), unused_port()
    config = place.write("dovecot.conf", f"""
base_dir = {place.at("run")}
state_dir = {place.at("run")}
log_path = /dev/stderr
protocols = imap pop3
listen = 127.0.0.1
ssl = required
ssl_cert = <{certs.server}
ssl_key = <{certs.server_key}
first_valid_uid = 1
mail_location = maildir:{place.at("mail")}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home={place.path}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
""")
    daemon(place, "dovecot", "-F", "-c", config, port=imap)
    return imap, pop3


@each_version
def test_dovecot(dovecot, connect, version):
    """A letter goes there by IMAP and comes back by both protocols."""
    imap, pop3 = (connect(port, "--starttls", name, "--max-version", version)
                  for port, name in zip(dovecot, ("imap", "pop3")))
    text = letter(2 * MEGABYTE)

    client = Dialogue(imap.port)
    client.ask(b"a LOGIN %s %s\r\n" % (USER.encode(), PASSWORD.encode()), b"a OK")
    client.ask(b"b APPEND INBOX {%d}\r\n" % len(text), b"+ ")
    client.ask(text + b"\r\n", b"b OK")
    client.ask(b"c SELECT INBOX\r\n", b"c OK")
    assert text in client.ask(b"d FETCH * BODY[]\r\n", b"d OK")
    client.ask(b"e LOGOUT\r\n", b"e OK")
    client.end()
    in_kernel(imap.line(event="connection"), version="TLSv" + version)

    client = Dialogue(pop3.port)
    client.ask(b"USER %s\r\n" % USER.encode(), b"+OK")
    client.ask(b"PASS %s\r\n" % PASSWORD.encode(), b"+OK")
    assert text in client.ask(b"RETR 1\r\n", b".\r\n")
    client.ask(b"DELE 1\r\n", b"+OK")
    client.ask(b"QUIT\r\n", b"+OK")
    client.end()
    in_kernel(pop3.line(event="connection"), version="TLSv" + version)


# ---- XMPP ----

@pytest.fixture(scope="module")
def prosody(daemon, folder, certs):
    place, port = folder("prosody"), unused_port()
    config = place.write("prosody.lua", f"""
pidfile = "{place.at("pid")}"
data_path = "{place.at("data")}"
modules_enabled = {{ "saslauth", "tls" }}
modules_disabled = {{ "s2s" }}
c2s_ports = {{ {port} }}
c2s_interfaces = {{ "127.0.0.1" }}
c2s_require_encryption = true
authentication = "internal_plain"
ssl = {{ certificate = "{place.copy(certs.server)}", key = "{place.copy(certs.server_key)}" }}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost "localhost"
""")
    for sub in "data", "data/localhost", "data/localhost/accounts":
        place.make(sub)
    place.write(f"data/localhost/accounts/{USER}.dat", f'return {{ ["password"] = "{PASSWORD}" }};\n')
    daemon(place, "setpriv", "--reuid", "prosody", "--regid", "prosody", "--clear-groups", "prosody", "--config",
           config, "-F", port=port, cwd=place.path)
    return port


STREAM = (b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
          b"xmlns:stream='http://etherx.jabber.org/streams'>")


@each_version
def test_prosody(prosody, connect, version):
    """It takes a password only behind TLS."""
    tunnel = connect(prosody, "--starttls", "xmpp", "--max-version", version)

    def ask(text, until):
        peer.sendall(text)
        got = b""
        while until not in got:
            got += (piece := peer.recv(65536))
            assert piece, got
        return got

    with socket.create_connection(("127.0.0.1", tunnel.port), LIMIT) as peer:
        features = ask(STREAM, b"</stream:features>")
        assert b">PLAIN<" in features and b"xmpp-tls" not in features
        login = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        ask(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + login + b"</auth>", b"<success ")
        assert b"xmpp-bind" in ask(STREAM, b"</stream:features>")
        ask(b"</stream:stream>", b"</stream:stream>")
        with contextlib.suppress(ConnectionResetError):
            peer.recv(1)
    in_kernel(tunnel.line(event="connection"), version="TLSv" + version)
