"""--publish: relays connections to ports of this machine into a guest's network.

usage: relay.py GUEST_ADDRESS PID HOSTPORT:GUESTPORT...

Listens in the network namespace it is started in, says "ready", waits until process
PID has moved to another one, and connects to the guest from there.
"""
import ctypes
import os
import select
import socket
import sys
import threading
import time

CLONE_NEWNET = 0x40000000


def copy(source, sink):
    """Copies until the end, then tells it on."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(client, address):
    """One connection. The guest's end is refused as the guest refuses it: closed."""
    with client:
        try:
            guest = socket.create_connection(address)
        except OSError:
            return
        with guest:
            back = threading.Thread(target=copy, args=(guest, client))
            back.start()
            copy(client, guest)
            back.join()


def main():
    address, pid, *pairs = sys.argv[1:]
    listeners = {}
    for pair in pairs:
        host_port, guest_port = map(int, pair.split(":"))
        try:
            listener = socket.create_server(("127.0.0.1", host_port), backlog=128)
        except (OSError, OverflowError) as error:
            sys.exit(f"lab: --publish {pair}: {error}")
        listeners[listener] = guest_port
        print(f"lab: 127.0.0.1:{listener.getsockname()[1]} reaches the guest's port {guest_port}",
              file=sys.stderr, flush=True)
    print("ready", flush=True)
    namespace = f"/proc/{pid}/ns/net"
    while os.readlink(namespace) == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    # The listeners stay in the network they were made in; new sockets are in the guest's.
    with open(namespace) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            sys.exit("lab: the guest's network can't be entered: " + os.strerror(ctypes.get_errno()))
    while True:
        for listener in select.select(list(listeners), [], [])[0]:
            client = listener.accept()[0]
            target = (address, listeners[listener])
            threading.Thread(target=serve, args=(client, target), daemon=True).start()


main()
