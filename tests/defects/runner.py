"""Program: a child process that runs reproducers one after another, one way.

    python -m tests.defects.runner ROWS FOLDER --way=stock --on=mirrored
    python -m tests.defects.runner ROWS FOLDER --way=tfscale --on=mirrored --disable=S4

ROWS contains the key of a row on each line. The results of row i are written to
`FOLDER/i.WORKER.npz`, an exception to `FOLDER/i.WORKER.error`. The lines `parity: start i` and
`parity: done i` report the progress to tests.parity.children.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.defects import patched_stock
from tests.defects.catalogue import row_of
from tests.defects.row import OURS, PARAMETER_SERVERS, STOCK, Run
from tests.defects.ways import new_strategy
from tests.parity.children import DONE, STARTED
from tests.parity.leaving_out import leave_out

RAISED = "raised "
"""Begins the text of a Python exception; a process that TensorFlow has aborted writes none."""


def main() -> int:
    """Runs every row; an exception ends the process, because collectives stay broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", required=True)
    parser.add_argument("--on", required=True)
    parser.add_argument("--disable", default="")
    arguments = parser.parse_args()
    if arguments.disable:
        leave_out(arguments.disable)
    task: dict[str, Any] = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    worker = int(task.get("index", 0))
    build = new_strategy(arguments.way, arguments.on)
    strategy: tf.distribute.Strategy | None = None
    for index, key in enumerate(arguments.rows.read_text("utf-8").splitlines()):
        row, folder = row_of(key), arguments.folder / str(index)
        folder.mkdir(exist_ok=True)
        print(f"{STARTED}{index}", flush=True)
        try:
            if row.is_patched and arguments.way == STOCK:
                patched_stock.patch()
            _start_afresh()
            strategy = build() if strategy is None else strategy
            found: dict[str, Any] = row.reproduce(Run(strategy, folder, worker, build))
        except Exception as error:
            text = f"{RAISED}{type(error).__name__}: {error}"
            (arguments.folder / f"{index}.{worker}.error").write_text(text, "utf-8")
            raise
        np.savez(arguments.folder / f"{index}.{worker}.npz", **found)
        print(f"{DONE}{index}", flush=True)
    if arguments.way != OURS:
        _require_stock_keras()
    if arguments.on == PARAMETER_SERVERS:
        os._exit(0)  # TensorFlow's servers in this process never end
    return 0


def _start_afresh() -> None:
    keras.utils.clear_session()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(1)


def _require_stock_keras() -> None:
    ours = sorted({name.split(".")[0] for name in sys.modules} & {"strategies", "tfscale"})
    if ours:
        raise RuntimeError(
            f"Stock must run on stock Keras. Received: a process that imported {ours}. Keep "
            "imports of tfscale and strategies out of the reproducers."
        )


if __name__ == "__main__":
    sys.exit(main())
