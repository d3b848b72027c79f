"""Program: finds the other tasks of its TF_CONFIG, and says who they are.

    python -m tests.engines.slurm.meeting

A host has only its own address, so listening at the address of the task fails on any other host.
Each task connects to all, and reads from each the name by which that one knows itself.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

SECONDS = 300.0


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _answer(server: socket.socket, name: str) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(f"{name}\n".encode())


def _asked(address: str) -> str:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            connection = socket.create_connection(_place(address), timeout=SECONDS)
            with connection, connection.makefile() as lines:
                return lines.readline().strip()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main(folder: Path) -> None:
    """Meets the others."""
    config = json.loads(os.environ["TF_CONFIG"])
    task = config["task"]
    own = f"{task['type']}-{task['index']}"
    address = config["cluster"][task["type"]][task["index"]]
    with socket.create_server(_place(address)) as server:
        threading.Thread(target=_answer, args=(server, own), daemon=True).start()
        for job, addresses in config["cluster"].items():
            for index, each in enumerate(addresses):
                found = _asked(each)
                assert found == f"{job}-{index}", f"{each} is {found}, not {job}-{index}"
        print(f"{own} on {os.environ['SLURMD_NODENAME']} met all", flush=True)
        # Until all others have met this one.
        (folder / own).touch()
        expected = sum(map(len, config["cluster"].values()))
        deadline = time.monotonic() + SECONDS
        while len(list(folder.iterdir())) < expected and time.monotonic() < deadline:
            time.sleep(0.05)
    if task["type"] in ("worker", "ps") and "chief" in config["cluster"]:
        threading.Event().wait()  # They serve until the chief has ended.


if __name__ == "__main__":
    main(Path(sys.argv[1]))
