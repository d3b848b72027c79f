"""Resumed bit for bit: trainings that are killed repeatedly, compared with uninterrupted ones."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.interruption import STEP, VALIDATION, Interruption, drawn
from tests.faults.notes import differences, first_batch, rows_noted
from tests.faults.traces import end_all, marked
from tests.faults.training import EVERY, KINDS, MIRRORED, ONE_DEVICE, WORKERS, Training
from tests.programs import started

PRECISIONS = ("float32", "mixed_float16")
STEPS, VALIDATIONS = 14, 3
"""With one at each moment of a save, each training has 20 interruptions."""
ROUNDING = 1e-9
CHAIN_SECONDS = 3600.0
LOST = 2 * EVERY
"""Most steps to lose: a checkpoint is written while training goes on, up to the next one."""


@dataclass(frozen=True)
class Chain:
    """One training, interrupted repeatedly.

    Attributes:
        name: For `--only`.
        kinds: Topologies of its attempts, in turn; with a single one, the bits must be the same.
        precision: Name of a dtype policy.
        interruptions: When it is killed, in order.
    """

    name: str
    kinds: tuple[str, ...]
    precision: str
    interruptions: tuple[Interruption, ...]

    @property
    def is_mixed(self) -> bool:
        """Whether the topology changes, so that results are equal to rounding only."""
        return len(self.kinds) > 1

    def plan(self, folder: Path) -> list[Training]:
        """Returns the training without interruption, and the attempts of the interrupted one."""
        training = Training(
            self.kinds[0],
            str(folder / "interrupted"),
            precision=self.precision,
            # The random numbers of replicas depend on how many there are.
            dropout=0.0 if self.is_mixed else Training.dropout,
        )
        attempts = [
            dataclasses.replace(
                training,
                kind=self.kinds[attempt % len(self.kinds)],
                interruption=str(interruption or ""),
                attempt=attempt,
            )
            for attempt, interruption in enumerate([*self.interruptions, None])
        ]
        return [dataclasses.replace(training, folder=str(folder / "control")), *attempts]


@dataclass(frozen=True)
class Resumed:
    """The result of a chain.

    Attributes:
        chain: The chain.
        trouble: What is wrong, in words.
        lost: Most steps that an interruption cost.
    """

    chain: Chain
    trouble: list[str]
    lost: int

    @property
    def line(self) -> str:
        """A line of the table."""
        chain = self.chain
        moments = [interruption.moment for interruption in chain.interruptions]
        steps, validations = moments.count(STEP), moments.count(VALIDATION)
        saves = len(moments) - steps - validations
        kinds = ", ".join(KINDS[kind] for kind in chain.kinds)
        kinds = f"in turn {kinds}" if chain.is_mixed else kinds
        right = f"equal to {ROUNDING:g}" if chain.is_mixed else "the same bits"
        says = "; ".join(self.trouble) or right
        numbers = f"{steps} in steps, {validations} in validations, {saves} in saves"
        return f"| {kinds}, {chain.precision} | {numbers} | {self.lost} | {says} |"


def chains(steps: int = STEPS, validations: int = VALIDATIONS) -> list[Chain]:
    """Returns all chains, with these numbers of interruptions and one at each moment of a save."""

    def times(seed: int) -> tuple[Interruption, ...]:
        return tuple(drawn(seed, steps, validations, Training.epochs))

    found = [
        Chain(f"resume {KINDS[kind]} {precision}", (kind,), precision, times(seed))
        for seed, (kind, precision) in enumerate(
            (kind, precision) for kind in KINDS for precision in PRECISIONS
        )
    ]
    turns = (ONE_DEVICE, MIRRORED, WORKERS)
    return [*found, Chain("resume elsewhere float64", turns, "float64", times(len(found)))]


def run(chain: Chain, folder: Path) -> Resumed:
    """Runs a chain; its deadline is an hour."""
    plan = chain.plan(folder)
    trouble = _trouble(_written(plan, folder))
    return Resumed(chain, [trouble], 0) if trouble else judged(chain, plan)


def train(trainings: Sequence[Training], folder: Path) -> None:
    """Runs trainings to their ends, one after another.

    Args:
        trainings: Each with a separate folder.
        folder: For the plan.

    Raises:
        OSError: If one fails.
    """
    trouble = _trouble(_written(trainings, folder))
    if trouble:
        raise OSError(f"An undisturbed training must succeed. Received: {trouble}.")


def _written(plan: Sequence[Training], folder: Path) -> Path:
    file = folder / "plan"
    file.write_text("".join(training.to_json() + "\n" for training in plan), "utf-8")
    return file


def _trouble(plan: Path) -> str:
    """Runs a plan; returns what went wrong, or ""."""
    mark = str(plan)
    process = started("-m", "tests.faults.chain", mark, **marked(mark))
    try:
        output, _ = process.communicate(timeout=CHAIN_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it took more than {CHAIN_SECONDS:g} s"
    finally:
        end_all(mark)
    last = (output.splitlines() or ["no output"])[-1]
    return "" if process.returncode == 0 else last


def judged(chain: Chain, plan: Sequence[Training]) -> Resumed:
    """Compares a chain with its control, and counts the lost steps."""
    control, *attempts = plan
    trouble = differences(attempts, control, ROUNDING if chain.is_mixed else 0.0)
    lost = 0
    for attempt, following in itertools.pairwise(attempts):
        done = max(rows_noted(attempt), default=first_batch(attempt) or 0)
        lost = max(lost, done - (first_batch(following) or 0))
    if lost > LOST:
        trouble.append(f"{lost} steps lost, at most {LOST} are right")
    return Resumed(chain, trouble, lost)
