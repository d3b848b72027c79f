"""A verification: one device's training beside the strategy's, in processes of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfscale.verify.blame import LayerDifference, blamed, common_factor, layer_differences
from tfscale.verify.digest import digest
from tfscale.verify.messages import Candidate, Reference, Request
from tfscale.verify.process import Failed, TrialProcess
from tfscale.verify.tolerances import (
    TIMES_FLOOR,
    Quantity,
    difference,
    group_of,
    judge,
)


class Clerk(Protocol):
    """Whoever carries out the orders of `orders.Desk`; a `TrialProcess` does."""

    def ask(self, order: str, *arguments: Any) -> Any:
        """Returns what came of an order; raises `Failed`."""

    def tail(self) -> list[str]:
        """Returns the last lines that were printed."""


@dataclass
class Verification:
    """What came of it.

    Attributes:
        request: What was asked for.
        num_replicas: Replicas of all workers.
        num_workers: Worker processes.
        verdict: "equal", "mismatch", "not judged", "refused", "raised", "crashed" or "hung".
        text: Of a refusal or failure: what was said.
        tail: Of a failure: the last lines that were printed.
        precision: What the model computes in.
        quantities: What was compared.
        suspects: What is known to differ, most likely first.
        layers: Layers in the order of the model.
        blame: One sentence that names the layer to look at first, or "".
        notes: What the reader should know.
    """

    request: Request
    num_replicas: int = 0
    num_workers: int = 1
    verdict: str = "equal"
    text: str = ""
    tail: list[str] = field(default_factory=list)
    precision: str = ""
    quantities: list[Quantity] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)
    layers: list[LayerDifference] = field(default_factory=list)
    blame: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the strategy trains what one device trains."""
        return self.verdict == "equal"


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
        say: Told what is going on.
        report: Given the result, while the other workers wait: whoever ends first ends a job.

    Returns:
        What `report` was given.

    Raises:
        Failed: Of the kind "wrong", if the request or the user's function cannot be verified.
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
            _hear_others(result, spread)
        report(result)
        if result.num_workers > 1 and not is_ended:
            # The process that keeps the table of words may be gone before all have read it.
            with contextlib.suppress(Failed):
                spread.ask("meet", "verify: printed", "")
    return result


def compare(
    result: Verification,
    plain: Clerk,
    spread: Clerk,
    folder: Path,
    *,
    is_chief: bool,
    say: Callable[[str], None],
) -> None:
    """Orders both trainings and notes in `result` how they compare.

    Args:
        result: Gets what is found.
        plain: Trains on one device.
        spread: Trains under the strategy.
        folder: An empty folder for files.
        is_chief: Whether this process compares the saved file.
        say: Told what is going on.

    Raises:
        Failed: If an order comes to nothing.
    """
    plain.ask("import_subject")
    shape = spread.ask("build_strategy")
    result.num_replicas, result.num_workers = shape["num_replicas"], shape["num_workers"]
    try:
        reference: Reference = plain.ask("reference", str(folder))
    except Failed as failure:
        if failure.kind == "wrong":
            raise
        last = (plain.tail() or ["nothing"])[-1]
        cure = "Raise --timeout_seconds, or lower --steps." if failure.kind == "hung" else ""
        text = f"one device does not get through: {failure.text}; it last printed: {last}. {cure}"
        raise Failed("wrong", text.strip()) from failure
    result.precision, result.notes = reference.precision, list(reference.notes)
    _require_same_everywhere(result, spread, reference)
    file = folder / "strategy.keras"
    say(f"{result.num_replicas} replicas: building")
    candidate: Candidate = spread.ask("candidate", reference, str(file))
    result.suspects = candidate.suspects
    if candidate.end is not None:
        raise Failed(*candidate.end)
    missing, arrays = dict(reference.missing), dict(candidate.arrays)
    if not is_chief:
        missing["file"] = "the chief compares it"
    elif "file" not in missing:
        try:
            arrays |= plain.ask("reload", str(file), reference)
        except Failed as failure:
            result.notes.append(f"the strategy's file does not load in plain Keras: {failure.text}")
    result.quantities = judge(
        reference.arrays, reference.control, arrays, missing, reference.precision
    )
    verdicts = {quantity.verdict for quantity in result.quantities}
    result.verdict = next((v for v in ("mismatch", "not judged") if v in verdicts), "equal")
    result.layers = layer_differences(reference.arrays, arrays)
    if result.verdict == "mismatch":
        result.blame = blamed(result.layers, result.quantities)
        result.suspects = _led(result, reference, arrays)
        if is_chief and result.num_replicas > 1:
            measured = _diagnosed(result, plain, reference, arrays)
            result.suspects += measured
            result.blame = "" if measured else result.blame  # which guesses
    elif result.verdict == "not judged" and is_chief and result.num_replicas > 1:
        result.suspects += _diagnosed(result, plain, reference, arrays)
    elif result.verdict == "equal":
        result.suspects = []  # a layer that was asked to differ may be frozen


def _diagnosed(
    result: Verification, plain: Clerk, reference: Reference, arrays: dict[str, np.ndarray]
) -> list[str]:
    """What steps on one device say of the arrays that differ, beside what is known already."""
    limits = {q.name: TIMES_FLOOR * q.floor for q in result.quantities if q.verdict == "mismatch"}
    off = [
        name
        for name, expected in reference.arrays.items()
        if (limit := limits.get(group_of(name))) is not None
        and (name not in arrays or difference(expected, arrays[name]) > limit)
    ]
    try:
        found: list[str] = plain.ask("diagnose", reference, off)
    except Failed as failure:
        result.notes.append(f"no step could be taken on a part of a batch: {failure.text}")
        return []
    return [text for text in found if text not in result.suspects]


def _led(result: Verification, reference: Reference, arrays: dict[str, np.ndarray]) -> list[str]:
    """The suspects, led by the one that the gradients' common factor gives away."""
    factor = common_factor(reference.arrays, arrays)
    if factor is None:
        return result.suspects
    why = ""
    if abs(factor * result.num_replicas - 1) < 0.1:
        why = (
            ", which is what a sum over examples in one number does, or a division by the replicas"
        )
    return [f"all gradients are {factor:.4g} times one device's{why}.", *result.suspects]


def _require_same_everywhere(result: Verification, spread: Clerk, reference: Reference) -> None:
    """Sees to it that all workers start from the same weights and train on the same batches."""
    if result.num_workers == 1:
        return
    digests = spread.ask(
        "meet", "verify: same weights and data?", digest([*reference.initial, *reference.batches])
    )
    if len(set(digests)) > 1:
        others = [str(i) for i, digest in enumerate(digests) if digest != digests[0]]
        raise Failed(
            "wrong",
            f"`{result.request.target}` must return the same weights and data on all workers. "
            f"Received: other ones on worker {', '.join(others)} than on worker 0. Seed what it "
            "draws; --seed seeds Keras, NumPy and Python.",
        )


def _hear_others(result: Verification, spread: Clerk) -> None:
    """Makes one worker's mismatch the verdict of all."""
    if result.num_workers == 1:
        return
    off = [q.name for q in result.quantities if q.verdict in ("mismatch", "not judged")]
    verdicts = spread.ask("meet", "verify: verdict", f"{result.verdict}: {', '.join(off)}")
    for index, verdict in enumerate(verdicts):
        kind = verdict.partition(":")[0]
        if kind != "equal" and result.verdict == "equal":
            result.verdict = kind
            result.notes.append(f"worker {index} found {verdict}")
