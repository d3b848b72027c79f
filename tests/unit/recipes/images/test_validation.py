"""Rows that `--validation` holds out, and a run that evaluates them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recipes.images import validation
from tests.unit.recipes.conftest import Run

ROWS = 20


class Source:
    """As many rows as arrays or as a dataset."""

    def __init__(self, *, is_dataset: bool) -> None:
        self.rows: Any = (np.arange(ROWS), 10 * np.arange(ROWS))
        if is_dataset:
            self.rows = tf.data.Dataset.from_tensor_slices(self.rows)

    def num_examples(self, split: str) -> int:
        return {"train": ROWS}[split]

    def read(self, split: str) -> Any:
        return {"train": self.rows}[split]


def pairs(rows: Any) -> list[tuple[int, int]]:
    if isinstance(rows, tf.data.Dataset):
        return [(int(a), int(b)) for a, b in rows]
    return [(int(a), int(b)) for a, b in zip(*rows, strict=True)]


@pytest.mark.parametrize("is_dataset", [False, True])
def test_rows_are_trained_on_or_held_out(monkeypatch: Any, is_dataset: bool) -> None:
    monkeypatch.setattr(validation, "FLAGS", SimpleNamespace(validation=0.3))
    source: Any = Source(is_dataset=is_dataset)
    own, held = map(pairs, validation.train_rows(source))
    assert (len(own), len(held)) == (14, 6)
    assert sorted(own + held) == [(k, 10 * k) for k in range(ROWS)]
    assert [pairs(each) for each in validation.train_rows(source)] == [own, held]
    monkeypatch.setattr(validation, "FLAGS", SimpleNamespace(validation=0.0))
    everything, nothing = validation.train_rows(source)
    assert (len(pairs(everything)), nothing) == (ROWS, None)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_part_without_rows_is_refused(monkeypatch: Any, fraction: float) -> None:
    monkeypatch.setattr(validation, "FLAGS", SimpleNamespace(validation=fraction))
    source: Any = Source(is_dataset=False)
    with pytest.raises(ValueError, match="`--validation` must hold out at least one row"):
        validation.held_out(source)


@pytest.mark.thorough
def test_a_run_evaluates_what_is_held_out_after_each_epoch(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = ["--dataset=stripes/stripes", f"--data_dir={data_dir}", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, "--validation=0.25", "--train_epochs=2", "--global_batch_size=8")
    assert run.status == 0, run.stderr
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
