"""The judge, the draw and the names of cases, without a child process."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.children import Findings
from tests.parity.configuration import DIVIDED, PIPELINES, Configuration
from tests.parity.drawing import draw
from tests.parity.drawing_parallel import draw_parallel
from tests.parity.examples import permuted_in_batches
from tests.parity.exclusions import EXCEPTIONS, why_excluded
from tests.parity.judge import FLOAT64, compare
from tests.parity.kinds import NEW
from tests.parity.report import crash_of
from tests.programs import completed
from tfscale.verify.comparison import difference

STRATEGIES = ("mirrored2", "mirrored3", "workers2")
LIMITS = dict.fromkeys(("weights", "history", "batch_logs"), FLOAT64)


def findings(**changes: np.ndarray) -> Findings:
    found = {
        "weights/0": np.array([1.0, 2.0]),
        "iterations": np.array(20),
        "batch_logs/loss": np.array([3.0, 2.0]),
        "batch_logs_steps": np.array([0, 1]),
    }
    return found | {name.replace("__", "/"): value for name, value in changes.items()}


def test_a_name_is_read_back_as_its_configuration() -> None:
    for configuration in draw(seed=4, count=200, strategies=STRATEGIES):
        assert Configuration.parse(str(configuration)) == configuration


def test_a_name_contains_only_fields_that_differ_from_the_defaults() -> None:
    assert str(Configuration(clip="clipnorm", rows=61)) == "mlp clip=clipnorm rows=61 on=mirrored2"


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must name fields of Configuration.*clipping=1.*clip, "):
        Configuration.parse("mlp clipping=1")


def test_a_sweep_repeats_from_its_seed_and_spreads_over_strategies() -> None:
    drawn = draw(seed=9, count=30, strategies=STRATEGIES)
    assert drawn == draw(seed=9, count=30, strategies=STRATEGIES)
    assert drawn != draw(seed=10, count=30, strategies=STRATEGIES)
    counts = [sum(c.strategy == strategy for c in drawn) for strategy in STRATEGIES]
    assert counts == [10, 10, 10]
    assert all(c.epochs * c.steps_per_epoch >= 20 for c in drawn)


def test_a_parallel_sweep_has_each_strategy_schedule_and_number_of_microbatches() -> None:
    drawn = draw_parallel(seed=9, count=100)
    assert drawn == draw_parallel(seed=9, count=100)
    assert len(set(drawn)) == 100
    assert {c.strategy for c in drawn} == {*PIPELINES, *DIVIDED}
    assert {c.pipeline_schedule for c in drawn} == {"gpipe", "1f1b", "interleaved"}
    assert {c.microbatches for c in drawn} == {1, 2, 4, 8}
    assert all(why_excluded(c) is None and Configuration.parse(str(c)) == c for c in drawn)


def test_what_pipelines_and_divided_matrices_refuse_is_left_out() -> None:
    for text, why in (
        ("mlp on=pipeline4_1", "a place to cut"),
        ("raw_step on=pipeline2_1", "a place to cut"),
        ("deep microbatches=2 pipeline_schedule=interleaved on=pipeline2_1", "interleaved is two"),
        ("deep pipeline_schedule=1f1b on=mirrored2", "replicas of one device"),
        ("deep clip=clipnorm on=tensor2_1", "look at whole matrices"),
        ("deep_batchnorm microbatches=2 on=pipeline2_2", "keep by microbatch"),
        ("codebook on=tensor2_2", "a matrix that devices can share"),
    ):
        assert why in str(why_excluded(Configuration.parse(text)))


def test_a_sweep_of_new_kinds_draws_each_of_them() -> None:
    drawn = draw(seed=9, count=6 * len(NEW), strategies=STRATEGIES, kinds="new")
    assert {c.model for c in drawn} == set(NEW)
    assert all(why_excluded(c) is None for c in drawn)


def test_a_sweep_of_named_models_draws_no_other() -> None:
    drawn = draw(seed=9, count=8, strategies=STRATEGIES, kinds="positions,teacher")
    assert {c.model for c in drawn} == {"positions", "teacher"}


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Received: kinds='mlp,old'.*all, ordinary, new, .*mlp"):
        draw(seed=9, count=8, strategies=STRATEGIES, kinds="mlp,old")


def test_every_kind_has_a_builder() -> None:
    """In a child process: the builders import TensorFlow."""
    program = (
        "from tests.parity.kinds import NEW, ORDINARY, STAGED\n"
        "from tests.parity.zoo import MODELS, NEW_MODELS\n"
        "print(sorted({*NEW, *STAGED} ^ {*NEW_MODELS}), sorted({*ORDINARY} ^ {*MODELS}))"
    )
    assert completed("-c", program, timeout=240).stdout.split() == ["[]", "[]"]


def test_inherent_exceptions_have_reasons() -> None:
    assert why_excluded(Configuration(loss="dice")) == EXCEPTIONS[0].reason


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({}, "matched", id="equal"),
        pytest.param({"weights__0": np.array([1.0, 2.0 + 1e-12])}, "matched", id="rounding"),
        pytest.param({"weights__0": np.array([1.0, 2.0 + 1e-7])}, "wrong", id="more"),
        pytest.param({"weights__0": np.array([1.0, np.nan])}, "wrong", id="not a number"),
        pytest.param({"weights__0": np.array([[1.0, 2.0]])}, "wrong", id="another shape"),
        pytest.param({"iterations": np.array(21)}, "wrong", id="a step too many"),
        pytest.param({"history__loss": np.array([1.0])}, "wrong", id="a log too many"),
        pytest.param(
            {"batch_logs__loss": np.array([2.0]), "batch_logs_steps": np.array([1])},
            "matched",
            id="logs at fewer steps",
        ),
    ],
)
def test_what_counts_as_a_match(changes: dict[str, np.ndarray], kind: str) -> None:
    verdict = compare(findings(), findings(**changes), LIMITS, has_batch_logs=True)
    assert verdict.kind == kind


def test_two_runs_that_diverged_equally_do_not_differ() -> None:
    diverged = np.array([np.inf, np.nan, 1.0])
    assert difference(diverged, diverged.copy()) == 0.0
    assert difference(diverged, np.array([-np.inf, np.nan, 1.0])) == np.inf


@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_permuted_rows_stay_in_their_part_of_their_batch(num_parts: int) -> None:
    order = permuted_in_batches(11, 4, num_parts, np.random.default_rng(0))
    assert sorted(order) == list(range(11))
    for first in range(0, 11, 4):
        size = min(4, 11 - first)
        for part in range(num_parts):
            start, stop = part * size // num_parts, (part + 1) * size // num_parts
            rows = range(first + start, first + stop)
            assert sorted(order[first + start : first + stop]) == list(rows)


def test_every_fixed_defect_is_shown_by_a_case_or_by_a_program() -> None:
    """In a child process: the registry and the programs import TensorFlow."""
    program = (
        "from tests.defects.catalogue import ALL_ROWS\n"
        "from tests.parity.disabling import ALL\n"
        "from tests.parity.rows import PROGRAMS\n"
        "from strategies.keras_support.defects.table import FIXES\n"
        "print(sorted({fix.row for fix in FIXES} ^ {*ALL}))\n"
        "print(sorted({*PROGRAMS} - {row.name for row in ALL_ROWS}))"
    )
    assert completed("-c", program, timeout=240).stdout.split() == ["[]", "[]"]


GRAPH_ERROR = """Traceback (most recent call last):
  File "training.py", line 69, in train
    history = model.fit(
tensorflow.python.framework.errors_impl.InvalidArgumentError: Graph execution error:
  File "trainer.py", line 171, in has_next
2 root error(s) found.
  (0) INVALID_ARGUMENT:  You must feed a value for placeholder 'while/body/_10'
     [[{{node while/cond/Placeholder_1}}]]
"""


@pytest.mark.parametrize(
    ("detail", "crash"),
    [
        (GRAPH_ERROR, "fit: InvalidArgumentError: You must feed a value for placeholder 'while"),
        (
            "    predicted = model.predict(\na.b.InvalidArgumentError: {{function_node __AddN_2}} "
            "must have the same shape.  Input 0: [4,6] != input 1: [3,6]",
            "predict: InvalidArgumentError: must have the same shape.",
        ),
        ("[worker 0] killed by signal 11", "no traceback: [worker #] killed by signal #"),
        ("", "no traceback: no output"),
    ],
)
def test_crashes_are_counted_by_call_and_error(detail: str, crash: str) -> None:
    assert crash_of(detail).startswith(crash)
