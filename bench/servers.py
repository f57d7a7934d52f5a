"""The terminators of the benchmark: how each is set up and started.

One worker each, TLS in front of one plain TCP service on 127.0.0.1, otherwise its own
defaults and what its manual recommends for that. Time limits are long: with --icount a
guest's clock runs ahead while it waits for the host.

SPDX-License-Identifier: MIT
"""
import os
import re
import subprocess

SERVERS = {}
TUNNELS = {}  # plain connections in, TLS out


def server(name, version=None, among=SERVERS):
    """Registers a function (folder, paths, port, backend port) that returns a command."""

    def add(start):
        among[name] = (start, version)
        return start

    return add


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


@server("bare splice loop")
def bare(_folder, paths, port, backend):
    return [paths.built("bench/bare-splice"), paths.cert, paths.key, str(port), str(backend)]


@server("tlsfd serve", ["tlsfd", "--version"])
def tlsfd(_folder, paths, port, backend):
    return [paths.built("tlsfd"), "serve", "--listen", f"127.0.0.1:{port}", "--cert", paths.cert,
            "--key", paths.key, "--forward", f"127.0.0.1:{backend}", "--workers", "1",
            "--handshake-timeout", "3600", "--idle-timeout", "86400"]


def nginx_with(folder, paths, port, backend, extra):
    config = write(folder, "nginx.conf", f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 8192; }}
stream {{
    proxy_timeout 24h;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {paths.cert};
        ssl_certificate_key {paths.key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_handshake_timeout 1h;
        {extra}
        proxy_pass 127.0.0.1:{backend};
    }}
}}
""")
    return ["nginx", "-p", folder, "-e", "stderr", "-c", config]


@server("nginx stream", ["nginx", "-v"])
def nginx(folder, paths, port, backend):
    return nginx_with(folder, paths, port, backend, "")


@server("nginx stream, KTLS", ["nginx", "-v"])
def nginx_ktls(folder, paths, port, backend):
    return nginx_with(folder, paths, port, backend, "ssl_conf_command Options KTLS;")


@server("hitch", ["hitch", "--version"])
def hitch(folder, paths, port, backend):
    config = write(folder, "hitch.conf", f"""
frontend = "[127.0.0.1]:{port}"
backend = "[127.0.0.1]:{backend}"
pem-file = "{paths.pem}"
workers = 1
tls-protos = TLSv1.2 TLSv1.3
user = "nobody"
group = "nogroup"
""")
    return ["hitch", "--config", config]


@server("HAProxy", ["haproxy", "-v"])
def haproxy(folder, paths, port, backend):
    config = write(folder, "haproxy.cfg", f"""
global
    maxconn 8192
    nbthread 1
defaults
    mode tcp
    timeout connect 1h
    timeout client 24h
    timeout server 24h
listen tls
    bind 127.0.0.1:{port} ssl crt {paths.pem} ssl-min-ver TLSv1.2
    server plain 127.0.0.1:{backend}
""")
    return ["haproxy", "-f", config]


@server("stunnel", ["stunnel", "-version"])
def stunnel(folder, paths, port, backend):
    config = write(folder, "stunnel.conf", f"""
foreground = yes
pid =
[tls]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{backend}
cert = {paths.cert}
key = {paths.key}
sslVersionMin = TLSv1.2
TIMEOUTbusy = 3600
""")
    return ["stunnel", config]


@server("tlsfd connect --listen", ["tlsfd", "--version"], TUNNELS)
def tlsfd_tunnel(_folder, paths, port, tls_port):
    return [paths.built("tlsfd"), "connect", "--listen", f"127.0.0.1:{port}", "--ca", paths.cert,
            "--name", "localhost", "--timeout", "3600", f"127.0.0.1:{tls_port}"]


@server("stunnel, client", ["stunnel", "-version"], TUNNELS)
def stunnel_tunnel(folder, paths, port, tls_port):
    config = write(folder, "stunnel.conf", f"""
foreground = yes
pid =
[tls]
client = yes
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{tls_port}
CAfile = {paths.cert}
verifyChain = yes
checkHost = localhost
TIMEOUTbusy = 3600
""")
    return ["stunnel", config]


def command_of(name):
    return (SERVERS.get(name) or TUNNELS[name])[0]


def version_of(name, paths):
    """As the program itself says it; "" for one that has none."""
    command = (SERVERS.get(name) or TUNNELS[name])[1]
    if not command:
        return ""
    if command[0] == "tlsfd":
        command = [paths.built("tlsfd")] + command[1:]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False).stdout
    found = re.search(r"\b\d+\.\d+(\.\d+)*", said)
    return found.group(0) if found else "unknown version"
