"""Sets kernel TLS keys on a loopback pair for each cipher and sends data through.

Says "CIPHER VERSION ok" a line; with "none" as argument, succeeds if the kernel has no
TLS: TCP_ULP must give ENOENT.
"""
import errno
import socket
import struct
import sys

SOL_TCP, TCP_ULP, SOL_TLS, TLS_TX, TLS_RX = 6, 31, 282, 1, 2
CIPHERS = {  # name: number, then the sizes of iv, key, salt and rec_seq together
    "AES-128-GCM": (51, 8 + 16 + 4 + 8),
    "AES-256-GCM": (52, 8 + 32 + 4 + 8),
    "AES-128-CCM": (53, 8 + 16 + 4 + 8),
    "ChaCha20-Poly1305": (54, 12 + 32 + 0 + 8),
}


def pair(server):
    client = socket.create_connection(server.getsockname())
    accepted = server.accept()[0]
    for end in (client, accepted):
        end.setsockopt(SOL_TCP, TCP_ULP, b"tls")
    return client, accepted


server = socket.create_server(("127.0.0.1", 0))
if sys.argv[1:] == ["none"]:
    try:
        pair(server)
    except OSError as error:
        sys.exit(error.errno != errno.ENOENT)
    sys.exit("the kernel has TLS")
for cipher, (number, size) in CIPHERS.items():
    for version, name in ((0x0303, "1.2"), (0x0304, "1.3")):
        sender, receiver = pair(server)
        info = struct.pack("=HH", version, number) + bytes(size)
        sender.setsockopt(SOL_TLS, TLS_TX, info)
        receiver.setsockopt(SOL_TLS, TLS_RX, info)
        sender.sendall(b"through the kernel" * 1000)
        assert receiver.recv(18000, socket.MSG_WAITALL) == b"through the kernel" * 1000
        print(cipher, name, "ok")
