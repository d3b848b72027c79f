"""The kinds of time of jobs beside jobs whose times are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tfscale
from tests.programs import ROOT, forked, own_environment
from tests.unit.tfscale.monitor.killed_training import DISK_SECONDS, EVERY, STEPS
from tfscale.monitor.journal import VERSION, clock
from tfscale.monitor.phases import PHASES

DAY = 1_800_000_000.0
KILL_AFTER = 78


def begin(process: int, began: float, at: float, position: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "begin",
        "version": VERSION,
        "time": DAY + at,
        "clock": at,
        "boot": "one",
        "process": process,
        "process_began": began,
        "restore_seconds": 0.0,
        "position": position,
        **more,
    }


def window(at: float, steps: int, position: int, **phases: float) -> dict[str, Any]:
    return {
        "event": "steps",
        "time": DAY + at,
        "clock": at,
        "steps": steps,
        "seconds": sum(phases.values()),
        "examples": 4 * steps,
        "position": position,
        "phases": dict.fromkeys(PHASES, 0.0) | phases,
    }


def end(at: float, position: int) -> dict[str, Any]:
    return {"event": "end", "time": DAY + at, "clock": at, "position": position}


def heartbeat(process: int, at: float, steps: int, position: int) -> dict[str, Any]:
    """Has computed `steps` in as many seconds, then 0.5 s of another, which waits for 1.25 s."""
    return {
        "event": "heartbeat",
        "time": DAY + at,
        "clock": at,
        "process": process,
        "steps": steps,
        "position": position,
        "phases": dict.fromkeys(PHASES, 0.0) | {"compute": float(steps)},
        "step_phases": dict.fromkeys(PHASES, 0.0) | {"compute": 0.5, "communication": 1.25},
    }


def write(folder: Path, *lines: dict[str, Any], worker: int = 0, cut: str = "") -> None:
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    with (folder / f"monitor-{worker}.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + cut)


FIRST = (
    begin(1, 100.0, 110.0, 0),  # 10 s of start
    window(114.0, 1, 1, compile=4.0),
    window(124.0, 10, 11, compute=6.0, input_wait=2.0, communication=1.0, callbacks=1.0),
    window(134.0, 10, 21, compute=7.0, checkpoint=2.0, evaluation=1.0),
)
# Restarted 6 s later from step 16: half of the last window is lost, but for its checkpoint.
SECOND = (
    begin(2, 140.0, 147.0, 16, restore_seconds=3.0),
    window(149.0, 1, 17, compile=2.0),
    window(157.0, 8, 25, compute=8.0),
    end(158.0, 25),
)


def test_each_second_of_a_job_that_was_restarted_is_of_one_kind(tmp_path: Path) -> None:
    write(tmp_path, *FIRST, cut='{"event": "ste\n')
    write(tmp_path, *SECOND)
    good = tfscale.monitor.goodput(tmp_path)
    expected = {
        "start": 10 + 4 + 1,  # the last second is of the end
        "restore": 3,
        "compile": 4 + 2,
        "input_wait": 2,
        "step": 6 + 3.5 + 8,
        "waiting_for_workers": 1,
        "callbacks": 1,
        "evaluation": 0.5,
        "save": 2,
        "lost_work": 3.5 + 0.5,
        "stopped": 6,
    }
    assert good.seconds == pytest.approx(expected)
    assert good.total == pytest.approx(58)
    assert good.ratio == pytest.approx(17.5 / 58)
    assert good.starts == 2
    assert "lost work" in str(good)


@pytest.mark.parametrize("is_taken", [True, False])
def test_what_a_killed_process_did_after_its_last_line_is_known(
    is_taken: bool, tmp_path: Path
) -> None:
    beat = heartbeat(1, 134.0 + 3 + 1.75, 3, 24)
    other = heartbeat(8, 139.0, 3, 24)  # of a process without lines
    write(tmp_path, other, *FIRST, other, cut='{"event": "ste\n')
    if is_taken:
        second = {**SECOND[0], "position": 23}
        write(tmp_path, beat, second, *SECOND[1:])
    else:
        (tmp_path / "heartbeat-0.json").write_text(f"{json.dumps(beat)}      \n", "utf-8")
    found = tfscale.monitor.goodput(tmp_path).seconds
    if is_taken:  # resumed from step 23, of 21 to 24 and the one that was not completed
        assert found["lost_work"] == pytest.approx(1 + 0.5 + 1.25)
        assert found["waiting_for_workers"] == 1
        assert found["step"] == pytest.approx(6 + 7 + 2 + 8)
        assert found["stopped"] == pytest.approx(140 - 138.75)
        assert sum(found.values()) == pytest.approx(58)
    else:
        assert found["lost_work"] == found["stopped"] == 0
        assert found["step"] == pytest.approx(6 + 7 + 3 + 0.5)
        assert found["waiting_for_workers"] == pytest.approx(1 + 1.25)
        assert sum(found.values()) == pytest.approx(38.75)


def test_a_heartbeat_that_a_line_has_followed_counts_nothing(tmp_path: Path) -> None:
    write(tmp_path, *FIRST)
    before = tfscale.monitor.goodput(tmp_path)
    beat = json.dumps(heartbeat(1, 133.9, 9, 20))
    (tmp_path / "heartbeat-0.json").write_text(beat, "utf-8")
    assert tfscale.monitor.goodput(tmp_path) == before
    (tmp_path / "heartbeat-0.json").write_text(beat[:50], "utf-8")  # it is being written
    assert tfscale.monitor.goodput(tmp_path) == before


def test_workers_have_their_mean(tmp_path: Path) -> None:
    write(tmp_path, *FIRST[:2])
    write(tmp_path, begin(7, 106.0, 110.0, 0), window(112.0, 1, 1, compile=2.0), worker=1)
    good = tfscale.monitor.goodput(tmp_path)
    assert good.seconds["start"] == (10 + 4) / 2
    assert good.seconds["compile"] == (4 + 2) / 2
    assert list(good.workers) == [0, 1]


def test_a_second_fit_of_a_process_repeats_nothing(tmp_path: Path) -> None:
    write(tmp_path, *FIRST, end(134.0, 21))
    write(tmp_path, begin(1, 100.0, 136.0, 0), window(140.0, 4, 4, compute=4.0), end(140.0, 4))
    good = tfscale.monitor.goodput(tmp_path)
    assert good.seconds["lost_work"] == good.seconds["stopped"] == 0
    assert good.seconds["start"] == 10 + 2
    assert good.starts == 1


def test_a_clock_that_was_set_matters_only_between_hosts(tmp_path: Path) -> None:
    moved = [{**line, "time": line["time"] + 3600} for line in SECOND]
    write(tmp_path, *FIRST, *moved)
    assert tfscale.monitor.goodput(tmp_path).seconds["stopped"] == 6
    moved[0]["boot"] = "another host"
    (tmp_path / "monitor-0.jsonl").unlink()
    write(tmp_path, *FIRST, *moved)
    assert tfscale.monitor.goodput(tmp_path).seconds["stopped"] == 3606


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["nonsense", json.dumps(FIRST[1])], "Received: nonsense in line 1"),
        ([json.dumps(FIRST[1])], "'steps' before a beginning in line 1"),
        (
            [json.dumps({**FIRST[0], "version": 99})],
            "version 99 in line 1. Read it with",
        ),
        ([json.dumps({**FIRST[0], "position": None})], "position=None in line 1"),
        ([json.dumps(FIRST[0]), json.dumps({**FIRST[1], "phases": {}})], "phases={} in line 2"),
        (["[]"], r"Received: \[\] in line 1"),
        ([json.dumps({**heartbeat(1, 1.0, 1, 1), "step_phases": 3})], "step_phases=3 in line 1"),
    ],
)
def test_a_line_of_something_else_is_refused(lines: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "monitor-0.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=said):
        tfscale.monitor.goodput(tmp_path)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`folder` must contain monitor-0\.jsonl"):
        tfscale.monitor.goodput(tmp_path)
    with pytest.raises(ValueError, match="which is not a folder"):
        tfscale.monitor.goodput(tmp_path / "other")


@pytest.mark.thorough
def test_a_job_that_was_really_killed_and_restarted_has_its_times(tmp_path: Path) -> None:
    spawned, ended, starts = [], [], []
    for place, kill_after in enumerate((KILL_AFTER, 0)):
        path = tmp_path / f"notes-{place}"
        program = "tests.unit.tfscale.monitor.killed_training"
        command = (*forked("-m", program), str(tmp_path), str(path), str(kill_after))
        spawned.append(clock())
        process = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=own_environment(), timeout=300, check=False
        )
        ended.append(clock())
        assert process.returncode == (-9 if kill_after else 0)
        starts.append([json.loads(line) for line in path.read_text("utf-8").splitlines()])
        if kill_after:
            time.sleep(3)
    notes = [dict(start) for start in starts]
    killed, over = notes[0]["kill"], notes[1]["over"]
    begun = [notes[0]["begin 0"], notes[1][f"begin {EVERY}"]]

    def waited(start: int, batch: int) -> float:
        return float(max(0.0, notes[start][f"ready {batch}"] - notes[start][f"begin {batch}"]))

    def computed(start: int, batch: int) -> float:
        end = notes[start].get(f"end {batch}", killed)
        return float(end - notes[start][f"begin {batch}"] - waited(start, batch))

    kept = [(0, batch) for batch in range(EVERY)] + [(1, batch) for batch in range(EVERY, STEPS)]
    lost = [(0, batch) for batch in range(EVERY, KILL_AFTER + 1)]
    first = [(0, 0), (1, EVERY)]
    good = tfscale.monitor.goodput(tmp_path / "monitor")
    truth = {
        "lost_work": sum(waited(*each) + computed(*each) for each in lost),
        "step": sum(computed(*each) for each in kept if each not in first),
        "input_wait": sum(waited(*each) for each in kept),
        "compile": sum(computed(*each) for each in first),
        "stopped": spawned[1] - killed,
        "save": DISK_SECONDS * sum(what == "save" for start in starts for what, _ in start),
    }
    tolerance = 0.02 * (over - spawned[0])
    found = good.seconds
    assert {kind: found[kind] for kind in truth} == pytest.approx(truth, abs=tolerance)
    beginnings = sum(at - start for at, start in zip(begun, spawned, strict=True))
    assert found["start"] + found["restore"] == pytest.approx(beginnings, abs=tolerance)
    assert good.total == pytest.approx(over - spawned[0], abs=tolerance)
    assert good.starts == 2


@pytest.mark.parametrize("name", ["monitor-0.jsonl", "heartbeat-0.json"])
@pytest.mark.parametrize("kind", ["folder", "FIFO", "device"])
def test_what_only_looks_like_a_file_is_refused_at_once(
    tmp_path: Path, name: str, kind: str
) -> None:
    line = json.dumps(begin(1, 0.0, 1.0, 0)) + "\n"
    (tmp_path / "monitor-0.jsonl").write_text(line, "utf-8")
    (tmp_path / name).unlink(missing_ok=True)
    match kind:
        case "folder":
            (tmp_path / name).mkdir()
        case "FIFO":
            os.mkfifo(tmp_path / name)
        case "device":
            (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"`{name}` must be a file"):
        tfscale.monitor.goodput(tmp_path)


def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "monitor-0.jsonl").write_text("[" * 100_000, "utf-8")
    with pytest.raises(ValueError, match=r"`monitor-0\.jsonl` must contain .* in line 1\."):
        tfscale.monitor.goodput(tmp_path)
