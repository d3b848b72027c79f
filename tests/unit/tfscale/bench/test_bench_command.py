"""The command as a user runs it, with few steps: figures exist, but are not accurate."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.programs import completed
from tfscale.__main__ import main
from tfscale.bench.command import KINDS, expanded

MODELS = "tests.unit.tfscale.bench.bench_models"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "tfscale", "bench", *arguments, "--rounds=2", "--steps=4")
    return completed(*command, timeout=300)


def test_a_short_race_has_positive_figures_of_the_same_training(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    flags = (
        f"--html={page}",
        "--model=tiny_mlp",
        "--steps_per_execution=2",
        "--threads=1",
        "--json",
    )
    done = bench("--variants=stock,one_device,mirrored", *flags)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    by_name = {row["name"]: row for row in result["rows"]}
    assert list(by_name) == ["stock", "one_device", "mirrored"]
    for row in by_name.values():
        assert row["value"]["median"] > 0
        assert row["processor_value"]["median"] > 0
        assert len(row["rounds"]) == 1
        assert row["facts"]["peak RSS MiB"] > 50  # TensorFlow's own
        assert row["facts"]["threads"] == "1"
    assert result["machine"]["versions"]["keras"] == metadata.version("keras")
    assert by_name["mirrored"]["ratio"]["median"] > 0
    # Stock Keras on one device is the oracle of what the others should have trained.
    for name in ("one_device", "mirrored"):
        expected = pytest.approx(by_name["stock"]["facts"]["first loss"], rel=1e-5)
        assert by_name[name]["facts"]["first loss"] == expected
    assert "round 2 of 2, ms a step: stock " in done.stderr
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_the_users_model_is_timed_too() -> None:
    done = bench(f"{MODELS}:linear", "--variants=stock,loop")
    assert done.returncode == 0, done.stderr[-4000:]
    text, _, _, headings, stock, loop = done.stdout.splitlines()
    assert text.startswith(f"{MODELS}:linear: 4 steps a turn, steps_per_execution as ")
    assert headings.split()[:2] == ["name", "threads"]
    assert stock.startswith("stock ")
    assert "x stock [" in loop


@pytest.mark.thorough
def test_workers_train_on_the_rows_of_one_device_each() -> None:
    flags = ("--variants=one_device,two_processes,workers", "--json", "--threads=2")
    done = bench("step", f"{MODELS}:linear", *flags)
    assert done.returncode == 0, done.stderr[-4000:]
    one, two, workers = json.loads(done.stdout)["rows"]
    assert [row["facts"]["threads"] for row in (one, two, workers)] == ["2", "2 x 1", "2 x 1"]
    assert workers["efficiency"]["median"] == pytest.approx(
        two["value"]["median"] / workers["value"]["median"]
    )
    for row in (two, workers):  # The same rows on both workers give the gradients of one device.
        assert row["facts"]["first loss"] == pytest.approx(one["facts"]["first loss"], rel=1e-5)


def test_the_help_of_a_kind_lists_its_variants() -> None:
    shown = "".join(
        completed("-m", "tfscale", "bench", "step", "--help", timeout=60).stdout.split()
    )
    assert "namesofstock,one_device,mirrored,loop,torch,two_processes,torch_ddp,workers" in shown


@pytest.mark.parametrize("kind", KINDS)
def test_the_help_of_every_kind_teaches_and_imports_nothing_heavy(kind: str) -> None:
    code = (
        "import sys\n"
        "from tfscale.__main__ import main\n"
        "try: main(['bench', sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'tensorflow', 'keras', 'numpy', 'jinja2'} & set(sys.modules)))"
    )
    shown = completed("-c", code, kind, timeout=60).stdout
    assert shown.startswith(f"usage: tfscale bench {kind} ")
    assert "examples:\n" in shown
    assert "exit status: 0 " in shown
    assert shown.endswith("heavy: []\n")


@pytest.mark.parametrize(
    "arguments", [[], ["mine:build"], ["--model=mlp", "--json"], ["step", "mine:build"]]
)
def test_a_command_line_without_a_kind_means_step(arguments: list[str]) -> None:
    assert expanded(arguments) == ["step", *(word for word in arguments if word != "step")]


def test_a_page_is_not_written_over_another_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(b"PK")
    assert main(["bench", f"--html={model}"]) == 2
    assert "must be a new file or an earlier page" in capsys.readouterr().err
    assert model.read_bytes() == b"PK"


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
        (["mine"], "argument KIND: invalid choice: 'mine' (choose from"),
        (["step", "mine"], "must be MODULE:FUNCTION. Received: 'mine'. Example: mine:build"),
        (["--model=large"], "invalid choice: 'large'"),
        (["--variants=stock,ours"], "different names of stock, one_device, mirrored, loop, torch"),
        (["--variants=stock,stock"], "must be different names of stock"),
        (["step", "--rounds=1"], "must be an integer, at least 2. Received: '1'"),
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
