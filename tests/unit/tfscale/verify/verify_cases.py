"""Program: verifies one function after another in this process, without child processes.

    python -m tests.unit.tfscale.verify.verify_cases FOLDER CASE...

A case is a function of `verify_models`, or `function-MOMENTS` for one whose synchronized moments
are left to Keras while the strategy trains. Prints a line of JSON each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras

from strategies.keras_support.patches import MOMENTS
from strategies.keras_support.patching.patch import Patch
from tests.without_patches import without
from tfscale.verify.messages import Request
from tfscale.verify.report import as_json
from tfscale.verify.verification import Verification, compare
from tfscale.verify.worker_rpc import Failed, Worker, answer

MODELS = "tests.unit.tfscale.verify.verify_models"

REFERENCES: dict[str, Any] = {}  # one device's results are the same for all cases of a target


class RemoteWorker:
    """A worker in this process."""

    def __init__(self, request: Request, left_out: tuple[Patch, ...] = ()) -> None:
        self._worker = Worker(request, lambda text: None)
        self._left_out = left_out
        self._target = request.target

    def call(self, method: str, *arguments: Any) -> Any:
        if method == "reference" and self._target in REFERENCES:
            return REFERENCES[self._target]
        with without(self._left_out if method == "candidate" else ()):
            kind, result = answer(getattr(self._worker, method), arguments)
        if kind != "done":
            raise Failed(kind, result)
        if method == "reference":
            REFERENCES[self._target] = result
        return result

    def tail(self) -> list[str]:
        return []


def verified(case: str, folder: Path) -> dict[str, Any]:
    function, _, left_out = case.partition("-")
    request = Request(f"{MODELS}:{function}", "mirrored", 2, 0, 4, 16, "auto", 0, 60.0)
    result = Verification(request)
    plain, spread = RemoteWorker(request), RemoteWorker(request, (MOMENTS,) if left_out else ())
    try:
        compare(result, plain, spread, folder, is_chief=True, say=lambda text: None)
    except Failed as failure:
        return {"verdict": failure.kind, "text": failure.text}
    return as_json(result)


def main() -> None:
    folder, *cases = sys.argv[1:]
    for case in cases:
        print("case", json.dumps([case, verified(case, Path(folder))]), flush=True)
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main()
