"""Runs the examples in the docstrings of modules, and prints how many ran and what failed.

python -m tests.unit.docstring_examples MODULE...

A line of JSON for each module: its name, the number of examples that ran, and doctest's report of
those that failed. All run in one process, on two logical CPUs.
"""

from __future__ import annotations

import doctest
import importlib
import io
import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale


def names(folder: Path) -> dict[str, Any]:
    """What an example may use beside the names of its own module."""
    return {
        "folder": folder,
        "io": io,
        "keras": keras,
        "np": np,
        "rows": np.ones([4, 1]),
        "strategies": strategies,
        "targets": np.ones([4, 1]),
        "tf": tf,
        "tfscale": tfscale,
    }


def run(module: str) -> dict[str, Any]:
    report = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(report):
        result = doctest.testmod(
            importlib.import_module(module), extraglobs=names(Path(folder)), report=False
        )
    keras.config.set_dtype_policy("float32")  # an example may have set another
    ran = result.attempted - getattr(result, "skipped", 0)  # counted from Python 3.13 on
    return {"module": module, "ran": ran, "report": report.getvalue()}


def main() -> None:
    strategies.mirrored_strategy(num_replicas=2)  # cuts the CPU in two before TensorFlow starts
    for module in sys.argv[1:]:
        print(json.dumps(run(module)), flush=True)


if __name__ == "__main__":
    main()
