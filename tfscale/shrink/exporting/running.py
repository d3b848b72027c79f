"""Runs an exported file in a process of its runtime, and compares its outputs with Keras's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfscale.shrink.exporting.rows import Rows

_ERROR = re.compile(r"[\w.]*(Error|Exception|Fail|Graph)\w*: ")
BATCHES = (1, 3)
"""Sizes of batches that are run besides the batch of all rows."""


class RunFailed(RuntimeError):
    """Raised if a file does not run in its runtime. The text has the runtime's last lines."""


@dataclass(frozen=True)
class Run:
    """What a runtime gave.

    Attributes:
        outputs: For each size of a batch, the outputs of the first rows.
        milliseconds: The median time of a call with one row.
        labels: What the file says that the classes are called.
        runtime: Name and version.
        has_tensorflow: Whether the process had to import TensorFlow.
    """

    outputs: dict[int, list[np.ndarray]]
    milliseconds: float
    labels: list[str]
    runtime: str
    has_tensorflow: bool


def run_file(
    format_name: str,
    path: Path,
    rows: Rows,
    outputs: Sequence[str],
    *,
    modules: Sequence[str] = (),
    timeout_seconds: float,
) -> Run:
    """Runs a file on all rows in one batch, on the first three, and on the first one.

    Args:
        format_name: The format.
        path: The file.
        rows: The rows.
        outputs: Names of the outputs.
        modules: To import before a `.keras` file is loaded.
        timeout_seconds: Of the process.

    Raises:
        RunFailed: If the process fails or takes longer.
    """
    sizes = sorted({min(size, len(rows)) for size in (*BATCHES, len(rows))})
    with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
        source, target = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        arrays = {f"input_{k}": values for k, values in enumerate(rows.inputs.values())}
        arrays["names"], arrays["outputs"] = np.array(list(rows.inputs)), np.array(list(outputs))
        arrays["sizes"] = np.array(sizes)
        np.savez(source, allow_pickle=False, **arrays)
        program = ["-m", "tfscale.shrink.exporting.run_file", format_name, str(path)]
        command = [sys.executable, *program, str(source), str(target), *modules]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(
                f"{path} did not run in its runtime within {timeout_seconds:g} s. Pass less data, "
                "or a larger timeout_seconds."
            ) from error
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            last = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1:] or "")
            raise RunFailed(
                f"{path} does not run in its runtime, which ended with {done.returncode}: {last}"
            )
        with np.load(target) as found:
            facts = json.loads(str(found["facts"]))
            return Run(
                outputs={
                    size: [found[f"{size}/{k}"] for k in range(len(outputs))] for size in sizes
                },
                milliseconds=1000 * facts["seconds"],
                labels=facts["labels"],
                runtime=facts["runtime"],
                has_tensorflow=facts["has_tensorflow"],
            )


@dataclass(frozen=True)
class Difference:
    """How outputs differ from those of Keras.

    Attributes:
        largest: The largest absolute difference of any output and batch.
        relative: That divided by the largest absolute value of Keras's outputs.
        agreement: Part of the rows with the same class, in [0, 1]; None if there are no classes.
        accuracy: Part of the rows with the true class; None if that is not known.
    """

    largest: float
    relative: float
    agreement: float | None
    accuracy: float | None


def difference(
    found: dict[int, list[np.ndarray]], expected: Sequence[np.ndarray], classes: np.ndarray | None
) -> Difference:
    """Compares outputs with Keras's.

    Args:
        found: Outputs of the first rows, by the number of rows.
        expected: Keras's outputs of all rows.
        classes: The true classes, or None.

    Example:
        >>> near, expected = np.array([[1.0, 9.0], [7.0, 3.0]]), np.array([[2.0, 8.0], [6.0, 4.0]])
        >>> difference({2: [near]}, [expected], np.array([1, 1]))
        Difference(largest=1.0, relative=0.125, agreement=1.0, accuracy=0.5)
    """
    pairs = [
        (np.asarray(got, np.float64), np.asarray(want[:size], np.float64))
        for size, outputs in found.items()
        for got, want in zip(outputs, expected, strict=True)
    ]
    wrong = next((got.shape for got, want in pairs if got.shape != want.shape), None)
    if wrong is not None:
        raise RunFailed(f"the file gives an output of shape {wrong}, which Keras does not give")
    # NaN where both are: equal. NaN on one side: as far as can be.
    distances = [np.abs(np.where(np.isnan(g) & np.isnan(w), 0.0, g - w)) for g, w in pairs]
    largest = max((float(np.nan_to_num(each, nan=np.inf).max()) for each in distances), default=0.0)
    scale = max((float(np.nanmax(np.abs(want))) for _, want in pairs), default=0.0)
    agreement = accuracy = None
    whole = found[max(found)]
    if len(expected) == 1 and expected[0].ndim == 2 and expected[0].shape[1] > 1:
        predicted = whole[0].argmax(axis=1)
        agreement = float(np.mean(predicted == expected[0].argmax(axis=1)))
        if classes is not None:
            accuracy = float(np.mean(predicted == classes))
    return Difference(largest, largest / scale if scale else largest, agreement, accuracy)
