# SPDX-License-Identifier: MIT
"""nginx behind tlsfd serve; curl, openssl s_client, gnutls-cli and Python's ssl in front of it."""
import http.client
import os
import ssl

import pytest

from services import MEGABYTE, VERSIONS, digest, each_version, in_kernel, need, run, unused_port

PAGE = b"a page of nginx\n"
BIG = 50 * MEGABYTE


class Site:
    """nginx with a page, a big file, a place for uploads; HTTP/2 has a port of its own."""

    def __init__(self, daemon, folder):
        need("nginx")
        self.root = folder()
        self.big = os.urandom(BIG)
        self.root.write("page", PAGE)
        self.root.write("big", self.big)
        self.upload = self.root.write("upload", os.urandom(BIG))
        self.port, self.port2 = unused_port(), unused_port()
        config = self.root.write("nginx.conf", f"""
            daemon off;
            user root;
            worker_processes 1;
            pid {self.root.at("pid")};
            error_log stderr;
            events {{ }}
            http {{
                access_log off;
                client_max_body_size 0;
                client_body_temp_path {self.root.at("body")};
                root {self.root.path};
                keepalive_timeout 60s;
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{ dav_methods PUT; }}
                }}
                server {{ listen 127.0.0.1:{self.port2} http2; }}
            }}""")
        daemon(self.root, "nginx", "-p", self.root.path, "-e", "stderr", "-c", config, port=self.port)
        self.target, self.target2 = (f"127.0.0.1:{port}" for port in (self.port, self.port2))


@pytest.fixture(scope="module")
def site(daemon, folder):
    return Site(daemon, folder)


@pytest.fixture
def curl(certs):
    def fetch(port, path, *options, version=None):
        only = ["--tlsv" + version, "--tls-max", version] if version else []
        return run("curl", "-sSf", "--cacert", certs.root, *only, *options, f"https://localhost:{port}/{path}")
    return fetch


@each_version
def test_curl_a_page(serve, site, curl, version):
    server = serve(site.target)
    assert curl(server.port, "page", version=version) == PAGE
    in_kernel(server.line(event="connection"), version=VERSIONS[version], sni="localhost")


def test_curl_a_big_file(serve, site, curl):
    server = serve(site.target)
    assert digest(curl(server.port, "big")) == digest(site.big)
    line = server.line(event="connection")
    in_kernel(line)
    assert int(line["out"]) > BIG


def test_curl_a_big_upload(serve, site, curl):
    server = serve(site.target)
    curl(server.port, "uploaded", "-T", site.upload)
    with open(site.upload, "rb") as sent, open(site.root.at("uploaded"), "rb") as got:
        assert digest(got.read()) == digest(sent.read())
    line = server.line(event="connection")
    in_kernel(line)
    assert int(line["in"]) > BIG


@each_version
def test_curl_keeps_the_connection(serve, site, curl, version):
    server = serve(site.target)
    assert curl(server.port, "page?[1-100]", version=version) == PAGE * 100
    in_kernel(server.line(event="connection"))
    assert len(server.matching(event="connection")) == 1


def test_curl_http_2(serve, site, curl, tmp_path):
    """Many streams at once in one connection, some of them long."""
    server = serve(site.target2, "--alpn", "h2,http/1.1")
    urls = tmp_path / "urls"
    with open(urls, "w", encoding="ascii") as file:
        for i in range(60):
            name = "big" if i % 20 == 0 else "page"
            file.write(f'url = "https://localhost:{server.port}/{name}?{i}"\noutput = "{tmp_path}/{i}"\n')
    curl(server.port, "page?last", "--http2", "--parallel", "--parallel-max", "60", "-K", urls, "-w",
         "%{http_version}\n", "-o", tmp_path / "last")
    for i in range(60):
        assert digest((tmp_path / str(i)).read_bytes()) == digest(site.big if i % 20 == 0 else PAGE)
    assert (tmp_path / "last").read_bytes() == PAGE
    # curl 7.88 ends HTTP/2 without close_notify
    in_kernel(server.line(event="connection"), alpn="h2", ends=("closed", "truncated"))


LASTING = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
REQUEST = LASTING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@each_version
def test_openssl_s_client(serve, site, certs, version):
    server = serve(site.target)
    said = run("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_" + version[2], "-quiet",
               "-CAfile", certs.root, "-verify_return_error", "-verify_hostname", "localhost", "-servername",
               "localhost", input=REQUEST)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\n" + PAGE)
    in_kernel(server.line(event="connection"), version=VERSIONS[version])


@each_version
def test_gnutls_cli(serve, site, certs, version):
    """It sends close_notify at the end of its input, but not where the server's came first."""
    server = serve(site.target)
    said = run("gnutls-cli", "--x509cafile", certs.root, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" + version,
               "--port", server.port, "localhost", input=LASTING)
    assert b"\nHTTP/1.1 200 OK\r\n" in said and b"\r\n\r\n" + PAGE in said
    in_kernel(server.line(event="connection"), version=VERSIONS[version])


@each_version
def test_python(serve, site, certs, version):
    """http.client: requests of both kinds over one connection."""
    server = serve(site.target)
    context = ssl.create_default_context(cafile=certs.root)
    context.minimum_version = context.maximum_version = \
        ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
    client = http.client.HTTPSConnection("localhost", server.port, timeout=30, context=context)
    data = os.urandom(5 * MEGABYTE)
    for _ in range(3):
        client.request("PUT", f"/python-{version}", body=data)
        answer = client.getresponse()
        assert answer.status in (201, 204) and answer.read() == b""
        client.request("GET", f"/python-{version}")
        assert digest(client.getresponse().read()) == digest(data)
    client.sock.unwrap().close()
    in_kernel(server.line(event="connection"), version=VERSIONS[version])
