# SPDX-License-Identifier: MIT
"""Chromium, without a window, loads a page with 100 objects through tlsfd serve. The screenshots
are left in TLSFD_BUILD/browser, to be looked at.

TLSFD_BROWSER_SECONDS  what a page may take (default: 60)
"""
import os
import re
import struct
import subprocess
import zlib

import pytest

from services import in_kernel, need, run, unused_port

SECONDS = int(os.environ.get("TLSFD_BROWSER_SECONDS", "60"))
PICTURES = os.path.join(os.environ.get("TLSFD_BUILD", "build"), "browser")
IMAGES, SCRIPTS, SIDE = 59, 40, 1000  # and a big picture: 100 objects

PAGE = """<!doctype html>
<title>loading</title>
<style>body { font: 20px sans-serif } img { width: 40px; height: 40px } #big { width: 300px; height: 200px }</style>
<h1 id=said>loading</h1>
<p>%(images)s
<p><img id=big src=big.png>
<script>var ran = 0, sum = 0;</script>
%(scripts)s
<script>
addEventListener("load", function () {
    var shown = Array.from(document.images).filter(i => i.complete && i.naturalWidth > 0).length;
    var big = document.getElementById("big");
    document.title = document.getElementById("said").textContent =
        shown + " images and " + ran + " scripts over " +
        performance.getEntriesByType("navigation")[0].nextHopProtocol +
        ", the sum is " + sum + ", the big one is " + big.naturalWidth + " wide";
});
</script>
"""


def png(side, rows):
    """A picture from rows of RGB."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"".join(b"\0" + row for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(pixels, 1)) + chunk(b"IEND", b""))


def fill(root):
    """The page and its objects; the big one is noise of 3 MB."""
    for i in range(IMAGES):
        color = bytes((i * 4, 255 - i * 4, 128))
        root.write(f"{i}.png", png(16, [color * 16] * 16))
    for i in range(SCRIPTS):
        root.write(f"{i}.js", f"/* {'x' * 3000} */ ran++; sum += {i};\n")
    root.write("big.png", png(SIDE, [os.urandom(3 * SIDE) for _ in range(SIDE)]))
    root.write("index.html", PAGE % {
        "images": "".join(f"<img src={i}.png>" for i in range(IMAGES)),
        "scripts": "".join(f"<script src={i}.js></script>" for i in range(SCRIPTS))})


@pytest.fixture(scope="module")
def site(daemon, folder):
    """nginx: a target for each protocol."""
    root = folder()
    fill(root)
    ports = {"http/1.1": unused_port(), "h2": unused_port()}
    config = root.write("nginx.conf", f"""
        daemon off;
        user root;
        worker_processes 1;
        pid {root.at("pid")};
        error_log stderr;
        events {{ }}
        http {{
            access_log off;
            types {{ text/html html; image/png png; text/javascript js; }}
            root {root.path};
            server {{ listen 127.0.0.1:{ports["http/1.1"]}; }}
            server {{ listen 127.0.0.1:{ports["h2"]} http2; }}
        }}""")
    daemon(root, "nginx", "-p", root.path, "-e", "stderr", "-c", config, port=ports["http/1.1"])
    return {name: f"127.0.0.1:{port}" for name, port in ports.items()}


@pytest.fixture(scope="module")
def home(folder, certs):
    """The home of somebody who trusts our root."""
    need("chromium")
    need("certutil")
    home = folder()
    database = home.at(".pki/nssdb")
    os.makedirs(database)
    run("certutil", "-d", "sql:" + database, "-N", "--empty-password")
    run("certutil", "-d", "sql:" + database, "-A", "-t", "C,,", "-n", "root", "-i", certs.root)
    return home


def browse(home, url, picture):
    """The page as it is after its scripts."""
    os.makedirs(PICTURES, exist_ok=True)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--disable-background-networking", "--disable-extensions", "--user-data-dir=" + home.at("profile"),
               "--window-size=1000,700", "--timeout=%d" % (SECONDS * 1000), "--dump-dom",
               "--screenshot=" + os.path.abspath(picture), url]
    done = subprocess.run(command, env=dict(os.environ, HOME=home.path), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_page(serve, site, home, protocol):
    server = serve(site[protocol], "--alpn", protocol)
    picture = os.path.join(PICTURES, protocol.replace("/", "-") + ".png")
    page = browse(home, f"https://localhost:{server.port}/index.html", picture)
    said = re.search("<title>(.*?)</title>", page).group(1)
    assert said == (f"{IMAGES + 1} images and {SCRIPTS} scripts over {protocol}, the sum is "
                    f"{sum(range(SCRIPTS))}, the big one is {SIDE} wide"), page[:2000]
    with open(picture, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    server.stop()
    # those that were opened ahead and given up carried nothing
    served = [line for line in server.matching(event="connection") if line["in"] != "0"]
    assert any(int(line["out"]) > 3 * SIDE * SIDE for line in served)
    for line in served:
        in_kernel(line, ends=("closed", "truncated", "reset", "stopped"), alpn=protocol, version="TLSv1.3")
