"""What verifications find, in one child process for all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.programs import completed, forked

WRONG = {
    "no_model": r"must return a keras.Model first\. Received: a value of type int",
    "no_pair": r"must return `\(model, data\)`\. Received: a value of type Sequential",
    "not_compiled": r"must return a compiled model",
    "no_data": r"`data` must be .* Received: a value of type str",
    "unbatched": r"Call `batch\(n\)` on an unbatched dataset",
    "raising": r"raising\(\) raised KeyError: 'a column' \(verify_models\.py:\d+\)",
    "kept": r"must build a new model at each call",
    "nosuch": r"must be a function of .*verify_models\. Received: 'nosuch'",
}
MEASURED = {
    "counted": r"variable 'sequential/counted/count': is a sum over the rows .*aggregation='sum'",
    "contrastive": r"Contrastive\.train_step: its loss depends on pairs of rows .*\.all_gather",
    "divided_by_its_count": r"DividedByItsCount\.train_step: its loss divides by a count over",
    "root_of_mean": r"RootOfMean\.train_step: its loss is not a mean over rows",
    "divided_by_replicas": r"shared_out: mentions `num_replicas_in_sync`",
    "centered": r"layer 'centered' \(Centered\): its output for a row depends on the other",
}
CASES = (
    "normalized_together",
    "normalized_together-MOMENTS",
    "raw_sum",
    "compiled_by_xla",
    *WRONG,
)
MORE_CASES = (*MEASURED, "bare_rows", "half", "ragged", "noisy")

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return verified(tmp_path_factory.mktemp("verified"), CASES)


@pytest.fixture(scope="module")
def found_at_length(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return verified(tmp_path_factory.mktemp("verified_at_length"), MORE_CASES)


def verified(folder: Path, cases: tuple[str, ...]) -> Found:
    program = "tests.unit.tfscale.verify.verify_cases"
    done = completed(*forked("-m", program, str(folder), *cases), timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("case ")]
    return dict(json.loads(line.removeprefix("case ")) for line in lines)


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {quantity["name"]: quantity["verdict"] for quantity in result["quantities"]}


def test_synchronized_statistics_are_equal_in_every_quantity(found: Found) -> None:
    result = found["normalized_together"]
    assert (result["verdict"], result["precision"]) == ("equal", "float64"), result
    compared = ["loss", "gradients", "statistics", "weights", "slots", "iterations"]
    assert list(verdicts(result)) == [*compared, "evaluate", "predictions", "file"]
    assert set(verdicts(result).values()) == {"equal"}
    assert result["causes"] == []
    # An outside bound: both trainings differ by float64 rounding only.
    assert max(quantity["difference"] for quantity in result["quantities"]) < 1e-12


def test_a_raw_sum_is_found_by_its_factor_and_named(found: Found) -> None:
    result = found["raw_sum"]
    assert result["verdict"] == "mismatch"
    assert result["causes"][0].startswith("all gradients are 0.5 times those of one device")
    assert result["causes"][1].startswith(
        "RawSum.train_step: its loss is a scalar that sums over the rows"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("case", MEASURED)
def test_a_cause_is_measured_and_named_with_its_cure(found_at_length: Found, case: str) -> None:
    result = found_at_length[case]
    assert result["verdict"] == "mismatch", result
    (cause,) = [each for each in result["causes"] if not each.startswith("all gradients")]
    assert re.match(MEASURED[case], cause), cause
    assert " Cure: " in cause


@pytest.mark.thorough
def test_bare_rows_for_a_train_step_without_call_are_equal(found_at_length: Found) -> None:
    result = found_at_length["bare_rows"]
    assert (result["verdict"], result["precision"]) == ("equal", "float64"), result
    assert verdicts(result)["gradients"] == "equal"  # of the optimizer that the model keeps itself


@pytest.mark.thorough
def test_a_step_that_draws_numbers_has_no_further_causes(found_at_length: Found) -> None:
    result = found_at_length["noisy"]
    assert result["verdict"] in ("inconclusive", "mismatch"), result
    (cause,) = result["causes"]
    assert cause.startswith("Noisy.train_step: draws random numbers separately on each replica")


@pytest.mark.thorough
def test_ragged_rows_are_equal(found_at_length: Found) -> None:
    result = found_at_length["ragged"]
    assert (result["verdict"], result["precision"]) == ("equal", "float64"), result


def test_the_fix_of_one_layer_left_out_names_that_layer(found: Found) -> None:
    result = found["normalized_together-MOMENTS"]
    assert result["verdict"] == "mismatch"
    assert "layer 'norm'" in result["layer_hint"]


@pytest.mark.thorough
def test_half_precision_is_compared_with_permuted_rows(found_at_length: Found) -> None:
    result = found_at_length["half"]
    assert (result["verdict"], result["precision"]) == ("equal", "float16"), result
    assert result["notes"][0].endswith("because replicas draw independently: drop")


def test_an_unsupported_configuration_is_reported_with_its_cure(found: Found) -> None:
    result = found["compiled_by_xla"]
    assert result["verdict"] == "refused"
    assert re.match(r"`jit_compile` must not be True .* Use compile\(", result["text"])


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_with_the_cure(found: Found, case: str) -> None:
    assert found[case]["verdict"] == "wrong"
    assert re.search(WRONG[case], found[case]["text"])
    assert "\n" not in found[case]["text"]
