"""What verifications find, in one child process for all of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.programs import completed

WRONG = {
    "no_model": r"must return a keras.Model first\. Received: a value of type int",
    "no_pair": r"must return `\(model, data\)`\. Received: a value of type Sequential",
    "not_compiled": r"must return a compiled model",
    "no_data": r"`data` must be .* Received: a value of type str",
    "unbatched": r"Batch a data set with `\.batch\(n\)`",
    "raising": r"raising\(\) raised KeyError: 'a column' \(verify_models\.py:\d+\)",
    "kept": r"must build a new model at each call",
    "nosuch": r"must be a function of .*verify_models\. Received: 'nosuch'",
}
CASES = (
    "normalized_together",
    "normalized_together-MOMENTS",
    "raw_sum",
    "half",
    "compiled_by_xla",
    *WRONG,
)

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("verified")
    program = "tests.unit.tfscale.inspect.verify.verify_cases"
    done = completed("-m", program, str(folder), *CASES, timeout=300)
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
    assert result["suspects"] == []
    # Outside of the library: both trainings round to float64, no more.
    assert max(quantity["difference"] for quantity in result["quantities"]) < 1e-12


def test_a_raw_sum_is_told_by_its_factor_and_by_its_source(found: Found) -> None:
    result = found["raw_sum"]
    assert result["verdict"] == "mismatch"
    assert result["suspects"][0].startswith("all gradients are 0.5 times one device's")
    assert result["suspects"][1].startswith("RawSum.train_step: `tf.reduce_sum`")


def test_the_repair_of_one_layer_left_out_names_that_layer(found: Found) -> None:
    result = found["normalized_together-MOMENTS"]
    assert result["verdict"] == "mismatch"
    assert "layer 'norm'" in result["blame"]


def test_half_precision_is_held_against_permuted_rows(found: Found) -> None:
    result = found["half"]
    assert (result["verdict"], result["precision"]) == ("equal", "float16"), result
    assert result["notes"][0].endswith("for replicas draw independently: drop")


def test_a_refusal_comes_through_with_its_cure(found: Found) -> None:
    result = found["compiled_by_xla"]
    assert result["verdict"] == "refused"
    assert re.match(r"`jit_compile` must not be True .* Use compile\(", result["text"])


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_with_the_cure(found: Found, case: str) -> None:
    assert found[case]["verdict"] == "wrong"
    assert re.search(WRONG[case], found[case]["text"])
    assert "\n" not in found[case]["text"]
