"""Exit status 0 if this kernel has TLS (it can be loaded or is there), else 1."""
import socket
import sys

TCP_ULP = 31
with socket.create_server(("127.0.0.1", 0)) as server, \
        socket.create_connection(server.getsockname()) as client:
    try:
        client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    except OSError:
        sys.exit(1)
