"""Measures what a plan of the speed is computed from: steps, all-reduces, input."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.extension import Deadline, cluster_from_environment, number, whole_number
from tfscale.plan.speed.child import MeasurementFailed, measured_in_child
from tfscale.plan.speed.measured import MeasuredSpeed, Reduces, SmallSteps, Steps

_TURNS = 5
_TURN_SECONDS = 0.3
_REDUCE_TURNS = 5
_LARGE_STEP = 2**21  # bytes; on a slow link larger ones take long
_START_SECONDS = 60.0
SIZES = (2**12, 2**16, 2**18, 2**20, 2**22, 2**23, 2**24)
"""Bytes of all-reduces: up to a pack of 16 MiB, the largest that workers send."""


def measure_speed(
    target: str,
    *,
    rows: Sequence[int] | None = None,
    replicas: Sequence[int] = (1, 2),
    sizes: Sequence[int] = SIZES,
    seconds: float = 180.0,
    say: Callable[[str], None] = lambda line: None,
) -> MeasuredSpeed | None:
    """Measures a model on this host, and the all-reduce if this is a worker of a cluster.

    Each part is measured in a process of its own. On an idle host it takes less than a minute.
    Under `tfscale launch` every worker measures at the same time, so that workers of one host share
    its cores as in training. The file and the plan have the times of the chief.

    Args:
        target: "module:function"; the function returns a compiled model and its data.
        rows: Rows of a replica to measure, at least two. None for a half, all and twice of a batch
            of the data.
        replicas: Replicas of this worker to measure. The first must be 1. On GPUs as far as there
            are some.
        sizes: Bytes of all-reduces, at least two.
        seconds: Deadline of everything.
        say: Called with each line of progress.

    Returns:
        What was measured; None on workers other than the chief.

    Raises:
        ValueError: If an argument cannot be measured.
        tfscale.verify.user_model.WrongUsage: If the function does not return what it should.
        MeasurementFailed: If a step or an all-reduce fails, or the deadline passes.

    Example:
        >>> try:
        ...     measure_speed("mine:build", rows=[8])  # a line needs two points
        ... except ValueError as error:
        ...     print(str(error)[:48])
        `rows` must be at least two different numbers of
    """
    _check("rows", "rows", (1, 2) if rows is None else rows, smallest=1)
    _check("sizes", "bytes", sizes, smallest=4)
    number("seconds", seconds, "positive", lambda value: value > 0)
    if list(replicas[:1]) != [1]:
        raise ValueError(
            f"`replicas` must begin with 1. Received: replicas={replicas!r}. Others may follow."
        )
    cluster = cluster_from_environment()
    deadline = Deadline(seconds)
    has_workers = cluster is not None and len(cluster.jobs.get("worker", ())) > 1
    steps: list[Steps] = []
    for count in replicas:
        say(f"steps of {count} replica{'s' if count > 1 else ''}")
        outcome = _steps(target, count, rows, deadline)
        if count == 1:
            first = outcome
        steps += [Steps(count, int(size), tuple(of)) for size, of in outcome["seconds"].items()]
        there = outcome["accelerators"]
        if there == count or (has_workers and not there):
            break  # no further accelerator; a worker has one replica on CPUs
    link = _Link()
    if has_workers:
        say(f"all-reduces of {len(sizes)} sizes up to {max(sizes) / 2**20:g} MiB")
        link = _link(sizes, deadline)
    if not link.is_chief:
        return None
    return MeasuredSpeed(
        model=target,
        rows=first["rows"],
        pack_bytes=tuple(first["pack_bytes"]),
        parameter_bytes=first["parameter_bytes"],
        state_bytes=first["state_bytes"],
        steps=tuple(steps),
        reduces=link.reduces,
        small_steps=link.small_steps,
        input_rows_per_second=first["input_rows_per_second"],
        cores=None if first["accelerators"] else first["cores"],
        environment={
            "host": platform.node(),
            "processor": platform.machine(),
            "tensorflow": first["tensorflow"],
        },
    )


@dataclass(frozen=True)
class _Link:
    """What was measured between workers."""

    is_chief: bool = True
    reduces: tuple[Reduces, ...] = ()
    small_steps: tuple[SmallSteps, ...] = ()


def _steps(
    target: str, replicas: int, rows: Sequence[int] | None, deadline: Deadline
) -> dict[str, Any]:
    request = {
        "target": target,
        "replicas": replicas,
        "rows": None if rows is None else sorted(rows),
        "turns": _TURNS,
        "turn_seconds": _TURN_SECONDS,
        "has_input": replicas == 1,
    }
    return _in_child("step", request, deadline, has_cluster=False)


def _link(sizes: Sequence[int], deadline: Deadline) -> _Link:
    request = {
        "bytes": list(sizes),
        "small_bytes": [min(sizes), min(_LARGE_STEP, max(sizes))],
        "turns": _REDUCE_TURNS,
        "start_seconds": _START_SECONDS,
    }
    found = _in_child("reduce", request, deadline, has_cluster=True)
    workers = found["workers"]
    return _Link(
        is_chief=found["is_chief"],
        reduces=tuple(
            Reduces(workers, int(size), tuple(of["seconds"]), tuple(of["processor_seconds"]))
            for size, of in found["reduces"].items()
        ),
        small_steps=tuple(
            SmallSteps(workers, int(size), tuple(of["together"]), tuple(of["alone"]))
            for size, of in found["small_steps"].items()
        ),
    )


def _check(name: str, unit: str, values: Sequence[int], *, smallest: int) -> None:
    for value in values:
        whole_number(name, value, at_least=smallest)
    if len(set(values)) < 2:
        raise ValueError(
            f"`{name}` must be at least two different numbers of {unit}. Received: "
            f"{name}={values!r}. Add another one."
        )


def _in_child(
    name: str, request: dict[str, Any], deadline: Deadline, *, has_cluster: bool
) -> dict[str, Any]:
    try:
        return measured_in_child(
            f"tfscale.plan.speed.{name}_probe",
            request,
            seconds=max(1.0, deadline.left()),
            has_cluster=has_cluster,
        )
    except MeasurementFailed as error:
        raise MeasurementFailed(f"measuring a {name}: {error}") from error
