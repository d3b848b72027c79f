"""Several launchers of one elastic job on this host, with workers that start in 20 ms."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.ports import free_ports
from tests.waiting import until
from tfscale.launch.elastic.flags import count_or_range

Launch = Callable[..., Any]
Python = Callable[..., list[str]]
UntilGone = Callable[[int], None]

# Prints its start and its cluster; saves on SIGTERM; succeeds in the start that it is told.
WORKER = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(42))\n"
    "restart = int(os.environ['TFSCALE_RESTART'])\n"
    "print(restart, os.environ['TFSCALE_JOB_ID'], os.environ['TF_CONFIG'], flush=True)\n"
    "if restart == int(sys.argv[1]): sys.exit(0)\n"
    "while True: signal.pause()\n"
)
PID = WORKER.replace("print(restart,", "print(os.getpid()) or print(restart,")


class Meeting:
    """Starts launchers of one job, whose hosts are loopback addresses."""

    def __init__(self, launch: Launch, *flags: str) -> None:
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self._launch, self._flags = launch, flags

    def start(self, host: int, command: list[str], *flags: str) -> Any:
        usual = (f"--rendezvous={self.address}", "--settle_seconds=0.3", "--early_seconds=0")
        own = f"--host_address=127.0.0.{host}"
        return self._launch(*usual, *self._flags, own, *flags, "--", *command)

    def until_it_answers(self) -> None:
        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(answers, 120.0, lambda: "no launcher runs the rendezvous", every=0.02)


def told(line: str) -> tuple[int, int, str, list[str]]:
    """Index of the worker, restart, job, and the hosts of all workers."""
    match = re.fullmatch(r"\[worker (\d)\] (\d) (\w+) (.*)", line)
    assert match, line
    config = json.loads(match[4])
    assert config["task"] == {"type": "worker", "index": int(match[1])}
    hosts = [address.rpartition(":")[0] for address in config["cluster"]["worker"]]
    return int(match[1]), int(match[2]), match[3], hosts


def test_a_job_continues_with_two_of_three_hosts_and_again_with_three(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    meeting = Meeting(launch, "--num_workers=2:3")
    command = python(WORKER, "2")
    first = meeting.start(1, command)
    meeting.until_it_answers()
    second = meeting.start(2, command)
    (_, _, job, _) = told(first.read_lines(1)[0])
    second.read_lines(1)
    third = meeting.start(3, command)
    index, restart, same, hosts = told(third.read_lines(1)[0])
    assert (index, restart, same) == (2, 1, job)
    assert hosts == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert told(second.read_lines(1)[0])[:3] == (1, 1, job)
    first.read_lines(1)
    second.process.kill()
    statuses = []
    for launcher, place in ((first, 0), (third, 1)):
        status, output, errors = launcher.finish()
        statuses.append(status)
        lines = output.splitlines()
        assert told(lines[-1]) == (place, 2, job, ["127.0.0.1", "127.0.0.3"])
    assert statuses == [0, 0]
    assert "start 1: 3 workers, host 127.0.0.1, host 127.0.0.2, host 127.0.0.3." in errors
    assert "host 127.0.0.2 is lost: its connection has ended. Restart in 1 s; 1 of 3" in errors


def test_others_at_the_port_are_refused_by_name(launch: Launch, python: Python) -> None:
    meeting = Meeting(launch, "--num_workers=2")
    first = meeting.start(1, python(WORKER, "0"))
    meeting.until_it_answers()
    strangers = [socket.create_connection(("127.0.0.1", meeting.port)) for _ in range(4)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    strangers[1].sendall(b'{"tfscale":"Ended","succeeded":true,"saved":false,"peak":null}\n')
    strangers[2].sendall(bytes(range(256)) * 4)
    status, _, errors = meeting.start(2, python(WORKER, "1")).finish()
    assert status == 2
    assert f"rendezvous='{meeting.address}', which refuses this launcher: its command dif" in errors
    assert strangers[0].recv(1) == b""
    assert meeting.start(2, python(WORKER, "0")).finish()[0] == 0
    status, _, errors = first.finish()
    assert status == 0
    assert "a launcher on 127.0.0.1 is refused: its command differs." in errors
    assert errors.count("to the rendezvous is no launcher") == 1
    for stranger in strangers:
        stranger.close()


def test_too_few_hosts_end_the_wait_by_name(launch: Launch, python: Python) -> None:
    meeting = Meeting(launch, "--num_workers=2:3", "--join_seconds=1")
    assert meeting.start(1, python(WORKER, "0")).finish() == (
        1,
        "",
        "tfscale launch: after 1 s 1 of at least 2 workers are there (host 127.0.0.1). The job "
        "cannot start: run this command on more hosts, or let MIN be smaller.\n",
    )


def test_no_rendezvous_ends_the_wait_by_name(launch: Launch, python: Python) -> None:
    # RFC 2606: the name of no host.
    command = ("--num_workers=2", "--join_seconds=0.1", "--rendezvous=no-such-host.invalid:29400")
    status, _, errors = launch(*command, "--", *python(WORKER, "0")).finish()
    assert status == 1
    assert "nothing answers at the rendezvous no-such-host.invalid:29400 (" in errors


def test_without_the_launcher_of_the_rendezvous_the_others_end_by_name(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    meeting = Meeting(launch, "--num_workers=2")
    first = meeting.start(1, python(PID, "9"))
    meeting.until_it_answers()
    second = meeting.start(2, python(PID, "9"))
    pids = first.read_pids(1) + second.read_pids(1)
    first.process.kill()
    status, _, errors = second.finish()
    assert status == 1
    assert f"the rendezvous {meeting.address} is lost: " in errors.splitlines()[-1]
    assert "restart it on all hosts" in errors.splitlines()[-1]
    for pid in pids:
        until_gone(pid)


def test_a_signal_to_one_launcher_takes_its_host_out_and_to_the_first_ends_the_job(
    launch: Launch, python: Python
) -> None:
    meeting = Meeting(launch, "--num_workers=1:2", "--max_restarts=0")
    first = meeting.start(1, python(WORKER, "9"))
    meeting.until_it_answers()
    first.read_lines(1)
    second = meeting.start(2, python(WORKER, "9"))
    second.read_lines(1)
    assert told(first.read_lines(1)[0])[:2] == (0, 1)
    second.process.send_signal(signal.SIGINT)
    status, _, errors = second.finish()
    assert status == 42
    assert errors.endswith(
        "tfscale launch: SIGINT received; this host has left the job, all saved before.\n"
    )
    assert told(first.read_lines(1)[0])[:2] == (0, 2)
    third = meeting.start(3, python(WORKER, "9"))
    third.read_lines(1)
    first.read_lines(1)
    first.process.send_signal(signal.SIGTERM)
    for launcher in (first, third):
        status, _, errors = launcher.finish()
        assert status == 42
        assert errors.splitlines()[-1] == (
            "tfscale launch: SIGTERM received, on host 127.0.0.1, whose launcher runs the "
            "rendezvous; the whole job was ended, all saved before."
        )


def test_a_failure_ends_the_job_on_all_hosts_with_its_status(
    launch: Launch, python: Python
) -> None:
    fails = "if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 3: os._exit(7)\n"
    code = "import json\n" + WORKER.replace("if restart ==", f"{fails}if restart ==")
    meeting = Meeting(launch, "--num_workers=4", "--workers_per_host=2", "--max_restarts=1")
    launchers = [meeting.start(host, python(code, "9")) for host in (1, 2)]
    for launcher in launchers:
        status, _, errors = launcher.finish()
        assert status == 7
        assert re.search(
            r"^tfscale launch: worker 3 failed first: exit status 7 after \d+\.\d s, on host "
            r"127\.0\.0\.\d; the whole job was ended; not restarted: 1 of 1 restarts are used\.$",
            errors.splitlines()[-1],
        )


def test_another_program_at_the_port_is_named(launch: Launch, python: Python) -> None:
    meeting = Meeting(launch, "--num_workers=2")
    with socket.create_server(("127.0.0.1", meeting.port)) as server:
        launcher = meeting.start(1, python(WORKER, "0"))
        accepted, _ = server.accept()
        accepted.recv(1 << 16)
        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        status, _, errors = launcher.finish()
        accepted.close()
    assert status == 1
    assert errors == (
        f"tfscale launch: what answers at the rendezvous {meeting.address} is not a launcher of "
        "this job: its answer is no message of `tfscale launch` (it is not JSON). Another program "
        "may use the port: choose another one on all hosts.\n"
    )


@pytest.mark.thorough
def test_a_launcher_that_is_stopped_is_lost_and_ends_its_workers_when_it_goes_on(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    meeting = Meeting(launch, "--num_workers=1:2")
    first = meeting.start(1, python(PID, "2"))
    meeting.until_it_answers()
    second = meeting.start(2, python(PID, "2"))
    (pid,) = second.read_pids(1)
    second.process.send_signal(signal.SIGSTOP)
    status, _, errors = first.finish()
    assert status == 0
    assert "host 127.0.0.2 is lost: no sign of life for 15 s." in errors
    second.process.send_signal(signal.SIGCONT)
    assert second.finish()[0] == 1
    until_gone(pid)


@pytest.mark.thorough
def test_a_stopped_rendezvous_ends_the_others_by_name(launch: Launch, python: Python) -> None:
    meeting = Meeting(launch, "--num_workers=2")
    first = meeting.start(1, python(WORKER, "9"))
    meeting.until_it_answers()
    second = meeting.start(2, python(WORKER, "9"))
    second.read_lines(1)
    first.process.send_signal(signal.SIGSTOP)
    status, _, errors = second.finish()
    assert status == 1
    assert f"the rendezvous {meeting.address} is lost: no sign of life for 15 s." in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_workers=2:4"], "--num_workers=2:4 needs --rendezvous=HOST:PORT."),
        (
            ["--engine=kubernetes", "--num_workers=2:4"],
            "`--num_workers` must be one number with --engine=kubernetes. Received: "
            "--num_workers=2:4.",
        ),
        (["--num_workers=2", "--join_seconds=9"], "--join_seconds needs --rendezvous=HOST:PORT."),
        (["--rendezvous=a:1"], "--rendezvous needs --num_workers=MIN:MAX"),
        (["--rendezvous=a", "--num_workers=2:4"], "`rendezvous` must be host:port"),
        (
            ["--rendezvous=a:1", "--num_workers=2:4", "--num_ps=1"],
            "--num_ps cannot be used with --rendezvous",
        ),
        (
            ["--rendezvous=a:1", "--num_workers=2:4", "--num_data_workers=1"],
            "--num_data_workers cannot be used with --rendezvous",
        ),
        (
            ["--rendezvous=a:1", "--num_workers=2:4", "--hosts=a:1", "--host_index=0"],
            "--hosts cannot be used with --rendezvous",
        ),
        (
            ["--rendezvous=a:1", "--num_workers=2:5", "--workers_per_host=2"],
            "`max_workers` must be a multiple of `workers_per_host`",
        ),
    ],
)
def test_wrong_usage_names_the_flag(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tfscale.__main__ import main

    assert main(["launch", *arguments, "--", "true"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["4:2", "0:2", "2:", ":2", "2:3:4", "a:b", "2:-3", "2: 3", ":"])
def test_a_range_is_two_counts_in_order(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be N or MIN:MAX"):
        count_or_range(text)
    assert count_or_range("2:4") == (2, 4)
    assert count_or_range("3:3") == (3, 3)
    assert count_or_range("5") == 5
