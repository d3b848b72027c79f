"""Program: verifies one function after another in this process, without child processes.

    python -m tests.unit.tfscale.verify.verify_cases FOLDER CASE...

A case is a function of `verify_models`, with `@pipeline` or `@tensor` where two devices share each
replica. With `-MOMENTS` synchronized moments are left to Keras while the strategy trains; with
`-MUTANT` a mistake is made in stages or divided matrices. Prints a line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import tensorflow as tf

from strategies.keras_support.patches import MOMENTS
from strategies.keras_support.pipeline import pipeline_step
from strategies.keras_support.tensor import crossing, layer_calls
from tests.without_patches import without
from tfscale.verify.messages import Request
from tfscale.verify.parallel_model import Parallel
from tfscale.verify.report import as_json
from tfscale.verify.verification import Verification, compare
from tfscale.verify.worker_rpc import Failed, Worker, answer

MODELS = "tests.unit.tfscale.verify.verify_models"

PARALLEL = {
    "pipeline": Parallel("pipeline", 2, microbatches=4),
    "tensor": Parallel("tensor", 2, rules=f"{MODELS}:RULES"),
}


def _equal_weight(part: Any, whole: Any) -> float:
    return 1 / 4  # however many examples a microbatch has


def _without_gradient(tensor: Any, devices: Any, rank: int) -> Any:
    copy = crossing.sent(tensor, devices, rank)
    return tf.stop_gradient(copy) if rank and tf.is_tensor(copy) else copy


MUTANTS = {
    "pipeline": mock.patch.object(pipeline_step, "weight_of", _equal_weight),
    "tensor": mock.patch.object(layer_calls, "sent", _without_gradient),
}

REFERENCES: dict[str, Any] = {}  # one device's results are the same for all cases of a target


class RemoteWorker:
    """A worker in this process."""

    def __init__(self, request: Request, mistake: Any = None) -> None:
        self._worker = Worker(request, lambda text: None)
        self._mistake = mistake
        self._target = request.target

    def call(self, method: str, *arguments: Any) -> Any:
        if method == "reference" and self._target in REFERENCES:
            return REFERENCES[self._target]
        is_wrong = method == "candidate" and self._mistake is not None
        with self._mistake if is_wrong else contextlib.nullcontext():
            kind, result = answer(getattr(self._worker, method), arguments)
        if kind != "done":
            raise Failed(kind, result)
        if method == "reference":
            REFERENCES[self._target] = result
        return result

    def tail(self) -> list[str]:
        return []


def verified(case: str, folder: Path) -> dict[str, Any]:
    name, _, mistake = case.partition("-")
    function, _, kind = name.partition("@")
    shared = PARALLEL.get(kind)
    target = f"{MODELS}:{function}"
    request = Request(target, "mirrored", 2, 0, 4, 16, "auto", 0, 60.0, shared)
    mistakes = {"": None, "MOMENTS": without((MOMENTS,)), "MUTANT": MUTANTS.get(kind)}
    result = Verification(request)
    plain, spread = RemoteWorker(request), RemoteWorker(request, mistakes[mistake])
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
