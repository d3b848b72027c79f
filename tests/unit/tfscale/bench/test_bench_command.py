"""The command as a user runs it, with few steps: figures exist, but are not accurate."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.programs import completed
from tfscale.__main__ import main

MODELS = "tests.unit.tfscale.bench.bench_models"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "tfscale", "bench", "--rounds=2", "--steps=4")
    return completed(*command, *arguments, timeout=300)


def test_a_short_race_has_positive_figures_of_the_same_training() -> None:
    flags = ("--model=tiny_mlp", "--steps_per_execution=2", "--threads=1", "--json")
    done = bench("--variants=stock,one_device,mirrored", *flags)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    by_name = {variant["name"]: variant for variant in result["variants"]}
    assert list(by_name) == ["stock", "one_device", "mirrored"]
    for variant in by_name.values():
        assert variant["step_ms"]["median"] > 0
        assert len(variant["rounds_ms"]) == 1
        assert variant["peak_bytes"] > 50 * 2**20  # TensorFlow alone
        assert variant["threads"] == 1
    assert by_name["mirrored"]["ratio"]["median"] > 0
    # Stock Keras on one device is the oracle of what the others should have trained.
    for name in ("one_device", "mirrored"):
        expected = pytest.approx(by_name["stock"]["first_loss"], rel=1e-5)
        assert by_name[name]["first_loss"] == expected
    assert "round 2 of 2, ms a step: stock " in done.stderr


def test_the_users_model_is_timed_too() -> None:
    done = bench(f"{MODELS}:linear", "--variants=stock,loop")
    assert done.returncode == 0, done.stderr[-4000:]
    circumstances, _, _, headings, stock, loop = done.stdout.splitlines()
    assert circumstances.startswith(f"{MODELS}:linear: 4 steps a turn, steps_per_execution as ")
    assert headings.split()[:2] == ["variant", "threads"]
    assert stock.startswith("stock ")
    assert "x stock [" in loop


def test_a_training_that_diverges_is_not_timed() -> None:
    done = bench(f"{MODELS}:diverging", "--variants=stock")
    assert (done.returncode, done.stdout) == (1, "")
    assert "stock: RuntimeError: The loss must be finite" in done.stderr


def test_a_function_that_is_missing_is_wrong_usage() -> None:
    done = bench(f"{MODELS}:absent", "--variants=stock")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`FUNCTION` must be a function of" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "must be MODULE:FUNCTION. Received: 'mine'. Example: mine:build"),
        (["--model=large"], "invalid choice: 'large'"),
        (["--variants=stock,ours"], "different names of stock, one_device, mirrored, loop"),
        (["--variants=stock,stock"], "must be different names of stock"),
        (["--rounds=1"], "must be an integer, at least 2. Received: '1'"),
        (["--steps=0"], "must be a positive integer. Received: '0'"),
        (["--timeout_seconds=nan"], "must be a positive, finite number of seconds"),
        (["mine:build", "--model=mlp"], "`--model` must be omitted if MODULE:FUNCTION"),
        (["--batch_size=8"], "`--batch_size` must be used with MODULE:FUNCTION"),
        (["--steps=10", "--steps_per_execution=4"], "`--steps` must be a multiple of"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object
    try:
        status = main(["bench", *arguments])
    except SystemExit as exit_of_argparse:
        status = exit_of_argparse.code
    written = capsys.readouterr()
    assert (status, written.out) == (2, "")
    assert message in written.err
    assert written.err.count("\n") == 1
