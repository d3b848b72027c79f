"""Each example, run as its first lines say, prints the expected output."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import ROOT, completed, forked
from tests.unit.recipes.conftest import Run

FOLDER = ROOT / "recipes" / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
LONGEST_EXAMPLE = 40
PUBLIC = {"keras", "numpy", "strategies", "tensorflow", "tfscale", *sys.stdlib_module_names}
WAYS = ("python -m recipes.examples.{}", "tfscale verify recipes.examples.{}:build")
NUMBER = r"(-?\d+\.?\d*(?:e[-+]\d+)?)"


def source(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text("utf-8")


def parts(name: str) -> tuple[str, str]:
    """The sentence an example opens with, and the command that runs it."""
    sentence, command = (ast.get_docstring(ast.parse(source(name))) or "").split("\n\n")
    return sentence, command


def run(name: str, run_recipe: Callable[..., Run]) -> Run:
    program, *arguments = shlex.split(parts(name)[1])
    if program == "python":
        _, module, *flags = arguments
        return run_recipe(*flags, module=module)
    assert program == "tfscale"
    if "python" in arguments:  # behind a launcher, which has no need of TensorFlow
        start = arguments.index("python")
        arguments[start:] = [sys.executable, *forked(*arguments[start + 1 :])]
        done = completed("-m", "tfscale", *arguments, timeout=300)
    else:
        done = completed(*forked("-m", "tfscale", *arguments), timeout=300)
    return Run(done.returncode, done.stdout, done.stderr)


def numbers(pattern: str, text: str) -> list[float]:
    """The numbers in a text, where `pattern` has `#`."""
    found = re.search(re.escape(pattern).replace(r"\#", NUMBER), text)
    assert found, f"no {pattern!r} in {text}"
    return [float(number) for number in found.groups()]


def loss_falls(output: str) -> None:
    before, after = numbers("loss # -> #", output)
    assert after < before / 10


def weights_are_those_of_one_device(output: str) -> None:
    (difference,) = numbers("difference between the weights: #", output)
    assert difference < 1e-5


def norms_are_equal_and_beyond_the_clip(output: str) -> None:
    two, one = numbers("gradient: # on two replicas, # on one device", output)
    assert two == one > 0.5


def weights_stay_in_float32(output: str) -> None:
    assert "mixed_float16, float32 weights" in output
    loss_falls(output)


def asynchronous_steps_are_counted(output: str) -> None:
    assert "[chief] 50 steps of two workers" in output  # 5 epochs of 640 rows in batches of 64
    loss_falls(output)


def outputs_are_those_of_numpy(output: str) -> None:
    (difference,) = numbers("101 rows, largest difference from NumPy: #", output)
    assert difference < 1e-5


def training_resumes_at_the_last_save(output: str) -> None:
    assert "resumed at Position(epoch=0, step=4, batches=4), same weights: True" in output


def rate_follows_the_formula(output: str) -> None:
    # 0.02 t / 20, and then 0.01 (1 + cos(pi (t - 20) / 80)).
    assert "steps 0, 10, 20, 60, 100: 0.00, 0.01, 0.02, 0.01, 0.00;" in output
    loss_falls(output)


def generator_finds_the_mean(output: str) -> None:
    first, second = map(float, output.rpartition("[")[2].strip(" ]\n").split())
    assert (first, second) == pytest.approx((3, -2), abs=0.3)


def workers_print_the_line_of_one_device(output: str) -> None:
    """The oracle is the same program on one device, without the launcher."""
    program = source("two_workers").replace(
        "strategies.multi_worker_mirrored_strategy()", "strategies.one_device_strategy()"
    )
    done = completed(*forked("-c", program), timeout=300)
    (expected,) = done.stdout.splitlines()
    printed = sorted(line for line in output.splitlines() if "] loss " in line)
    assert printed == [f"[worker 0] {expected}", f"[worker 1] {expected}"]


def each_record_is_trained_once(output: str) -> None:
    assert output.startswith("8 steps an epoch")  # 500 rows: 7 batches of 64 and one of 52
    loss_falls(output)


def verdict_is_equal(output: str) -> None:
    assert "verdict: equal:" in output


PRINTS: dict[str, Callable[[str], None]] = {
    "custom_train_step": norms_are_equal_and_beyond_the_clip,
    "mirrored": weights_are_those_of_one_device,
    "mixed_precision": weights_stay_in_float32,
    "parameter_server": asynchronous_steps_are_counted,
    "predict": outputs_are_those_of_numpy,
    "resume": training_resumes_at_the_last_save,
    "schedule": rate_follows_the_formula,
    "two_optimizers": generator_finds_the_mean,
    "two_workers": workers_print_the_line_of_one_device,
    "verify": verdict_is_equal,
    "your_own_data": each_record_is_trained_once,
}
NEEDS_HARDWARE = {"tpu"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_short_and_opens_with_its_purpose_and_its_command(name: str) -> None:
    assert len(source(name).splitlines()) <= LONGEST_EXAMPLE
    sentence, command = parts(name)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert any(way.format(name) in command for way in WAYS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_uses_public_names_only(name: str) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__")
    assert imported <= PUBLIC


def test_each_example_has_a_test_of_what_it_prints() -> None:
    assert set(EXAMPLES) == set(PRINTS) | NEEDS_HARDWARE


@pytest.mark.parametrize("name", PRINTS)
def test_example_runs_by_its_own_command_and_prints_what_it_promises(
    name: str, run_recipe: Callable[..., Run]
) -> None:
    done = run(name, run_recipe)
    assert done.status == 0, done.stderr
    PRINTS[name](done.stdout)


def test_tpu_example_is_refused_with_one_sentence_where_there_is_no_tpu(
    run_recipe: Callable[..., Run],
) -> None:
    if Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists():
        pytest.skip("this host looks like a TPU VM")
    done = run("tpu", run_recipe)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.status, done.stdout) == (1, "")
    assert last.startswith("ValueError: `tpu` must name a TPU if this host has none. Received:")
    assert "Run on a Cloud TPU VM" in last
