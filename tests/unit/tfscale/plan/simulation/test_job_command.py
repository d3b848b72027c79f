"""`tfscale plan --what=job`: the table, JSON, the picture, commands of engines, wrong flags."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.unit.tfscale.plan.speed.test_predicting import MEASURED
from tfscale.__main__ import main

PLAN = ("plan", "mine:build", "--what=job", "--measured=measured.json", "--repeats=5")


@pytest.fixture(autouse=True)
def _with_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MEASURED.write(tmp_path / "measured.json")
    monkeypatch.setenv("TFSCALE_JOBS_DIR", str(tmp_path / "jobs"))
    monkeypatch.chdir(tmp_path)


def test_the_chosen_job_is_marked_explained_and_written_for_each_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--strategies=ring", "--examples=4320000", "--epochs=2", "--deadline=3h"]
    flags += ["--cost_per_hour=2.5", "--mtbf=90d", "--picture=job.svg", "--engine=slurm"]
    flags += ["--engine=tpu_vm", "--option=slurm.partition=gpu", "--program=python mine.py"]
    assert main([*PLAN, *flags]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    # 8.64 million rows at 1,200 a second: 2 h on 2 workers, 5 of the currency each.
    (row,) = (line for line in lines if line.startswith(("* ", "*~")) and " = " not in line)
    assert row.split()[1:4] == ["ring", "2", "50"]
    assert row.split()[5] == "2.01"
    assert "Cheapest of the" in printed.out
    assert "    strategy = strategies.multi_worker_mirrored_strategy()" in lines
    assert any(
        line.startswith("    tfscale launch --engine=slurm --num_workers=2 ")
        and line.endswith("--option=partition=gpu -- python mine.py")
        for line in lines
    )
    assert any("`--num_workers` must be 1 with --engine=tpu_vm" in line for line in lines)
    assert printed.err.count("simulating jobs with ring") == 1
    assert ET.parse("job.svg").getroot().tag.endswith("svg")


def test_json_has_all_jobs_and_what_would_be_submitted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--strategies=mirrored,ring", "--workers=2", "--examples=864000", "--json"]
    assert main([*PLAN, *flags, "--watts=500"]) == 0
    found = json.loads(capsys.readouterr().out)
    ring = found["jobs"][-1]
    assert ring["prediction"]["strategy"] == "ring"
    assert ring["energy_kwh"] == pytest.approx(0.5 * 2 * ring["seconds"] / 3600)
    assert sum(ring["seconds_by_kind"].values()) == pytest.approx(ring["seconds"])
    assert "#SBATCH" in found["commands"]["slurm"]["dry_run"]
    assert found["commands"]["local"]["words"][:2] == ["tfscale", "launch"]


def test_a_job_that_may_shrink_is_simulated_and_written_as_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--strategies=ring,local_updates", "--examples=864000000", "--mtbf=10d", "--json"]
    flags += ["--replace_seconds=20000"]
    seconds, written = {}, {}
    for number in ("--num_workers=2:4", "--workers=4"):
        assert main([*PLAN, *flags, number]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {job["prediction"]["workers"] for job in found["jobs"]} == {4}
        jobs = {job["prediction"]["strategy"]: job for job in found["jobs"]}
        least = 2 if "2:4" in number else None
        assert jobs["ring"]["least_workers"] == least
        assert jobs["local_updates"]["least_workers"] is None
        seconds[number] = jobs["ring"]["seconds"]
        written[number] = found["commands"]
    assert seconds["--num_workers=2:4"] < seconds["--workers=4"]  # it does not wait for hosts
    assert set(written["--workers=4"]) == {"local", "slurm"}


def test_the_command_has_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--strategies=ring", "--examples=864000", "--mtbf=10d", "--num_workers=2:4"]
    assert main([*PLAN, *flags]) == 0
    printed = capsys.readouterr().out
    assert "ring on 2 to 4 workers" in printed
    assert any(line.split()[1:3] == ["ring", "2:4"] for line in printed.splitlines())
    assert "tfscale launch --engine=slurm --num_workers=2:4 " in printed
    assert "--engine=local" not in printed


def test_what_is_missing_is_said_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--strategies=ring", "--examples=864000", "--deadline=60s"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Nothing fits: the nearest, ring on ")
    assert not any(line.startswith(("*  ", "*~")) for line in lines)


def test_a_job_of_too_many_saves_is_not_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    # A save of 0.06 ms every 15 s, for 40,000 years; it took as long as one waited.
    flags = ["--strategies=ring", "--workers=1", "--examples=1000000000000000", "--mtbf=30d"]
    assert main([*PLAN, *flags]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Nothing fits: the jobs are too long to simulate.")
    assert any(line.endswith("too long to simulate") for line in lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "`--examples` must be given with --what=job"),
        (["--examples=9", "--budget=3"], "`--budget` must come with --cost_per_hour"),
        (["--examples=9", "--energy_limit=3"], "`--energy_limit` must come with --watts"),
        (["--examples=9", "--replace_seconds=3"], "`--replace_seconds` must come with --mtbf"),
        (["--examples=9", "--straggler_spread=9"], "--straggler_spread: must be from 0 to 2"),
        (["--examples=9", "--slow_factor=9e9"], "--slow_factor: must be from 1 to 1000"),
        (["--examples=9", "--num_workers=2:4"], "`--num_workers` must come with --mtbf"),
        (["--examples=9", "--num_workers=4"], "--num_workers: must be MIN:MAX. Received: '4'"),
        (["--examples=9", "--num_workers=4:2"], "--num_workers: must be N or MIN:MAX"),
        (
            ["--examples=9", "--mtbf=3d", "--num_workers=2:4", "--workers=2"],
            "`--workers` must be 4, the most of --num_workers=2:4",
        ),
        (["--examples=9", "--spares=3"], "`--spares` must come with --mtbf"),
        (["--examples=9", "--slow_share=0.1"], "`--slow_share` must come with --slow_factor"),
        (["--examples=9", "--slow_factor=3"], "`--slow_factor` must come with --slow_share"),
        (["--examples=9", "--option=x=y"], "`--option` must be ENGINE.NAME=VALUE"),
        (["--examples=9", "--program="], "`--program` must name a program"),
        (["--examples=9", "--program='"], "`--program` must be a command"),
        (["--examples=9", "--shard=1"], "`--shard` must come with --what=memory"),
        (["--examples=9", "--mtbf=3"], "must be at least 1s, a number with its unit"),
        (["--examples=9", "--slow_share=2"], "must be a number from 0 to 1"),
        (["--examples=9", "--engine=lsf"], "invalid choice: 'lsf'"),
        (["--examples=9", "--what=speed", "--mtbf=3d"], "`--mtbf` must come with --what=job"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*PLAN[:4], *flags])
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
