"""A verification: trains on one device and under the strategy in two processes, and compares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfscale.verify.batches import digest
from tfscale.verify.comparison import (
    TIMES_FLOOR,
    LayerDifference,
    Quantity,
    common_factor,
    compare_quantities,
    difference,
    group_of,
    layer_differences,
    layer_to_check,
)
from tfscale.verify.messages import Candidate, Reference, Request
from tfscale.verify.worker_rpc import Failed, TrialProcess


class RemoteWorker(Protocol):
    """Calls methods of a `worker_rpc.Worker`, as `TrialProcess` does."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Returns the result of a method. Raises `Failed`."""

    def tail(self) -> list[str]:
        """Returns the last lines that were printed."""


@dataclass
class Verification:
    """The result of a verification.

    Attributes:
        request: What was verified.
        num_replicas: Replicas of all workers.
        num_workers: Worker processes.
        verdict: "equal", "mismatch", "inconclusive", "refused", "raised", "crashed" or "hung".
        text: The message of an error under the strategy, or "".
        tail: The last lines that were printed before a failure.
        precision: The precision that the model computes in.
        quantities: The compared quantities.
        causes: Known or measured causes of differences, the most likely first.
        layers: Differences of layers, in the order of the model.
        layer_hint: A sentence that names the layer to check first, or "".
        notes: Remarks for the reader.
    """

    request: Request
    num_replicas: int = 0
    num_workers: int = 1
    verdict: str = "equal"
    text: str = ""
    tail: list[str] = field(default_factory=list)
    precision: str = ""
    quantities: list[Quantity] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    layers: list[LayerDifference] = field(default_factory=list)
    layer_hint: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether results under the strategy match those of one device."""
        return self.verdict == "equal"

    @property
    def is_in_parts(self) -> bool:
        """Whether a batch is computed in several parts, by replicas or as microbatches."""
        return self.num_replicas > 1 or self.request.microbatches > 1


def verify(
    request: Request,
    folder: Path,
    *,
    is_chief: bool,
    say: Callable[[str], None],
    report: Callable[[Verification], None],
) -> Verification:
    """Trains on one device and under the strategy, and compares.

    Args:
        request: What is to be verified.
        folder: An empty folder for logs and files.
        is_chief: Whether this process compares the saved file.
        say: Called with each line of progress.
        report: Called with the result while the other workers wait, because the first process that
            ends may end the job.

    Returns:
        The result.

    Raises:
        Failed: With kind "wrong", if the request or the user's function cannot be verified.
    """
    with contextlib.ExitStack() as stack:
        plain = TrialProcess("one device", request, folder / "one_device.log", True, say)
        stack.callback(plain.end)
        spread = TrialProcess(request.strategy, request, folder / "strategy.log", False, say)
        stack.callback(spread.end)
        result = Verification(request)
        try:
            compare(result, plain, spread, folder, is_chief=is_chief, say=say)
        except Failed as failure:
            if failure.kind == "wrong":
                raise
            result.verdict, result.text = failure.kind, failure.text
            result.tail = [] if failure.kind == "refused" else spread.tail()
        is_ended = bool(result.text)
        if not is_ended:
            _merge_verdicts(result, spread)
        report(result)
        if result.num_workers > 1 and not is_ended:
            # Worker 0's process stores the messages. It must not end before all have read them.
            with contextlib.suppress(Failed):
                spread.call("exchange", "verify: printed", "")
    return result


def compare(
    result: Verification,
    plain: RemoteWorker,
    spread: RemoteWorker,
    folder: Path,
    *,
    is_chief: bool,
    say: Callable[[str], None],
) -> None:
    """Runs both trainings and stores their comparison in `result`.

    Args:
        result: Receives the comparison.
        plain: Trains on one device.
        spread: Trains under the strategy.
        folder: An empty folder for files.
        is_chief: Whether this process compares the saved file.
        say: Called with each line of progress.

    Raises:
        Failed: If a call fails.
    """
    plain.call("import_user_model")
    shape = spread.call("build_strategy")
    result.num_replicas, result.num_workers = shape["num_replicas"], shape["num_workers"]
    try:
        reference: Reference = plain.call("reference", str(folder))
    except Failed as failure:
        if failure.kind == "wrong":
            raise
        last = (plain.tail() or ["nothing"])[-1]
        cure = "Raise --timeout_seconds, or lower --steps." if failure.kind == "hung" else ""
        text = f"training on one device fails: {failure.text}; last line printed: {last}. {cure}"
        raise Failed("wrong", text.strip()) from failure
    result.precision, result.notes = reference.precision, list(reference.notes)
    _require_same_everywhere(result, spread, reference)
    file = folder / "strategy.keras"
    say(f"{result.num_replicas} replicas: building")
    candidate: Candidate = spread.call("candidate", reference, str(file))
    result.causes = candidate.causes
    if candidate.end is not None:
        raise Failed(*candidate.end)
    missing, arrays = dict(reference.missing), dict(candidate.arrays)
    if not is_chief:
        missing["file"] = "compared by the chief"
    elif "file" not in missing:
        try:
            arrays |= plain.call("reload", str(file), reference)
        except Failed as failure:
            result.notes.append(f"the strategy's file does not load in stock Keras: {failure.text}")
    result.quantities = compare_quantities(
        reference.arrays,
        reference.control,
        arrays,
        missing,
        reference.precision,
        _movement(reference),
    )
    verdicts = {quantity.verdict for quantity in result.quantities}
    result.verdict = next((v for v in ("mismatch", "inconclusive") if v in verdicts), "equal")
    result.layers = layer_differences(reference.arrays, arrays)
    if result.verdict == "mismatch":
        result.layer_hint = layer_to_check(result.layers, result.quantities)
        result.causes = _with_common_factor(result, reference, arrays)
        if is_chief and result.is_in_parts:
            measured = _measured_causes(result, plain, reference, arrays)
            result.causes += measured
            result.layer_hint = "" if measured else result.layer_hint  # which is only a guess
    elif result.verdict == "inconclusive" and is_chief and result.is_in_parts:
        result.causes += _measured_causes(result, plain, reference, arrays)
    elif result.verdict == "equal":
        result.causes = []  # for instance a layer that is frozen


def _movement(reference: Reference) -> float:
    """Returns how far training on one device has changed the weights, relative to them."""
    trained = [a for name, a in reference.arrays.items() if group_of(name) == "weights"]
    pairs = zip(trained, reference.initial, strict=True)
    return max((difference(end, begin) for end, begin in pairs), default=0.0)


def _measured_causes(
    result: Verification, plain: RemoteWorker, reference: Reference, arrays: dict[str, np.ndarray]
) -> list[str]:
    """Returns causes that steps on one device show for the arrays that differ, if new."""
    limits = {q.name: TIMES_FLOOR * q.floor for q in result.quantities if q.verdict == "mismatch"}
    off = [
        name
        for name, expected in reference.arrays.items()
        if (limit := limits.get(group_of(name))) is not None
        and (name not in arrays or difference(expected, arrays[name]) > limit)
    ]
    try:
        found: list[str] = plain.call("diagnose", reference, off)
    except Failed as failure:
        result.notes.append(f"steps on parts of a batch failed: {failure.text}")
        return []
    return [text for text in found if text not in result.causes]


def _with_common_factor(
    result: Verification, reference: Reference, arrays: dict[str, np.ndarray]
) -> list[str]:
    """Returns the causes, after a remark on a common factor of the gradients if there is one."""
    factor = common_factor(reference.arrays, arrays)
    if factor is None:
        return result.causes
    why = ""
    if abs(factor * result.num_replicas - 1) < 0.1:
        why = ", as after a scalar sum over examples, or a division by the number of replicas"
    return [f"all gradients are {factor:.4g} times those of one device{why}.", *result.causes]


def _require_same_everywhere(
    result: Verification, spread: RemoteWorker, reference: Reference
) -> None:
    """Checks that all workers start from the same weights and train on the same batches."""
    if result.num_workers == 1:
        return
    digests = spread.call(
        "exchange",
        "verify: same weights and data?",
        digest([*reference.initial, *reference.batches]),
    )
    if len(set(digests)) > 1:
        others = [str(i) for i, digest in enumerate(digests) if digest != digests[0]]
        raise Failed(
            "wrong",
            f"`{result.request.target}` must return the same weights and data on all workers. "
            f"Received: different ones on worker {', '.join(others)} than on worker 0. Seed all "
            "random numbers; --seed seeds Keras, NumPy and Python.",
        )


def _merge_verdicts(result: Verification, spread: RemoteWorker) -> None:
    """Makes a mismatch on one worker the verdict of all."""
    if result.num_workers == 1:
        return
    off = [q.name for q in result.quantities if q.verdict in ("mismatch", "inconclusive")]
    verdicts = spread.call("exchange", "verify: verdict", f"{result.verdict}: {', '.join(off)}")
    for index, verdict in enumerate(verdicts):
        kind = verdict.partition(":")[0]
        if kind != "equal" and result.verdict == "equal":
            result.verdict = kind
            result.notes.append(f"worker {index} found {verdict}")
