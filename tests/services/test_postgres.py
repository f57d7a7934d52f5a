# SPDX-License-Identifier: MIT
"""PostgreSQL: its own TLS, which begins with a question like STARTTLS, and TLS from the first byte
by tlsfd. psql is plain, so that tlsfd connect is what speaks TLS."""
import glob
import os

import pytest

from services import BIN, LIMIT, digest, in_kernel, missing, run, unused_port

QUERY = "select count(*), sum(n), md5(string_agg(n::text, ',' order by n)) from generate_series(1, 200000) n"
MANY = "select n, repeat(md5(n::text), 32) from generate_series(1, 10000) n"  # 10 MB


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        missing("PostgreSQL")
    return found[-1]


@pytest.fixture(scope="module")
def postgres(daemon, folder, certs):
    """Its port; TLS on."""
    home, port = folder("postgres"), unused_port()
    as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    run(*as_user, programs() + "/initdb", "--no-sync", "--auth", "trust", "--encoding", "UTF8", "--locale", "C",
        "-D", home.at("data"), cwd=home.path)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": home.path, "fsync": "off",
                "ssl": "on", "ssl_cert_file": home.copy(certs.server), "ssl_key_file": home.copy(certs.server_key),
                "shared_buffers": "16MB"}
    daemon(home, *as_user, programs() + "/postgres", "-D", home.at("data"),
           *[word for name, value in settings.items() for word in ("-c", f"{name}={value}")], port=port,
           cwd=home.path, how_to_end=2)  # SIGINT: does not wait for clients
    return port


def psql(port, command, mode="disable"):
    env = dict(os.environ, PGCONNECT_TIMEOUT=str(LIMIT), PGSSLMODE=mode)
    return run("psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-c", command,
               "postgres", env=env)


# PostgreSQL closes when psql says Terminate, and doesn't wait for our close_notify.
ENDS = ("closed", "reset")
SSL = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_starttls(postgres, connect, version):
    """psql - tlsfd connect - PostgreSQL, which says itself what it sees."""
    tunnel = connect(postgres, "--starttls", "postgres", "--max-version", version)
    assert psql(tunnel.port, SSL) == b"t|TLSv%s\n" % version.encode()
    in_kernel(tunnel.line(event="connection"), ENDS, version="TLSv" + version)


def test_starttls_much(postgres, connect):
    tunnel = connect(postgres, "--starttls", "postgres")
    assert psql(tunnel.port, QUERY) == psql(postgres, QUERY)
    assert digest(psql(tunnel.port, MANY)) == digest(psql(postgres, MANY))
    for count in 1, 2:
        in_kernel(tunnel.line(count, event="connection"), ENDS)


def test_copy(postgres, connect, tmp_path):
    """10 MB up, then down."""
    rows = b"".join(b"%d\t%s\n" % (i, os.urandom(50).hex().encode()) for i in range(100_000))
    (tmp_path / "rows").write_bytes(rows)
    tunnel = connect(postgres, "--starttls", "postgres")
    psql(tunnel.port, "create table big (n int, text text)")
    psql(tunnel.port, f"\\copy big from '{tmp_path}/rows'")
    psql(tunnel.port, f"\\copy (select * from big order by n) to '{tmp_path}/again'")
    assert digest((tmp_path / "again").read_bytes()) == digest(rows)
    for count in 1, 2, 3:
        in_kernel(tunnel.line(count, event="connection"), ENDS)


def test_direct(postgres, serve, connect):
    """psql - tlsfd connect - tlsfd serve - PostgreSQL, plain for both."""
    server = serve(f"127.0.0.1:{postgres}")
    tunnel = connect(server.port)
    assert psql(tunnel.port, SSL) == b"f|\n"
    assert psql(tunnel.port, QUERY) == psql(postgres, QUERY)
    assert digest(psql(tunnel.port, MANY)) == digest(psql(postgres, MANY))
    for count in 1, 2, 3:
        in_kernel(server.line(count, event="connection"))
        in_kernel(tunnel.line(count, event="connection"), ENDS)


def test_tls_within(postgres, serve, connect):
    """psql's own TLS goes through as any other bytes. At its end PostgreSQL resets: it leaves psql's
    close_notify unread."""
    server = serve(f"127.0.0.1:{postgres}")
    tunnel = connect(server.port)
    assert psql(tunnel.port, SSL, mode="require") == b"t|TLSv1.3\n"
    in_kernel(server.line(event="connection"), ("closed", "backend-reset"))
    in_kernel(tunnel.line(event="connection"), ("closed", "truncated"))


def test_stdin_and_stdout(postgres, certs):
    """The protocol by hand: a startup message, a query, goodbye."""
    def message(kind, body):
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    start = b"\0\3\0\0user\0postgres\0database\0postgres\0\0"
    asked = message(b"", start) + message(b"Q", b"select 'behind' || '-tls'\0") + message(b"X", b"")
    assert b"behind-tls" in run(BIN, "connect", "--no-half-close", "--starttls", "postgres", "--ca", certs.root,
                                "--require-kernel", f"localhost:{postgres}", input=asked)
