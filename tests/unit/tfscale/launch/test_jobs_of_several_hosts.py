"""Launchers of several hosts, simulated by several names and addresses of this host."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.ports import free_ports

Launch = Callable[..., Any]
Python = Callable[..., list[str]]

NO_NAME = "no-such-host.invalid"  # RFC 2606: resolves nowhere.


def test_launchers_of_two_hosts_make_one_cluster(launch: Launch, python: Python) -> None:
    code = (
        "import json, os, socket\n"
        "config = json.loads(os.environ['TF_CONFIG'])\n"
        "workers, index = config['cluster']['worker'], config['task']['index']\n"
        "own = int(workers[index].split(':')[1])\n"
        "server = socket.create_server(('127.0.0.1', own), backlog=9)\n"
        "print(index, *workers, flush=True)\n"
        "def connect(address):\n"
        "    host, port = address.split(':')\n"
        "    while True:\n"
        "        try: return socket.create_connection((host, int(port)), timeout=30)\n"
        "        except ConnectionRefusedError: pass\n"
        "peers = [connect(w) for w in workers]\n"
        "taken = [server.accept() for _ in workers]; print('met', flush=True)\n"
    )
    first, _, second, _ = free_ports(4)
    hosts = f"--hosts=127.0.0.1:{first},localhost:{second}"
    launchers = [
        launch(hosts, f"--host_index={i}", "--num_workers=2", "--", *python(code)) for i in range(2)
    ]
    expected = [
        *(f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"),
        *(f"localhost:{second}", f"localhost:{second + 1}"),
    ]
    for index, launcher in enumerate(launchers):
        status, output, errors = launcher.finish()
        assert (status, errors) == (0, "")
        found = sorted(line.split() for line in output.splitlines())
        for worker in (2 * index, 2 * index + 1):
            prefix = ["[worker", f"{worker}]"]
            assert [*prefix, str(worker), *expected] in found
            assert [*prefix, "met"] in found


def test_a_restart_takes_the_same_port_though_the_kernel_remembers_connections(
    launch: Launch, python: Python
) -> None:
    # The server closes first, so TIME_WAIT holds its port for a minute.
    code = (
        "import json, os, socket, sys\n"
        "own = json.loads(os.environ['TF_CONFIG'])['cluster']['worker'][0]\n"
        "address = ('127.0.0.1', int(own.split(':')[1]))\n"
        "server = socket.create_server(address); client = socket.create_connection(address)\n"
        "taken, _ = server.accept(); taken.close(); client.recv(1); client.close()\n"
        "print(own); sys.exit(1 - int(os.environ['TFSCALE_RESTART']))"
    )
    (port,) = free_ports(1)
    flags = [f"--hosts=127.0.0.1:{port}", "--host_index=0", "--max_restarts=1"]
    status, output, _ = launch(*flags, "--", *python(code)).finish()
    assert status == 0
    assert output == f"[worker 0] 127.0.0.1:{port}\n" * 2


def test_a_taken_port_is_one_line_that_names_the_host(launch: Launch, python: Python) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("", port)):
        hosts = f"--hosts=localhost:{port},127.0.0.1:{port}"
        status, output, errors = launch(
            hosts, "--host_index=0", "--", *python("print('started')")
        ).finish()
    assert (status, output) == (1, "")
    assert errors == (
        f"tfscale launch: the job could not be started: port {port} of this host, "
        f"'localhost:{port}' in `hosts`, is not available (Address already in use). "
        "End the process that uses it, or choose another port.\n"
    )


def test_a_name_without_address_is_named_before_and_at_the_deadline(
    launch: Launch, python: Python
) -> None:
    started = time.monotonic()
    flags = [f"--hosts=localhost:2222,{NO_NAME}:2222", "--host_index=0", "--start_seconds=5"]
    status, output, errors = launch(*flags, "--", *python("print('started')")).finish()
    assert (status, output) == (1, "")
    assert time.monotonic() - started >= 5.0
    *_, last = errors.splitlines()
    assert last.startswith(
        "tfscale launch: the job could not be started: "
        f"after 5 s there is still no address for host '{NO_NAME}' ("
    )
    assert "localhost" not in errors
    assert len(errors.splitlines()) <= 2


def test_ctrl_c_ends_the_wait_for_a_name(launch: Launch, python: Python) -> None:
    flags = [f"--hosts=localhost:2222,{NO_NAME}:2222", "--host_index=0", "--start_seconds=600"]
    launcher = launch(*flags, "--", *python("print('started')"))
    line = launcher.process.stderr.readline().decode()
    assert line.startswith(f"tfscale launch: host '{NO_NAME}' has no address (")
    assert line.endswith("); trying for 600 s.\n")
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.finish()[0] == 130


def test_the_host_with_index_1_holds_the_second_workers(launch: Launch, python: Python) -> None:
    (port,) = free_ports(1)
    code = "import os; print(os.environ['TF_CONFIG'])"
    flags = [f"--hosts=localhost:2222,127.0.0.1:{port}", "--host_index=1"]
    _, output, _ = launch(*flags, "--", *python(code)).finish()
    config = json.loads(output.removeprefix("[worker 1] "))
    assert config == {
        "cluster": {"worker": ["localhost:2222", f"127.0.0.1:{port}"]},
        "task": {"type": "worker", "index": 1},
    }
