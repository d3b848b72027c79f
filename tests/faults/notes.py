"""Reads the notes of a training, and compares two trainings; needs only NumPy."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.faults.training import Training


def read_state(training: Training, worker: int) -> list[np.ndarray]:
    """Returns the variables at the end of a training, model and optimizer."""
    with np.load(training.note("state", worker)) as values:
        return [values[name] for name in values.files]


def first_batch(training: Training) -> int | None:
    """Returns how many batches were consumed before an attempt, or None if it trained none."""
    file = training.note("from", 0)
    return int(file.read_text("utf-8")) if file.exists() else None


def epochs_noted(training: Training) -> dict[int, dict[str, float]]:
    """Returns the logs at the end of each epoch of an attempt."""
    found = {}
    for line in _lines(training.note("epochs", 0)):
        epoch, logs = json.loads(line)
        found[epoch] = logs
    return found


def rows_noted(training: Training) -> dict[int, list[int]]:
    """Returns the rows of each global batch of an attempt, in order.

    Batches that a kill has left incomplete are left out.
    """
    begin = first_batch(training)
    if begin is None:
        return {}
    by_replica: dict[str, list[list[int]]] = {}
    for worker in range(training.num_workers):
        for line in _lines(training.note("rows", worker)):
            replica, _, rows = line.partition(" ")
            by_replica.setdefault(replica, []).append(
                [int(row) for row in re.findall(r"\d+", rows)]
            )
    if len(by_replica) < training.num_replicas:
        return {}
    batches = zip(*(by_replica[replica] for replica in sorted(by_replica)), strict=False)
    return {begin + 1 + i: list(itertools.chain(*batch)) for i, batch in enumerate(batches)}


def differences(attempts: Sequence[Training], control: Training, tolerance: float) -> list[str]:
    """Compares a training in several attempts with one in a single attempt.

    Args:
        attempts: The starts of one training; the last one ended normally.
        control: The other training.
        tolerance: Largest difference of a number, relative to the largest number of its array. 0
            requires the same bits.

    Returns:
        What differs, in words: weights and slots, the history, the order of rows.
    """
    found = []
    for worker in range(attempts[-1].num_workers):
        state = read_state(attempts[-1], worker)
        wanted = read_state(control, min(worker, control.num_workers - 1))
        apart = max(
            (distance(x, y) for x, y in zip(state, wanted, strict=True)),
            default=0.0,
        )
        if not apart <= tolerance:
            found.append(f"the final state of worker {worker}: {apart:.1e}")
    numbers, rows = epochs_noted(control), rows_noted(control)
    seen: set[int] = set()
    for attempt in attempts:
        for epoch, logs in epochs_noted(attempt).items():
            values = np.array([logs[name] for name in sorted(logs)])
            apart = distance(values, np.array([numbers[epoch][name] for name in sorted(logs)]))
            if not apart <= tolerance:
                found.append(f"epoch {epoch} of attempt {attempt.attempt}: {apart:.1e}")
        batches = rows_noted(attempt)
        seen |= set(batches)
        wrong = [batch for batch, order in batches.items() if order != rows[batch]]
        if wrong:
            found.append(f"the rows of batches {wrong} of attempt {attempt.attempt}")
    if seen != set(rows):
        found.append(f"batches never seen: {sorted(set(rows) - seen)}")
    return found


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest number; 0.0 for the same bits only.

    Infinite if shapes or types differ, or an array contains a NaN.
    """
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return np.inf
    if found.tobytes() == wanted.tobytes():
        return 0.0
    if not np.issubdtype(found.dtype, np.floating):
        return np.inf
    x, y = found.astype(np.float64), wanted.astype(np.float64)
    apart = np.max(np.abs(x - y)) / max(np.max(np.abs(y)), np.finfo(np.float64).tiny)
    # -0.0 and 0.0 are equal numbers with different bits.
    return float(max(apart, np.finfo(np.float64).tiny)) if np.isfinite(apart) else np.inf


def _lines(file: Path) -> list[str]:
    """The last line of a killed process may be incomplete."""
    text = file.read_text("utf-8") if file.exists() else ""
    return text.rpartition("\n")[0].splitlines()
