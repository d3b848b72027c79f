"""Program: a worker that does what its first argument says, without TensorFlow.

python -S tests/engines/mpi/program.py meet
"""

import json
import os
import signal
import socket
import sys
import time

CONFIG = json.loads(os.environ["TF_CONFIG"])
WORKERS, INDEX = CONFIG["cluster"]["worker"], CONFIG["task"]["index"]
SECONDS = 300


def meet() -> None:
    """Connects to every worker's address, and is connected to by every worker."""
    server = socket.create_server(("", int(WORKERS[INDEX].rpartition(":")[2])), backlog=99)
    server.settimeout(SECONDS)
    peers = [connected(address) for address in WORKERS]
    taken = [server.accept() for _ in WORKERS]
    for peer in peers:
        peer.sendall(bytes((INDEX,)))
    met = sorted(connection.recv(1)[0] for connection, _ in taken)
    print("met", met, *WORKERS, flush=True)


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


def killed() -> None:
    """Worker 1 kills itself."""
    if INDEX == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS)


def failed() -> None:
    """Worker 1 ends with status 3."""
    if INDEX == 1:
        sys.exit(3)
    time.sleep(SECONDS)


def preempted() -> None:
    """All end with status 42, one after the other, and succeed the next time."""
    time.sleep(INDEX)
    sys.exit(42 if os.environ["TFSCALE_RESTART"] == "0" else 0)


def saving() -> None:
    """Takes two seconds to save at SIGTERM."""

    def save(number: int, frame: object) -> None:
        time.sleep(2.0)
        print("saved", flush=True)
        sys.exit(42)

    signal.signal(signal.SIGTERM, save)
    print("ready", os.getpid(), flush=True)
    time.sleep(SECONDS)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
