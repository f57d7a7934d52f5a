# SPDX-License-Identifier: MIT
"""tlsfd doctor: what it says is compared with what Python finds out by itself.

TLSFD_BIN         the command (default: build/tlsfd)
TLSFD_EXPECT_TLS  1 or 0: the kernel has TLS or not; unset: the kernel is asked
"""
import contextlib
import errno
import json
import os
import platform
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading

import pytest

BIN = os.path.abspath(os.environ.get("TLSFD_BIN", "build/tlsfd"))
TCP_ULP, SOL_TLS = 31, 282
TLS_TX, TLS_RX, TX_ZEROCOPY_RO, RX_EXPECT_NO_PAD, TX_MAX_PAYLOAD_LEN = 1, 2, 3, 4, 5
V12, V13 = 0x0303, 0x0304

# suite: (version, kernel's number, bytes of iv, key, salt), from linux/tls.h
SUITES = {
    "TLS_AES_128_GCM_SHA256": (V13, 51, 8, 16, 4),
    "TLS_AES_256_GCM_SHA384": (V13, 52, 8, 32, 4),
    "TLS_CHACHA20_POLY1305_SHA256": (V13, 54, 12, 32, 0),
    "TLS_AES_128_CCM_SHA256": (V13, 53, 8, 16, 4),
    "ECDHE-ECDSA-AES128-GCM-SHA256": (V12, 51, 8, 16, 4),
    "ECDHE-ECDSA-AES256-GCM-SHA384": (V12, 52, 8, 32, 4),
    "ECDHE-ECDSA-CHACHA20-POLY1305": (V12, 54, 12, 32, 0),
    "ECDHE-ECDSA-AES128-CCM": (V12, 53, 8, 16, 4),
}
CBC = "ECDHE-ECDSA-AES128-SHA256"
DECIDING = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")


# ---- what Python finds out by itself ----

@contextlib.contextmanager
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname(), timeout=10)
        b, _ = listener.accept()
        b.settimeout(10)
    with a, b:
        yield a, b


def attach(sock):
    sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")


def crypto_info(suite, filler=1):
    version, number, *sizes = SUITES[suite]
    return struct.pack("=HH", version, number) + bytes([filler]) * sum(sizes) + bytes(8)


def answer(call, *no):
    """True: the call was taken; False: refused with one of the errnos."""
    try:
        call()
    except OSError as e:
        assert e.errno in no, e
        return False
    return True


def ask_tls():
    with pair() as (a, _):
        return answer(lambda: attach(a), errno.ENOENT, errno.ENOPROTOOPT)


def set_keys(sock, direction, suite, filler=1):
    sock.setsockopt(SOL_TLS, direction, crypto_info(suite, filler))


def kernel_takes(suite, direction):
    with pair() as (a, _):
        attach(a)
        return answer(lambda: set_keys(a, direction, suite), errno.EINVAL, errno.ENOENT)


def in_kernel(sock, direction):
    """Has the socket keys? By getsockopt, which says EBUSY when there are none."""
    return answer(lambda: sock.getsockopt(SOL_TLS, direction, 4),
                  errno.EBUSY, errno.ENOPROTOOPT, errno.EOPNOTSUPP)


EXPECT_TLS = {"1": True, "0": False}.get(os.environ.get("TLSFD_EXPECT_TLS"))
if EXPECT_TLS is None:
    EXPECT_TLS = ask_tls()
with_tls = pytest.mark.skipif(not EXPECT_TLS, reason="a kernel without TLS is expected")
without_tls = pytest.mark.skipif(EXPECT_TLS, reason="a kernel with TLS is expected")


# ---- what the command says ----

def tlsfd(*args, **kwargs):
    kwargs.setdefault("timeout", 30)
    return subprocess.run([BIN, *args], capture_output=True, text=True, **kwargs)


@pytest.fixture(scope="module")
def interface():
    """An interface besides loopback; in the lab's guest, which has none, a veth pair."""
    if socket.gethostname() == "tlsfd-lab":
        subprocess.run("ip link add test0 type veth peer test1 && ip link set test0 up",
                       shell=True, check=True)


@pytest.fixture(scope="module")
def run(interface):
    return tlsfd("doctor", "--json")


@pytest.fixture(scope="module")
def said(run):
    assert run.stderr == ""
    return json.loads(run.stdout)  # raises unless it is exactly one value


@pytest.fixture(scope="module")
def rows(said):
    return {row["cipher"]: row for row in said["matrix"]}


@pytest.fixture(scope="module")
def table():
    return tlsfd("doctor")


def works(said):
    return all(row["tlsfd"] == {"tx": True, "rx": True}
               for row in said["matrix"] if row["cipher"] in DECIDING)


def is_maybe_bool(value):
    return value is None or isinstance(value, bool)


def is_maybe_text(value):
    return value is None or (isinstance(value, str) and value != "")


# ---- JSON ----

def test_members(said):
    assert {"tlsfd", "kernel", "ulp", "openssl", "rekey", "zerocopy_sendfile", "no_pad",
            "max_payload", "matrix", "nics", "advisories", "counters"} <= said.keys()
    assert {"available", "why", "remedy"} <= said["ulp"].keys()
    assert {"version", "ktls_compiled"} <= said["openssl"].keys()


def test_types(said):
    assert isinstance(said["tlsfd"], str) and isinstance(said["openssl"]["version"], str)
    assert is_maybe_bool(said["ulp"]["available"])
    assert is_maybe_bool(said["openssl"]["ktls_compiled"])
    for name in ("rekey", "zerocopy_sendfile", "no_pad", "max_payload"):
        assert is_maybe_bool(said[name]), name
    for name in ("why", "remedy"):
        assert is_maybe_text(said["ulp"][name])


def test_rows(said):
    assert [r["cipher"] for r in said["matrix"]] == [*SUITES, CBC]
    for row in said["matrix"]:
        want = "TLSv1.3" if row["cipher"].startswith("TLS_") else "TLSv1.2"
        assert row["tls"] == want
        for way in ("openssl", "tlsfd"):
            assert row[way].keys() == {"tx", "rx"}
            assert all(is_maybe_bool(v) for v in row[way].values())
        assert is_maybe_text(row["why"]) and is_maybe_text(row["remedy"])


def test_a_reason_exactly_where_something_is_missing(said):
    for row in said["matrix"]:
        assert (row["why"] is None) == (row["tlsfd"] == {"tx": True, "rx": True}), row
    ulp = said["ulp"]
    assert (ulp["why"] is None) == (ulp["available"] is True)
    assert (ulp["remedy"] is None) == (ulp["available"] is True)


def test_kernel_name(said):
    assert said["kernel"] == platform.release()


# ---- the values, each found out a second way ----

def test_ulp(said):
    assert said["ulp"]["available"] is EXPECT_TLS


def test_exit_status_agrees_with_the_matrix(run, said):
    assert run.returncode == (0 if works(said) else 1)
    assert said["works"] is works(said)


@without_tls
def test_no_tls_no_success(run, rows):
    assert run.returncode == 1
    for row in rows.values():
        assert True not in (*row["openssl"].values(), *row["tlsfd"].values()), row


@with_tls
@pytest.mark.parametrize("suite", SUITES)
def test_suite(rows, suite):
    row = rows[suite]
    if row["why"] == "not-in-openssl":
        pytest.skip("this OpenSSL does not offer it")
    assert row["tlsfd"]["tx"] is kernel_takes(suite, TLS_TX)
    assert row["tlsfd"]["rx"] is kernel_takes(suite, TLS_RX)


def test_cbc_never(rows):
    assert rows[CBC]["openssl"] == {"tx": False, "rx": False}
    assert rows[CBC]["tlsfd"] == {"tx": False, "rx": False}
    assert rows[CBC]["why"] == "cipher"
    assert rows[CBC]["remedy"]


@with_tls
def test_rekey(said):
    with pair() as (a, _):
        attach(a)
        set_keys(a, TLS_TX, DECIDING[0])
        again = answer(lambda: set_keys(a, TLS_TX, DECIDING[0], filler=2), errno.EBUSY)
    assert said["rekey"] is again


@with_tls
@pytest.mark.parametrize("name, keys, option, value", [
    ("zerocopy_sendfile", TLS_TX, TX_ZEROCOPY_RO, struct.pack("=I", 1)),
    ("no_pad", TLS_RX, RX_EXPECT_NO_PAD, struct.pack("=I", 1)),
    ("max_payload", None, TX_MAX_PAYLOAD_LEN, struct.pack("=H", 1000)),
])
def test_option(said, name, keys, option, value):
    with pair() as (a, _):
        attach(a)
        if keys:
            set_keys(a, keys, DECIDING[0])
        taken = answer(lambda: a.setsockopt(SOL_TLS, option, value), errno.ENOPROTOOPT)
    assert said[name] is taken


@without_tls
def test_what_could_not_be_asked_is_null(said):
    for name in ("rekey", "zerocopy_sendfile", "no_pad", "max_payload"):
        assert said[name] is None, name


def test_openssl_version(said):
    assert said["openssl"]["version"] == ssl.OPENSSL_VERSION.split()[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test", "-days", "1",
                    "-keyout", folder / "key", "-out", folder / "cert"],
                   check=True, capture_output=True)
    return folder / "cert", folder / "key"


def handshake(version, ciphers, certificate):
    """Python's own ssl with SSL_OP_ENABLE_KTLS: (suite, tx, rx), both ends together."""
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
    contexts[0].load_cert_chain(*certificate)
    contexts[1].check_hostname = False
    contexts[1].verify_mode = ssl.CERT_NONE
    for c in contexts:
        c.minimum_version = c.maximum_version = version
        c.options |= 1 << 3  # ssl.OP_ENABLE_KTLS, Python 3.12
        if ciphers:
            c.set_ciphers(ciphers)
    with pair() as (a, b):
        server = []
        thread = threading.Thread(
            target=lambda: server.append(contexts[0].wrap_socket(a, server_side=True)))
        thread.start()
        client = contexts[1].wrap_socket(b)
        thread.join(10)
        with client, server[0]:
            ends = (client, server[0])
            return (client.cipher()[0], all([in_kernel(s, TLS_TX) for s in ends]),
                    all([in_kernel(s, TLS_RX) for s in ends]))


@pytest.mark.parametrize("version, ciphers", [
    (ssl.TLSVersion.TLSv1_3, None),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (ssl.TLSVersion.TLSv1_2, CBC),
])
def test_openssl_alone(said, rows, certificate, version, ciphers):
    suite, tx, rx = handshake(version, ciphers, certificate)
    assert rows[suite]["openssl"] == {"tx": tx, "rx": rx}
    if tx:
        assert said["openssl"]["ktls_compiled"] is True


def counters():
    try:
        with open("/proc/net/tls_stat", encoding="ascii") as f:
            return {name: int(value) for name, value in (line.split() for line in f)}
    except FileNotFoundError:
        return None


def test_counters(said):
    now = counters()
    if now is None:
        assert said["counters"] is None
    else:
        assert said["counters"].keys() == now.keys()


@with_tls
def test_the_kernel_saw_it_happen(said):
    before = counters()
    told = json.loads(tlsfd("doctor", "--json").stdout)["counters"]
    after = counters()
    grown = {name for name in before if told[name] > before[name]}
    assert {"TlsTxSw", "TlsRxSw"} <= grown
    assert ("TlsTxRekeyOk" in grown) is said["rekey"]
    assert told["TlsDecryptError"] == before["TlsDecryptError"]
    assert all(before[name] <= told[name] <= after[name] for name in before if "Curr" not in name)


def interface_flags(name):
    with open(f"/sys/class/net/{name}/flags", encoding="ascii") as f:
        return int(f.read(), 16)


def test_nics(said):
    up, loopback = 1, 8
    if not os.path.isdir("/sys/class/net"):
        pytest.skip("no /sys")
    want = {n for _, n in socket.if_nameindex()
            if interface_flags(n) & up and not interface_flags(n) & loopback}
    assert {nic["name"] for nic in said["nics"]} == want
    for nic in said["nics"]:
        assert nic["tx"] in ("on", "off", "none", None) and nic["rx"] in ("on", "off", "none", None)


def ethtool_state(name, feature):
    shown = subprocess.run(["ethtool", "-k", name], capture_output=True, text=True, check=True)
    line = re.search(rf"^{feature}: (\w+)( \[fixed\])?", shown.stdout, re.MULTILINE)
    if not line:
        return "none"
    return "on" if line[1] == "on" else "none" if line[2] else "off"


def test_nic_flags(said):
    if not shutil.which("ethtool") or not said["nics"]:
        pytest.skip("needs ethtool and an interface")
    for nic in said["nics"]:
        assert nic["tx"] == ethtool_state(nic["name"], "tls-hw-tx-offload")
        assert nic["rx"] == ethtool_state(nic["name"], "tls-hw-rx-offload")


# ---- advisories go by version, so the version is made up ----

FAKE_UNAME = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
int uname(struct utsname *u)
{
	memset(u, 0, sizeof(*u));
	strncpy(u->release, getenv("FAKE_RELEASE"), sizeof(u->release) - 1);
	strncpy(u->version, getenv("FAKE_VERSION"), sizeof(u->version) - 1);
	return 0;
}
"""


@pytest.fixture(scope="module")
def fake_uname(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("uname")
    (folder / "uname.c").write_text(FAKE_UNAME, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "uname.so", folder / "uname.c"],
                   check=True)
    return folder / "uname.so"


A, B, C, FLOOR = "CVE-2025-39682", "CVE-2025-39946", "CVE-2025-38471", "floor"


@pytest.mark.parametrize("release, version, want", [
    ("7.2.0", "#1 SMP", {}),
    ("8.0.1-arch1", "#1 SMP", {}),
    ("7.1.9", "#1", {}),
    ("7.1.8", "#1", {FLOOR: "7.1.9"}),
    ("6.18.52", "#1", {FLOOR: "6.18.53"}),
    ("6.12.48", "#1", {B: "6.12.49", FLOOR: "6.12.115"}),
    ("6.6.99", "#1", {A: "6.6.103", B: "6.6.108", C: "6.6.100", FLOOR: "7.2.0"}),
    ("6.14.0-rc1", "#1", {A: "6.17.0", B: "6.17.0", C: "6.16.0", FLOOR: "7.2.0"}),
    # Debian: the release says nothing, the version does
    ("6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-10-01)", {}),
    ("6.1.0-39-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.148-1 (2025-08-26)",
     {A: "6.1.149", B: "6.1.154", FLOOR: "6.1.192"}),
    ("5.15.0-46-generic", "#49-Ubuntu SMP", {FLOOR: "7.2.0"}),
    ("4.9.0", "#1", {}),  # older than kernel TLS
    ("odd", "#1", {}),
])
def test_advisories(fake_uname, release, version, want):
    env = dict(os.environ, LD_PRELOAD=str(fake_uname), FAKE_RELEASE=release, FAKE_VERSION=version,
               ASAN_OPTIONS="verify_asan_link_order=0")
    said = json.loads(tlsfd("doctor", "--json", env=env).stdout)
    assert said["kernel"] == release
    assert {a["id"]: a["fixed"] for a in said["advisories"]} == want
    assert all(a["what"] for a in said["advisories"])


# ---- the table ----

def test_verdict_first(table, said):
    first = table.stdout.splitlines()[0]
    if works(said):
        assert table.returncode == 0
        assert re.match("Kernel TLS works here", first)
    else:
        assert table.returncode == 1
        assert re.match("No kernel TLS here|Kernel TLS does not work here", first)


@without_tls
def test_remedy_names_modprobe(table):
    before_details = table.stdout.split("\nkernel ")[0]
    assert "==>" in before_details and "modprobe tls" in before_details


def test_table_fits_a_terminal(table):
    assert table.stderr == ""
    for line in table.stdout.splitlines():
        assert len(line) <= 80 and line == line.rstrip(), line
    assert "\033" not in table.stdout


def test_table_agrees_with_json(table, said):
    word = {True: "yes", False: "no", None: "?"}
    for row in said["matrix"]:
        cells = [word[row[way][end]] for way in ("openssl", "tlsfd") for end in ("tx", "rx")]
        want = [row["tls"], row["cipher"], *cells, *([row["why"]] if row["why"] else [])]
        assert want in [line.split() for line in table.stdout.splitlines()]


def test_without_tls_it_is_quick():
    if EXPECT_TLS:
        pytest.skip("a kernel with TLS is expected")
    tlsfd("doctor", timeout=1)


# ---- places where nothing can be asked ----

def test_loopback_down():
    wrap = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    if not shutil.which("unshare") or subprocess.run([*wrap, "true"], check=False,
                                                     capture_output=True).returncode:
        pytest.skip("may not make a network namespace")
    done = subprocess.run([*wrap, BIN, "doctor", "--json"], capture_output=True, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert said["ulp"]["available"] is None
    assert said["ulp"]["why"] == "loopback" and "ip link set lo up" in said["ulp"]["remedy"]
    for row in said["matrix"]:
        assert {*row["openssl"].values(), *row["tlsfd"].values()} == {None}
        assert row["why"] == "loopback"


# ---- the command line ----

@pytest.mark.parametrize("args, named", [
    ([], "verb"),
    (["doktor"], "'doktor'"),
    (["help", "doktor"], "'doktor'"),
    (["--doktor"], "--doktor"),
    (["doctor", "--jsno"], "--jsno"),
    (["doctor", "--js"], "--js"),
    (["doctor", "--json", "-j", "--js"], "--js"),
    (["--vers"], "--vers"),
    (["doctor", "--json=1"], "--json"),
    (["doctor", "-x"], "x"),
    (["doctor", "me"], "'me'"),
])
def test_usage_errors(args, named):
    done = tlsfd(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tlsfd") and done.stderr.count("\n") == 1
    assert named in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help_lists_verbs(args):
    done = tlsfd(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tlsfd doctor" in done.stdout


@pytest.mark.parametrize("args", [["help", "doctor"], ["doctor", "--help"], ["doctor", "-h"]])
def test_help_of_a_verb(args):
    done = tlsfd(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--json" in done.stdout


def test_version(said):
    done = tlsfd("--version")
    assert (done.returncode, done.stdout) == (0, f"tlsfd {said['tlsfd']}\n")


@pytest.mark.parametrize("args", [["--version"], ["doctor"], ["doctor", "--json"]])
def test_output_that_can_not_be_written(args):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([BIN, *args], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=30, check=False)
    assert done.returncode == 3
    assert "stdout" in done.stderr
