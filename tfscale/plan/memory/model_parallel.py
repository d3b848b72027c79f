"""How the devices of a replica can divide a model: the choices of a plan, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from strategies.extension import SCHEDULES, bubble_by_formula, one_of, whole_number
from tfscale.parallel.stage_cuts import check_schedule

Value = TypeVar("Value")

DEFAULT_SCHEDULE = "1f1b"


@dataclass(frozen=True)
class Division:
    """How the devices of each replica divide a model.

    Attributes:
        pipeline_stages: Devices that compute some of the layers each.
        pipeline_schedule: In which order, or "" without stages.
        pipeline_virtual_stages: Runs of layers on each device.
        tensor_parallel: Devices that compute with parts of the matrices each.
    """

    pipeline_stages: int = 1
    pipeline_schedule: str = ""
    pipeline_virtual_stages: int = 1
    tensor_parallel: int = 1

    @property
    def devices(self) -> int:
        """Devices of a replica."""
        return self.pipeline_stages * self.tensor_parallel

    @property
    def runs(self) -> int:
        """Runs of layers of the model."""
        return self.pipeline_stages * self.pipeline_virtual_stages

    def bubble(self, microbatches: int) -> float:
        """Returns the part of a step that devices wait, if all runs of layers cost the same."""
        return bubble_by_formula(self.pipeline_stages, microbatches, self.pipeline_virtual_stages)

    def microbatches(self, tried: Sequence[int], *, are_asked_for: bool) -> list[int]:
        """Returns the numbers of microbatches to plan for.

        Args:
            tried: Numbers.
            are_asked_for: Whether one that is impossible is refused; otherwise it is left out.

        Raises:
            ValueError: If one is, or none is left.
        """
        stages, virtual = self.pipeline_stages, self.pipeline_virtual_stages
        schedule = self.pipeline_schedule
        possible = [each for each in tried if schedule != "interleaved" or not each % stages]
        for each in tried if are_asked_for or not possible else ():
            check_schedule(schedule, stages, each, virtual)
        return possible


def at_least_one(name: str, values: Iterable[Value]) -> list[Value]:
    """Returns what an argument names, each once.

    Args:
        name: Of the argument.
        values: Checked one by one.

    Raises:
        ValueError: If there are none.
    """
    found = list(dict.fromkeys(values))
    if not found:
        raise ValueError(f"`{name}` must name at least one. Received: none. Leave it out.")
    return found


def divisions(
    pipeline_stages: Iterable[int],
    pipeline_schedule: Iterable[str] | None,
    pipeline_virtual_stages: int,
    tensor_parallel: Iterable[int],
) -> list[Division]:
    """Returns every division to plan for; see `memory_plan`.

    Raises:
        ValueError: If an argument is out of range, or they contradict each other.

    Example:
        >>> [each.devices for each in divisions([1, 2], None, 1, [1, 4])]
        [1, 2, 4]
    """
    stages = _numbers("pipeline_stages", pipeline_stages)
    tensors = _numbers("tensor_parallel", tensor_parallel)
    virtual = whole_number(
        "pipeline_virtual_stages", pipeline_virtual_stages, cure="1 is one run each."
    )
    given = [DEFAULT_SCHEDULE] if pipeline_schedule is None else pipeline_schedule
    schedules = at_least_one(
        "pipeline_schedule", (one_of("pipeline_schedule", each, SCHEDULES) for each in given)
    )
    if max(stages) == 1 and (pipeline_schedule is not None or virtual > 1):
        raise ValueError(
            "`pipeline_stages` must be more than 1 to choose a schedule. Received: "
            f"pipeline_schedule={', '.join(schedules)}, pipeline_virtual_stages={virtual}, "
            "pipeline_stages=1. Pass pipeline_stages=2, or leave them out."
        )
    if max(stages) > 1 and max(tensors) > 1 and not (1 in stages and 1 in tensors):
        raise ValueError(
            "`pipeline_stages` must be 1 with `tensor_parallel`, which gives the devices of a "
            f"replica other work. Received: pipeline_stages={_shown(stages)}, tensor_parallel="
            f"{_shown(tensors)}. Choose one of the two; to compare them, name 1 in both."
        )
    if "interleaved" not in schedules and max(stages) > 1:
        check_schedule(schedules[0], max(stages), 1, virtual)
    found = [Division()] if 1 in stages and 1 in tensors else []
    for count in stages:
        for schedule in schedules if count > 1 else ():
            runs = virtual if schedule == "interleaved" else 1
            found.append(Division(count, schedule, runs))
    return found + [Division(tensor_parallel=count) for count in tensors if count > 1]


def check_replication(division: Division, workers: int, shards: Sequence[int]) -> None:
    """Checks that replicas with such devices can be trained.

    Args:
        division: The devices of a replica.
        workers: Processes.
        shards: What replicas divide.

    Raises:
        ValueError: If they cannot.
    """
    if division.devices == 1:
        return
    name = "pipeline_stages" if division.pipeline_stages > 1 else "tensor_parallel"
    if workers > 1:
        raise ValueError(
            f"`workers` must be 1 with {name}, because the devices of a replica belong to one "
            f"process. Received: workers={workers}, {name}={division.devices}. Leave one of them "
            "out."
        )
    if name == "tensor_parallel" and any(shards):
        raise ValueError(
            "`shard` must be 0 with tensor_parallel, which divides matrices itself. Received: "
            f"shard={_shown(shards)}, tensor_parallel={division.devices}. Leave one of them out."
        )


def _numbers(name: str, values: Iterable[int]) -> list[int]:
    return at_least_one(name, (whole_number(name, v, cure="1 is one device.") for v in values))


def _shown(values: Iterable[int]) -> str:
    return ",".join(map(str, values))
