"""A chain that was killed, in any stage or between two, ends like one that was not."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import completed
from tests.unit.tfscale.shrink.chain.killed_chain import EPOCHS

PROGRAM = "tests.unit.tfscale.shrink.chain.killed_chain"


def ran(float_type: str, folder: Path, *kill: str) -> Any:
    return completed("-m", PROGRAM, float_type, str(folder), *kill, timeout=240)


def assert_ended_alike(folder: Path, other: Path) -> None:
    with np.load(other / "result.npz") as wanted, np.load(folder / "result.npz") as found:
        assert wanted.files == found.files
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def after(epochs: int) -> str:
    """The checkpoint after so many epochs of four steps."""
    return f"step-{4 * epochs:012}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = ran("float64", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.thorough
def test_a_killed_chain_goes_on_after_its_last_stage(undisturbed: Path, tmp_path: Path) -> None:
    killed = ran("float64", tmp_path, "prune.json")
    assert killed.returncode == -signal.SIGKILL
    stages = tmp_path / "stages"
    assert sorted(path.name for path in stages.iterdir() if path.is_file()) == [
        *("chain.json", "channels.json", "channels.keras", "prune.json", "prune.keras")
    ]
    # Of another chain.
    chain = stages / "chain.json"
    stored = chain.read_text()
    chain.write_text(json.dumps({**json.loads(stored), "learning_rate": 0.5}))
    refused = ran("float64", tmp_path)
    assert refused.returncode == 1
    assert re.search("`stages_dir` must be new.*of another learning rate", refused.stderr)
    # Cut off.
    chain.write_text(stored[:-9])
    refused = ran("float64", tmp_path)
    assert re.search("`stages_dir` must have whole files", refused.stderr)
    chain.write_text(stored)
    whole = (stages / "prune.keras").read_bytes()
    (stages / "prune.keras").write_bytes(whole[:-9])
    refused = ran("float64", tmp_path)
    assert re.search("`stages_dir` must have whole files", refused.stderr)
    (stages / "prune.keras").write_bytes(whole)
    resumed = ran("float64", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "50 % zeros ..." not in resumed.stderr
    assert "4 values ..." in resumed.stderr
    assert_ended_alike(tmp_path, undisturbed)


@pytest.mark.thorough
def test_a_chain_that_is_killed_within_each_stage_goes_on_there(
    undisturbed: Path, tmp_path: Path
) -> None:
    for resumes, stage in enumerate(("channels", "prune", "cluster")):
        killed = ran("float64", tmp_path, f"{stage}/{after(20)}")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert_resumed(killed.stderr, resumes)
        names = {path.name for path in (tmp_path / "stages" / stage).glob("step-*")}
        assert names
        assert max(names) < after(EPOCHS), "killed after the stage, too late"
    resumed = ran("float64", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_resumed(resumed.stderr, 3)
    assert_ended_alike(tmp_path, undisturbed)


def assert_resumed(text: str, resumes: int) -> None:
    """Checks that the program went on in the stage in which it had been killed, if it had been."""
    found = re.findall(r"resuming from .* after (\d+) of (\d+) epochs", text)
    assert len(found) == min(1, resumes), text
    for done, epochs in found:
        assert 20 <= int(done) < int(epochs) == EPOCHS


@pytest.mark.thorough
def test_training_for_eight_bits_goes_on_within_its_stage(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    undisturbed = ran("float32", one)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = ran("float32", other, f"quantize/{after(20)}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = ran("float32", other)
    assert resumed.returncode == 0, resumed.stderr
    assert_resumed(resumed.stderr, 1)
    assert_ended_alike(other, one)


def ran_on_workers(folder: Path, *kill: str) -> Any:
    launcher = ("-m", "tfscale", "launch", "--num_workers=2", "--grace_seconds=1", "--")
    program = (sys.executable, "-m", PROGRAM, "float64", str(folder), *kill)
    return completed(*launcher, *program, timeout=300)


@pytest.mark.thorough
def test_two_workers_go_on_within_a_stage(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    undisturbed = ran_on_workers(one)
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr
    killed = ran_on_workers(other, f"prune/{after(20)}")
    assert killed.returncode != 0
    resumed = ran_on_workers(other)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert_resumed(resumed.stdout + resumed.stderr, 1)
    assert_ended_alike(other, one)
