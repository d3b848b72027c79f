"""Jobs with data workers: which exits end the job, and which data workers restart."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch import Hosts, Outcome, launch_local_workers

BEGIN = """
import json, os, pathlib, signal, sys, time
index = os.environ.get("TFSCALE_DATA_WORKER")
kind = "worker" if index is None else "data_worker"
if index is None:
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder = pathlib.Path(sys.argv[1])
with (folder / f"{kind}-{index}").open("a") as file:
    file.write(os.environ["TFSCALE_DATA_WORKERS"] + "\\n")
def starts(task):
    try:
        return len((folder / task).read_text().splitlines())
    except FileNotFoundError:
        return 0
def await_starts(task, number):
    end = time.monotonic() + 120
    while starts(task) < number:
        assert time.monotonic() < end, task
        time.sleep(0.01)
for task in ("worker-0", "data_worker-0", "data_worker-1"):
    await_starts(task, 1)
"""
SERVE = """
if kind == 'data_worker':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(600)
"""


def launch(folder: Path, program: str, **arguments: Any) -> tuple[Outcome, str]:
    output = io.BytesIO()
    outcome = launch_local_workers(
        [sys.executable, "-c", BEGIN + program, str(folder)],
        1,
        num_data_workers=2,
        grace_seconds=5,
        output=output,
        **arguments,
    )
    return outcome, output.getvalue().decode()


def test_the_end_of_the_workers_ends_the_job(tmp_path: Path) -> None:
    shown = "print(os.environ.get('TFSCALE_DATA_WORKER'), os.environ['TF_CONFIG'], flush=True)"
    shown += "\npathlib.Path(folder, f'said-{kind}-{index}').write_text('it\\n')\n"
    program = shown + SERVE + "await_starts('said-data_worker-0', 1)\n"
    program += "await_starts('said-data_worker-1', 1)"
    outcome, output = launch(tmp_path, program)
    assert outcome.status == 0
    lines = dict(line.split("] ", 1) for line in output.splitlines())
    assert {name: text.split()[0] for name, text in lines.items()} == {
        "[worker 0": "None",
        "[data worker 0": "0",
        "[data worker 1": "1",
    }
    addresses = (tmp_path / "worker-0").read_text().strip().split(",")
    assert len(set(addresses)) == 2
    ports = set(re.findall(r":(\d+)", output)) | {part.split(":")[1] for part in addresses}
    assert len(ports) == 5  # three clusters, and two data workers that serve


def test_the_status_of_the_job_is_the_workers(tmp_path: Path) -> None:
    outcome, _ = launch(tmp_path, SERVE + "sys.exit(7)")
    assert outcome.status == 7
    assert str(outcome).startswith("worker 0 failed first: exit status 7")


def test_a_killed_data_worker_comes_back_by_itself_at_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = "if kind == 'data_worker' and index == '1' and starts('data_worker-1') == 1:\n"
    killed += "    os.kill(os.getpid(), signal.SIGKILL)\n"
    outcome, _ = launch(tmp_path, killed + SERVE + "await_starts('data_worker-1', 2)")
    assert (outcome.status, outcome.restarts) == (0, 0)
    first, second = (tmp_path / "data_worker-1").read_text().splitlines()
    assert first == second
    assert len((tmp_path / "worker-0").read_text().splitlines()) == 1
    said = capsys.readouterr().err
    assert "data worker 1 failed: killed by SIGKILL" in said
    assert "It is restarted in 1 s, and training continues" in said


def test_the_workers_continue_with_the_data_workers_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Said(io.StringIO):
        """Standard error, whose lines the worker can wait for."""

        def write(self, text: str) -> int:
            if "It is not restarted: 3 times in a row" in text:
                (tmp_path / "given up").write_text("it\n")
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Said())
    failing = "if kind == 'data_worker' and index == '1': sys.exit(3)\n"
    outcome, _ = launch(tmp_path, failing + SERVE + "await_starts('given up', 1)")
    assert outcome.status == 0


@pytest.mark.thorough
def test_a_job_without_any_data_worker_has_failed(tmp_path: Path) -> None:
    outcome, _ = launch(tmp_path, "if kind == 'data_worker': sys.exit(3)\ntime.sleep(600)")
    assert outcome.status == 3
    assert re.match(r"data worker [01] failed first: exit status 3", str(outcome))


def test_data_workers_serve_until_the_workers_have_saved(tmp_path: Path) -> None:
    program = SERVE.replace("sys.exit(0)", "((folder / f'ended-{index}').touch(), sys.exit(0))")
    # The launcher gets the signal, and passes it on to the worker only.
    program += "def save(*_):\n    time.sleep(0.5)\n"
    program += "    sys.exit(1 if list(folder.glob('ended-*')) else 42)\n"
    program += "signal.signal(signal.SIGTERM, save)\n"
    program += f"os.kill({os.getpid()}, signal.SIGTERM)\ntime.sleep(600)"
    outcome, _ = launch(tmp_path, program)
    assert (outcome.status, outcome.stop_signal) == (42, signal.SIGTERM)


@pytest.mark.parametrize(
    "other", [{"num_ps": 1}, {"hosts": Hosts(("a.example:2222", "b.example:2222"), 0)}]
)
def test_data_workers_are_refused_with_other_kinds_of_jobs(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`num_data_workers` must be 0 with `hosts` or `num_ps`"):
        launch_local_workers(["true"], 1, num_data_workers=1, **other)
