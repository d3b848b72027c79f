"""Verifications of models that the devices of a replica share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.tfscale.verify.test_verify_command import MODELS, child
from tests.unit.tfscale.verify.test_verify_verification import Found, verdicts, verified
from tfscale.verify.parallel_model import Parallel, parallel

EQUAL = ("twice_dense@pipeline", "twice_dense@tensor")
CASES = (
    *EQUAL,
    *(f"{name}-MUTANT" for name in EQUAL),
    "normalized_together@pipeline",
    "raw_sum@pipeline",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return verified(tmp_path_factory.mktemp("verified"), CASES)


@pytest.mark.thorough
@pytest.mark.parametrize("case", EQUAL)
def test_a_model_over_two_devices_is_equal_in_every_quantity(found: Found, case: str) -> None:
    result = found[case]
    assert (result["verdict"], result["precision"]) == ("equal", "float64"), result
    compared = ["loss", "gradients", "weights", "slots", "iterations"]
    assert list(verdicts(result)) == [*compared, "metrics", "evaluate", "predictions", "file"]
    assert set(verdicts(result).values()) == {"equal"}
    assert max(quantity["difference"] for quantity in result["quantities"]) < 1e-12


@pytest.mark.thorough
@pytest.mark.parametrize("case", EQUAL)
def test_a_mistake_is_found(found: Found, case: str) -> None:
    result = found[f"{case}-MUTANT"]
    assert result["verdict"] == "mismatch", result
    assert verdicts(result)["gradients"] == "mismatch"


@pytest.mark.thorough
def test_statistics_of_microbatches_are_named_as_the_cause(found: Found) -> None:
    result = found["normalized_together@pipeline"]
    assert result["verdict"] == "mismatch"
    assert "normalises with the rows of each microbatch" in result["causes"][0]


@pytest.mark.thorough
def test_what_is_refused_is_said(found: Found) -> None:
    result = found["raw_sum@pipeline"]
    assert result["verdict"] == "refused"
    assert "`model` must have Keras's own `train_step`" in result["text"]


@pytest.mark.thorough
def test_the_command_shows_stages() -> None:
    flags = ("--parallel=pipeline:2", "--num_replicas=1", "--steps=2", "--microbatches=2")
    done = child("verify", f"{MODELS}:twice_dense", *flags)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    assert "under mirrored, 1 replica, 2 stages, 2 microbatches: 2 steps" in done.stdout


@pytest.mark.parametrize("text", ["pipeline", "pipeline:1", "stages:2", "tensor:two", "tensor:02"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="must be pipeline:N or tensor:N"):
        parallel(text)


def test_a_text_names_kind_and_devices() -> None:
    assert parallel("tensor:16") == Parallel("tensor", 16)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--microbatches=2"], "`--microbatches` must not be set without --parallel=pipeline:N"),
        (
            ["--parallel=pipeline:2", "--tensor_rules=mine:RULES"],
            "`--tensor_rules` must not be set without --parallel=tensor:N",
        ),
        (
            ["--parallel=tensor:2", "--strategy=one_device"],
            "`--parallel` must not be set with another strategy than mirrored",
        ),
    ],
)
def test_flags_that_contradict_are_refused(flags: list[str], words: str) -> None:
    done: Any = child("verify", "mine:build", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_rules_that_are_none_are_refused_before_anything_is_trained() -> None:
    flags = ("--parallel=tensor:2", f"--tensor_rules={MODELS}:twice_dense")
    done: Any = child("verify", f"{MODELS}:twice_dense", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`--tensor_rules` must name a list of tfscale.parallel.TensorRule" in done.stderr
    assert "Traceback" not in done.stderr
