"""The growth of a step: the setups, the model of a size, and the law of made-up rows."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import keras
import pytest

from tests.programs import completed
from tests.unit.tfscale.bench.test_bench_page import Structure
from tests.unit.tfscale.bench.test_bench_table import MACHINE
from tfscale.__main__ import main
from tfscale.bench.cost_law import Setup
from tfscale.bench.models import model_named
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.page import render
from tfscale.bench.scaling import fitting, memory_of, name_of, size_of, with_law


def made_up_rows() -> list[Row]:
    """Wall time 1 + 1e-6 P + 2 (R-1) + 3e-6 P (W-1) ms, and processor time twice that."""
    setups = [
        Setup(size, *counts)
        for size, counts in itertools.product((1e4, 1e6, 1e7), ((1, 1), (2, 1), (8, 1), (1, 3)))
    ]
    rows = []
    for setup in setups:
        size = setup.parameters
        time = 1 + 1e-6 * size + 2 * (setup.replicas - 1) + 3e-6 * size * (setup.workers - 1)
        rows.append(
            Row(
                f"{name_of(setup)}, {size_of(size)}",
                "",
                "ms a step",
                (time, 0.9 * time, 1.1 * time),
                (2 * time,) * 3,
                facts=dataclasses.asdict(setup),
            )
        )
    return rows


def outcome_of(rows: list[Row]) -> Outcome:
    law, rows, notes = with_law(rows)
    return Outcome("scaling", "MLPs", "t", {}, MACHINE, tuple(rows), tuple(notes), law)


@pytest.mark.parametrize("parameters", [1000, 10_000, 1_000_000, 10_000_000])
def test_a_model_of_a_size_has_about_that_many_parameters(parameters: int) -> None:
    model = model_named(f"mlp_{parameters}").compiled()
    assert isinstance(model, keras.Model)
    # A width of one more or less is about 1 / sqrt(P) more or less.
    assert abs(model.count_params() / parameters - 1) < 2 / math.sqrt(parameters)


def test_the_law_of_made_up_rows_is_found_and_each_row_says_what_it_predicts() -> None:
    outcome = outcome_of(made_up_rows())
    assert outcome.law is not None
    coefficients = outcome.law["wall"]["coefficients"]
    known = {"a": 1.0, "b": 0.0, "c": 1e-6, "d": 2.0, "e": 0.0, "f": 0.0, "g": 3e-6}
    assert coefficients == pytest.approx(known, rel=1e-6, abs=1e-9)
    assert outcome.law["processor"]["coefficients"]["d"] == pytest.approx(4.0)
    for row in outcome.rows:
        assert row.facts["law"] == pytest.approx(row.rounds[0])
        assert row.facts["off by %"] == 0
    assert "wall time in ms: t = 1 + 1e-06 P + 2 (R-1) + 3e-06 P (W-1)." in outcome.notes[0]


def test_the_page_has_the_law_and_a_picture_of_each_kind_of_growth() -> None:
    outcome = Outcome.from_json(json.loads(json.dumps(outcome_of(made_up_rows()).to_json())))
    page = Structure(render(outcome))
    assert page.open == []
    for name in ("parameters", "replicas", "workers"):
        for time in ("wall", "processor"):
            assert f"{time} time of a step over {name} (ms, log scale)" in page.text
    assert "t = 1 + 1e-06 P + 2 (R-1) + 3e-06 P (W-1)" in page.text
    one_device = [row for row in made_up_rows() if row.name.startswith("one device")]
    assert "of a step over replicas" not in render(outcome_of(one_device))


def test_rows_that_do_not_determine_a_law_are_kept_without_one() -> None:
    outcome = outcome_of(made_up_rows()[:4])
    assert outcome.law is None
    assert outcome.rows == tuple(made_up_rows()[:4])
    assert outcome.notes[0].startswith("No law: `times` must determine")
    assert Structure(render(outcome)).open == []


def test_copies_need_more_memory_than_one_device() -> None:
    one = memory_of(Setup(1e8))
    assert 2.5e9 < one < 4e9  # 400 MB of weights, twice that of Adam, gradients, the libraries.
    assert memory_of(Setup(1e8, replicas=8)) > 8 * 1.6e9
    assert memory_of(Setup(1e4, workers=4)) == pytest.approx(4 * memory_of(Setup(1e4)), rel=0.01)


def test_setups_share_the_memory_and_a_large_one_leaves_room_for_smaller_ones() -> None:
    one, large, small = Setup(1e6), Setup(1e8, replicas=8), Setup(1e6, replicas=2)
    budget = memory_of(one) + memory_of(small)
    assert fitting([one, large, small], budget) == [one, small]
    assert fitting([one, large, small], budget - 1) == [one]


@pytest.mark.thorough
def test_replicas_and_workers_are_timed_on_the_global_batch_of_one_device() -> None:
    flags = ("--parameters=1000", "--replicas=2", "--workers=2", "--rounds=2", "--memory_gib=8")
    done = completed("-m", "tfscale", "bench", "scaling", *flags, "--json", timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    one, replicas, workers = result["rows"]
    assert [row["name"] for row in result["rows"]] == [
        "one device, 1e3",
        "2 replicas, 1e3",
        "2 workers, 1e3",
    ]
    for row in (replicas, workers):
        # The same training on the same rows: stock Keras's single-device loss is that of `one`.
        expected = pytest.approx(one["facts"]["first loss"], rel=1e-5)
        assert row["facts"]["first loss"] == expected
        assert row["ratio"]["median"] > 0
    assert result["law"] is None


def test_setups_beyond_the_memory_are_skipped_and_say_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--parameters=1e9", "--workers=1", "--replicas=2", "--memory_gib=1"]
    assert main(["bench", "scaling", *flags]) == 0
    printed = capsys.readouterr().out
    assert "one device, 1e9: skipped: needs 27 GiB beside the others" in printed
    assert "2 replicas, 1e9: skipped: needs 68 GiB beside the others" in printed


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--parameters=1e4,1e4", "must be different numbers, at least 100"),
        ("--parameters=ten", "must be different numbers, at least 100"),
        ("--parameters=inf", "must be different numbers, at least 100"),
        ("--replicas=0", "must be"),
        ("--workers=1,two", "must be"),
    ],
)
def test_wrong_numbers_are_wrong_usage(
    flag: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "scaling", flag])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
