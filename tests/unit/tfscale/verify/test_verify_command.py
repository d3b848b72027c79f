"""The command as a user runs it: children, launcher, exit status."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tfscale
from tests.programs import completed
from tfscale.verify import command

ROOT = Path(tfscale.__file__).parents[1]
MODELS = "tests.unit.tfscale.verify.verify_models"


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return completed("-m", "tfscale", *arguments, timeout=300)


@pytest.mark.thorough
def test_a_clipped_model_on_uneven_batches_is_equal() -> None:
    flags = ("--num_replicas=2", "--steps=4", "--batch_size=16", "--json")
    done = child("verify", f"{MODELS}:clipped", *flags)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    result = json.loads(done.stdout)
    assert (result["verdict"], result["num_replicas"]) == ("equal", 2)
    assert result["notes"] == [
        "random layers off (rate 0), because replicas draw independently: drop"
    ]
    lines = done.stderr.splitlines()
    assert all(line.startswith("tfscale verify: ") for line in lines), done.stderr
    assert "tfscale verify: 2 replicas: 4 steps of training" in lines


@pytest.mark.thorough
@pytest.mark.parametrize("shard", [1, 2, 3])
def test_a_clipped_model_in_parts_is_equal(shard: int) -> None:
    flags = (f"--shard={shard}", "--num_replicas=3", "--steps=4", "--batch_size=16", "--json")
    done = child("verify", f"{MODELS}:clipped", *flags)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    result = json.loads(done.stdout)
    assert (result["verdict"], result["num_replicas"]) == ("equal", 3)


@pytest.mark.thorough
def test_of_two_workers_the_chief_reports_and_both_fail_on_a_mismatch() -> None:
    command = [sys.executable, "-m", "tfscale", "verify", f"{MODELS}:normalized"]
    flags = ["--strategy=multi_worker_mirrored", "--steps=2", "--batch_size=16"]
    # One shell per worker, because the first failure would end the job before the other reports.
    script = '"$@"; status=$?; echo "ended with $status"'
    shell = ["sh", "-c", script, "worker", *command, *flags]
    done = child("launch", "--num_workers=2", "--", *shell)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    assert "[worker 0] ended with 1" in lines, done.stdout
    assert "[worker 1] ended with 1" in lines, done.stdout
    assert any(line.startswith("[worker 0] verdict: mismatch in ") for line in lines)
    assert [line for line in lines if line.startswith("[worker 1] ")] == ["[worker 1] ended with 1"]
    assert any("layer 'norm' (BatchNormalization)" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "must be MODULE:FUNCTION. Received: 'mine'. Example: mine:build"),
        (
            ["mine:build", "--shard=4"],
            "--shard: invalid choice: 4 (choose from 0, 1, 2, 3)",
        ),
        (["mine:build", "--steps=0"], "must be a positive integer. Received: '0'"),
        (["mine:build", "--strategy=central"], "invalid choice: 'central'"),
        (["mine:build", "--timeout_seconds=nan"], "must be a positive, finite number of seconds"),
        (
            ["no_such_module:build"],
            "`MODULE` must be importable from the current directory or be installed.",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    done = child("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_flag_offers_all_strategies() -> None:
    # Read, not imported: that would import TensorFlow into the tests.
    tree = ast.parse((ROOT / "strategies" / "automatic.py").read_text("utf-8"))
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "STRATEGIES"
    )
    assert isinstance(table, ast.Dict)
    assert set(command.STRATEGIES) == {ast.literal_eval(key) for key in table.keys if key}
