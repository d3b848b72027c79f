"""A job that loses a host and gets it back trains what an undisturbed one on one device trains."""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from pathlib import Path

import pytest

from tests.faults import resume
from tests.faults.cables import ADDRESSES, Cable, missing
from tests.faults.job import Job, launcher
from tests.faults.lines import RESUMED_LINE, STEP_LINE
from tests.faults.notes import differences, first_batch, rows_noted
from tests.faults.training import EVERY, ONE_DEVICE, ROWS, STEPS, WORKERS, Training
from tfscale.launch.ports import reserve_port

EPOCHS = 6
ROUNDING = 1e-9
END_SECONDS = 900.0


@pytest.mark.engines
def test_three_workers_then_two_then_three_equal_one_device(tmp_path: Path) -> None:
    control = Training(
        ONE_DEVICE, str(tmp_path / "control"), precision="float64", epochs=EPOCHS, dropout=0.0
    )
    folder = tmp_path / "elastic"
    for each in (Path(control.folder), folder):
        each.mkdir()
    resume.train([control], tmp_path)
    training = dataclasses.replace(control, kind=WORKERS, folder=str(folder), pace_seconds=0.25)
    with reserve_port() as port:
        rendezvous = port.number

    def start(host: int) -> Job:
        flags = (
            "--num_workers=2:3",
            f"--rendezvous=127.0.0.1:{rendezvous}",
            f"--host_address=127.0.0.{host}",
            "--settle_seconds=1",
            "--grace_seconds=60",
        )
        mark = f"{tmp_path}/{host}"
        return Job(launcher(training, *flags), mark, {"TMPDIR": str(tmp_path)})

    with start(1) as first:
        first.await_line("1 of at least 2 workers are there")  # it runs the rendezvous
        with start(2) as second, start(3) as third:
            third.await_line(rf"{STEP_LINE}10$")
            third.kill()
            resumed = first.await_line(rf"{RESUMED_LINE}[1-9]")
            first.await_line(STEP_LINE, after=resumed.at)
            with start(3) as returned:
                statuses = [job.wait(END_SECONDS) for job in (first, second, returned)]
        said = "\n".join(line.text for line in first.lines)
    assert statuses == [0, 0, 0], said[-4000:]
    assert re.findall(r"start (\d): (\d) workers", said) == [("0", "3"), ("1", "2"), ("2", "3")]
    assert "is lost: its connection has ended. Restart in 1 s; 1 of 3 restarts used." in said
    assert "joined. Restart, not counted (all saved)." in said

    attempts = [
        dataclasses.replace(training, attempt=attempt, workers=workers)
        for attempt, workers in enumerate([3, 2, 3])
    ]
    # Weights, slots, history, and the rows of every batch in order.
    assert differences(attempts, control, ROUNDING) == []
    noted = [rows_noted(attempt) for attempt in attempts]
    begins = [first_batch(attempt) for attempt in attempts]
    assert begins[0] == 0
    assert begins[1] is not None
    assert max(noted[0]) - begins[1] <= 2 * EVERY
    assert begins[2] == max(noted[1])  # saved before the restart: no step is repeated
    lasting = {**noted[0], **noted[1], **noted[2]}
    for epoch in range(EPOCHS):
        batches = [lasting[1 + epoch * STEPS + i] for i in range(STEPS)]
        assert sorted(itertools.chain(*batches)) == list(range(ROWS))


# Saves on SIGTERM; prints its start and the addresses of all workers.
WAITS = (
    "import os, signal\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(42))\n"
    "print('start', os.environ['TFSCALE_RESTART'], os.environ['TF_CONFIG'], flush=True)\n"
    "while True: signal.pause()\n"
)


@pytest.mark.engines
def test_a_host_behind_a_cut_cable_is_lost_and_returns_when_it_is_mended(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    address = f"{ADDRESSES[0]}:29400"
    flags = ("--num_workers=1:2", f"--rendezvous={address}", "--settle_seconds=1")
    command = [sys.executable, "-m", "tfscale", "launch", *flags, "--"]
    command += [sys.executable, "-S", "-c", WAITS]

    with Cable() as cable:

        def start(end: int) -> Job:
            return Job(cable.command(end, command), f"{tmp_path}/{end}")

        with start(0) as first:
            first.await_line(r"worker 0\] start 0 ")
            with start(1) as second:
                line = second.await_line(r"worker 1\] start 1 ").text
                assert re.findall(r'"(10[^:"]*):', line) == [*ADDRESSES]
                cable.loss = 1.0
                assert second.wait(60.0) == 1
                said = second.lines[-1].text
                assert f"the rendezvous {address} is lost: no sign of life for 15 s." in said
            first.await_line(rf"host {ADDRESSES[1]} is lost: no sign of life for 15 s\. Restart")
            first.await_line(r"worker 0\] start 2 ")
            cable.loss = 0.0
            with start(1) as returned:
                for worker, job in enumerate((first, returned)):  # it handles SIGTERM by now
                    job.await_line(rf"worker {worker}\] start 3 ")
                first.terminate()
                assert [job.wait(60.0) for job in (first, returned)] == [42, 42]
