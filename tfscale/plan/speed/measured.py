"""What was measured for a plan of the speed, as a file of JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from strategies.extension import number, whole_number
from tfscale.plan.speed import link_law, step_law
from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.step_law import StepLaw

Kind = TypeVar("Kind")

_VERSION = 1
_LARGEST_SHARE = 1.0
_RULE = "finite and positive"


@dataclass(frozen=True)
class Steps:
    """Measured steps of one worker.

    Attributes:
        replicas: Of the worker. Positive.
        rows: Of each replica. Positive.
        seconds: Of a step, once for each turn of several steps. At least one, positive.
    """

    replicas: int
    rows: int
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        _counts(self, "replicas", "rows")
        _times(self, "seconds")


@dataclass(frozen=True)
class Reduces:
    """Measured all-reduces between workers.

    Attributes:
        workers: At least 2.
        bytes: That are added up. Positive.
        seconds: Of an all-reduce, once for each turn of several of them. At least one, positive.
        processor_seconds: That the processors of a worker were busy in the same turns.
    """

    workers: int
    bytes: int
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        _counts(self, "workers", "bytes")
        _times(self, "seconds")
        _times(self, "processor_seconds", has_zero=True)


@dataclass(frozen=True)
class SmallSteps:
    """Measured steps of a model that computes next to nothing.

    Attributes:
        workers: At least 2.
        bytes: Of its gradients. Positive.
        together: Seconds of a step of all workers, once for each turn. At least one, positive.
        alone: Seconds of a step of one worker without the others, in the same turns.
    """

    workers: int
    bytes: int
    together: tuple[float, ...]
    alone: tuple[float, ...]

    def __post_init__(self) -> None:
        _counts(self, "workers", "bytes")
        _times(self, "together")
        _times(self, "alone")


@dataclass(frozen=True)
class MeasuredSpeed:
    """What a plan of the speed is computed from.

    Attributes:
        model: "module:function".
        rows: Rows of a replica in the user's data. Positive.
        pack_bytes: Bytes of the gradients in each pack that a worker sends in a step, in order.
        parameter_bytes: Of all parameters that are trained.
        state_bytes: Of everything that a step writes: parameters, slots and statistics.
        steps: Of one worker.
        reduces: Between workers; none if it was measured without them.
        small_steps: Of workers; none if it was measured without them.
        input_rows_per_second: That a worker can read, or None if the data are in memory.
        cores: Cores of a worker's host; None if replicas are on accelerators.
        environment: Versions and machine, to read only.

    Raises:
        ValueError: If a number is out of range, as in a file that was changed.
    """

    model: str
    rows: int
    pack_bytes: tuple[int, ...]
    parameter_bytes: int
    state_bytes: int
    steps: tuple[Steps, ...]
    reduces: tuple[Reduces, ...]
    small_steps: tuple[SmallSteps, ...]
    input_rows_per_second: float | None
    cores: int | None
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        _counts(self, "rows")
        _counts(self, "parameter_bytes", "state_bytes", at_least=0)
        for size in self.pack_bytes:
            whole_number("pack_bytes", size, at_least=0)
        if self.cores is not None:
            _counts(self, "cores")
        if self.input_rows_per_second is not None:
            number("input_rows_per_second", self.input_rows_per_second, _RULE, _is_positive)
        self.step_law()  # at least two numbers of rows

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients, as they travel."""
        return sum(self.pack_bytes)

    def step_law(self) -> StepLaw:
        """Fits the law of a worker's steps."""
        return step_law.fitted(
            {(each.replicas, each.rows): each.seconds for each in self.steps}, self.cores
        )

    def link_law(self) -> LinkLaw | None:
        """Fits the law of all-reduces, or returns None if none was measured.

        Of several numbers of workers the largest counts.
        """
        if not self.reduces:
            return None
        workers = max(each.workers for each in self.reduces)
        own = [each for each in self.reduces if each.workers == workers]
        largest = max(own, key=lambda each: each.bytes)
        busy = statistics.median(largest.processor_seconds) / statistics.median(largest.seconds)
        return link_law.fitted(
            {each.bytes: statistics.median(each.seconds) for each in own},
            workers,
            more_of_steps={
                each.bytes: statistics.median(each.together) - statistics.median(each.alone)
                for each in self.small_steps
                if each.workers == workers
            },
            # More than this host has cannot be busy.
            host_share=min(_LARGEST_SHARE, busy / self.cores) if self.cores else 0.0,
        )

    def write(self, path: Path) -> None:
        """Writes the file that `read` reads.

        Raises:
            OSError: If it cannot be written.
        """
        from tfscale.files.output_files import write_whole

        write_whole(path, json.dumps({"version": _VERSION, **asdict(self)}, indent=1) + "\n")

    @staticmethod
    def read(path: Path) -> MeasuredSpeed:
        """Reads a file that `write` has written.

        Raises:
            ValueError: If it is another file.
            OSError: If it cannot be read.
        """
        try:
            values: Any = json.loads(path.read_text("utf-8"))
            if values.pop("version") != _VERSION:
                raise ValueError("of another version")
            return MeasuredSpeed(
                **{
                    **values,
                    "pack_bytes": tuple(values["pack_bytes"]),
                    "steps": _each(Steps, values["steps"]),
                    "reduces": _each(Reduces, values["reduces"]),
                    "small_steps": _each(SmallSteps, values["small_steps"]),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"`measured` must be a file that `tfscale plan --what=speed --write_measured="
                f"FILE` wrote. Received: {str(path)!r} ({str(error) or type(error).__name__}). "
                "Measure it again."
            ) from error


def _each(kind: type[Kind], values: Sequence[Mapping[str, Any]]) -> tuple[Kind, ...]:
    """Returns what JSON has as dicts, with tuples for lists."""
    return tuple(
        kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in each.items()})
        for each in values
    )


def _counts(values: object, *names: str, at_least: int = 1) -> None:
    for name in names:
        whole_number(name, getattr(values, name), at_least=at_least)


def _times(values: object, name: str, *, has_zero: bool = False) -> None:
    times = getattr(values, name)
    if not times:
        raise ValueError(f"`{name}` must be at least one time. Received: none. Measure it again.")
    for seconds in times:
        if has_zero:
            number(name, seconds, "finite and at least 0", lambda value: value >= 0)
        else:
            number(name, seconds, _RULE, _is_positive)


def _is_positive(value: float) -> bool:
    return value > 0
