"""Which precision suits which devices, and what several workers make of their answers.

Plain arithmetic on what each worker tells: no device is asked here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

FROM_WEAKEST = ("float32", "mixed_float16", "mixed_bfloat16")
"""What "auto" can choose. A device that is right for one is right for those before it."""


@dataclass(frozen=True)
class PrecisionChoice:
    """A dtype policy, and why it is that one.

    Attributes:
        policy: The name of a `keras.DTypePolicy`, such as "mixed_bfloat16".
        reason: Half a sentence, such as "GPUs of compute capability 9.0".
    """

    policy: str
    reason: str


@dataclass(frozen=True)
class WorkerAnswer:
    """What one worker brings to the choice.

    Attributes:
        worker: The worker, such as "worker 0".
        asked: The precision its program asked for.
        kind: What its replicas stand on: "TPU", "GPU" or "CPU".
        capability: The lowest compute capability of its GPUs, as (major, minor). None where a GPU
            does not tell, and for what is no GPU.
    """

    worker: str
    asked: str
    kind: str
    capability: tuple[int, int] | None = None

    def as_words(self) -> str:
        """Returns the answer as one line of text; `from_words` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_words(cls, words: str) -> WorkerAnswer:
        """Reads what another worker's `as_words` wrote."""
        fields = json.loads(words)
        if fields["capability"] is not None:
            fields["capability"] = tuple(fields["capability"])
        return cls(**fields)


def suited_to(answer: WorkerAnswer) -> PrecisionChoice:
    """Returns the precision that is fast and safe on one worker's devices.

    Tensor cores compute in bfloat16 from compute capability 8.0 (Ampere) on and in float16 from 7.0
    (Volta) on. bfloat16 has float32's range and needs no loss scale, so it comes first.

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
        return PrecisionChoice("float32", "a GPU that does not tell its compute capability")
    reason = "GPUs of compute capability {}.{}".format(*answer.capability)
    if answer.capability >= (8, 0):
        return PrecisionChoice("mixed_bfloat16", reason)
    return PrecisionChoice("mixed_float16" if answer.capability >= (7, 0) else "float32", reason)


def agreed(answers: Sequence[WorkerAnswer]) -> PrecisionChoice:
    """Returns the one precision that all workers train in.

    Under "auto" the weakest worker decides: what its devices are right for, the others' are too.

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
            f"`precision` must be the same on all workers. Received: {said}. Pass one precision to "
            "all of them, such as 'auto'."
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
    # Among equally weak workers the first speaks; its order is the same on all of them.
    worker = answers[choices.index(weakest)].worker
    return PrecisionChoice(
        weakest.policy, f"{worker}, the weakest of {len(choices)}, has {weakest.reason}"
    )
