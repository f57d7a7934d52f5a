#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The EXAMPLES of the man pages of <tlsfd.h>: they compile without a warning, and the
client and the server talk to each other. TAP on stdout.

usage: examples.py [BUILD_DIR]      default: $TLSFD_BUILD"""
import contextlib
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["tlsfd_config.3", "tlsfd_connect.3", "tlsfd_pass.3", "tlsfd_session.3"]


def blocks(page):
    """The literal displays of a page that are C files."""
    text = (SOURCE / "man" / page).read_text()
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.S | re.M):
        if block.startswith("#"):
            yield block.replace("\\e", "\\")


def compile_block(block, build, out):
    source = out.with_suffix(".c")
    source.write_text(block)
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror",
               f"-I{SOURCE}/include", str(source)]
    if "main(" in block:
        command += ["-o", str(out), f"{build}/src/libtlsfd.a", "-lssl", "-lcrypto", "-pthread"]
    else:
        command += ["-c", "-o", str(out.with_suffix(".o"))]
    subprocess.run(command, check=True)


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-days", "1", "-keyout", f"{folder}/key.pem",
                    "-out", f"{folder}/cert.pem"], check=True, stderr=subprocess.DEVNULL)


LIMIT = 60  # seconds that any one thing may take


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def wait_for_listener(port, server):
    """Nobody tries: a connection to a port where nobody listens yet can get the same port, and meets itself."""
    wanted = [b"%04X" % int(port), b"0A"]  # LISTEN (include/net/tcp_states.h)
    limit = time.monotonic() + LIMIT
    while server.poll() is None and time.monotonic() < limit:
        rows = [line.split() for table in ("tcp", "tcp6") for line in pathlib.Path("/proc/net", table).open("rb")]
        if wanted in ([row[1].rpartition(b":")[2], row[3]] for row in rows):
            return
        time.sleep(0.02)
    raise ValueError("nobody listens")


@contextlib.contextmanager
def served(folder, server):
    """The port of the server that is running."""
    certificate(folder)
    port = free_port()
    serving = subprocess.Popen([server, port, f"{folder}/cert.pem", f"{folder}/key.pem"])
    try:
        wait_for_listener(port, serving)
        yield port
    finally:
        serving.terminate()
        serving.wait()


def connect(port, ca):
    tcp = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    return ssl.create_default_context(cafile=ca).wrap_socket(tcp, server_hostname="127.0.0.1")


def echo(client, text):
    client.sendall(text)
    got = b""
    while len(got) < len(text):
        part = client.recv(65536)
        if not part:
            raise ValueError("the server has closed")
        got += part
    if got != text:
        raise ValueError(got)


def processes(group):
    """Those of a process group that run."""
    found = set()
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = stat.read_text().rpartition(") ")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found.add(int(stat.parent.name))
    return found


def replace(folder, upgrade):
    """Generations of servers, each ending while its clients are still connected."""
    certificate(folder)
    port = free_port()
    first = subprocess.Popen([upgrade, port, f"{folder}/cert.pem", f"{folder}/key.pem"],
                             start_new_session=True)
    try:
        wait_for_listener(port, first)
        clients = [connect(int(port), f"{folder}/cert.pem") for _ in range(5)]
        for generation in range(4):
            before = processes(first.pid)
            os.killpg(first.pid, signal.SIGHUP)
            for i in range(200):
                for client in clients:
                    echo(client, b"%d, %d\n" % (generation, i) * (1 + 97 * i))
                now = processes(first.pid)
                if i >= 20 and now and not now & before:
                    break
                first.poll()
            else:
                raise ValueError(f"{before} is still there: {now}")
            clients.append(connect(int(port), f"{folder}/cert.pem"))
        for client in clients:
            client.unwrap().close()
    finally:
        os.killpg(first.pid, signal.SIGTERM)
        first.wait()


def expect(folder, port, client, want, *args):
    got = subprocess.run([client, "127.0.0.1", port, f"{folder}/cert.pem", *args], check=True,
                         timeout=LIMIT, capture_output=True)
    if got.stdout != want:
        raise ValueError(got.stdout, got.stderr)


def talk(folder, client, server):
    with served(folder, server) as port:
        for _ in range(3):
            expect(folder, port, client, b"hello\n")


def resume(folder, client, server):
    session = f"{folder}/session"
    with served(folder, server) as port:
        expect(folder, port, client, b"new\nhello\n", session)
        expect(folder, port, client, b"resumed\nhello\n", session)
        expect(folder, port, client, b"resumed\nhello\n", session)
    with served(folder, server) as port:  # another certificate
        expect(folder, port, client, b"new\nhello\n", session)


def main(build):
    number, failed, programs = 0, 0, {}

    def test(name, run, *args):
        nonlocal number, failed
        number += 1
        try:
            run(*args)
            print(f"ok {number} - {name}", flush=True)
        except Exception as e:  # a test that fails, whatever the reason
            failed += 1
            print(f"not ok {number} - {name}\n# {e!r}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for page in PAGES:
            for i, block in enumerate(blocks(page)):
                out = pathlib.Path(folder) / f"{page}-{i}".replace(".", "-")
                test(f"{page} example {i + 1} compiles", compile_block, block, build, out)
                usage = re.search(r'usage: (\w+)', block)
                if usage:
                    programs[usage[1]] = str(out)
        test("client and server talk", talk, folder, programs["client"], programs["server"])
        test("clients stay while the server is replaced", replace, folder, programs["upgrade"])
        test("a client resumes", resume, folder, programs["resume"], programs["server"])
    print(f"1..{number}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.environ["TLSFD_BUILD"]))
