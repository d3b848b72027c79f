"""Chooses the precision for given devices, and one precision for several workers.

Works on the workers' reports only; it does not query devices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

FROM_WEAKEST = ("float32", "mixed_float16", "mixed_bfloat16")
"""What "auto" can choose. A device that suits one policy suits those before it."""


@dataclass(frozen=True)
class PrecisionChoice:
    """A dtype policy and the reason for it.

    Attributes:
        policy: The name of a `keras.DTypePolicy`, such as "mixed_bfloat16".
        reason: A phrase, such as "GPUs of compute capability 9.0".
    """

    policy: str
    reason: str


@dataclass(frozen=True)
class WorkerAnswer:
    """What one worker reports for the choice.

    Attributes:
        worker: The worker, such as "worker 0".
        asked: The precision its program asked for.
        kind: The device type of its replicas: "TPU", "GPU" or "CPU".
        capability: The lowest compute capability of its GPUs, as (major, minor). None if a GPU
            does not report it, and for other devices.
    """

    worker: str
    asked: str
    kind: str
    capability: tuple[int, int] | None = None

    def to_json(self) -> str:
        """Returns the answer as one line of JSON, for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerAnswer:
        """Parses what `to_json` returned on another worker."""
        fields = json.loads(text)
        if fields["capability"] is not None:
            fields["capability"] = tuple(fields["capability"])
        return cls(**fields)


def suited_to(answer: WorkerAnswer) -> PrecisionChoice:
    """Returns the precision that is fast and safe on one worker's devices.

    Tensor cores compute in bfloat16 from compute capability 8.0 (Ampere) and in float16 from 7.0
    (Volta). bfloat16 has the range of float32 and needs no loss scale, so it is preferred.

    Example:
        >>> suited_to(WorkerAnswer("worker 0", "auto", "GPU", (7, 5))).policy
        'mixed_float16'

    Source: NVIDIA, CUDA C++ Programming Guide, table "Feature Support per Compute Capability".
    """
    if answer.kind == "TPU":
        return PrecisionChoice("mixed_bfloat16", "a TPU")
    if answer.kind != "GPU":
        return PrecisionChoice("float32", "no GPU or TPU")
    if answer.capability is None:
        return PrecisionChoice("float32", "a GPU that does not report its compute capability")
    reason = "GPUs of compute capability {}.{}".format(*answer.capability)
    if answer.capability >= (8, 0):
        return PrecisionChoice("mixed_bfloat16", reason)
    return PrecisionChoice("mixed_float16" if answer.capability >= (7, 0) else "float32", reason)


def agreed(answers: Sequence[WorkerAnswer]) -> PrecisionChoice:
    """Returns the precision that all workers use.

    With "auto" the weakest worker decides, because what suits its devices suits the others' too.

    Args:
        answers: Every worker's answer, in the same order on all of them. Not empty.

    Raises:
        ValueError: If the workers ask for different precisions.

    Example:
        >>> agreed([WorkerAnswer("worker 0", "auto", "GPU", (9, 0)),
        ...         WorkerAnswer("worker 1", "auto", "GPU", (7, 0))]).reason
        'worker 1, the weakest of 2, has GPUs of compute capability 7.0'
    """
    asked = {answer.asked for answer in answers}
    if len(asked) > 1:
        said = ", ".join(f"{answer.worker} {answer.asked!r}" for answer in answers)
        raise ValueError(
            f"`precision` must be the same on all workers. Received: {said}. Pass the same "
            "precision on all of them, such as 'auto'."
        )
    (precision,) = asked
    if precision != "auto":
        return PrecisionChoice(precision, "as asked")
    choices = [suited_to(answer) for answer in answers]
    weakest = min(choices, key=lambda choice: FROM_WEAKEST.index(choice.policy))
    if len(choices) == 1:
        return weakest
    if len(set(choices)) == 1:
        return PrecisionChoice(weakest.policy, f"all {len(choices)} workers: {weakest.reason}")
    # Of equally weak workers the first is named. The order is the same on all workers.
    worker = answers[choices.index(weakest)].worker
    return PrecisionChoice(
        weakest.policy, f"{worker}, the weakest of {len(choices)}, has {weakest.reason}"
    )
