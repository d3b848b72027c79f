"""The order in which each device of a pipeline computes: whose forward or backward pass is next.

A model is cut into chunks 0 to C - 1, of consecutive layers; device s of S has chunks s, s + S,
s + 2S and so on, V = C / S of them ("virtual stages"). A unit is the forward or backward pass of
one chunk for one microbatch. With M microbatches and equal chunks, of 2 M V units a device waits
while the pipeline fills and drains:

    schedule      part of the time that a device waits      microbatches in memory, device s
    gpipe         (S - 1) / (M + S - 1)                     M
    1f1b          (S - 1) / (M + S - 1)                     min(M, S - s)
    interleaved   (S - 1) / (V M + S - 1)                   about S (1 + (V - 1) / V), not M

"gpipe" is all forward passes, then all backward passes. "1f1b" begins with as many forward passes
as there are devices behind, then alternates. "interleaved" does so too, and goes through its chunks
in groups of S microbatches; so M must be a multiple of S.

Sources: Huang et al. 2019, "GPipe", arXiv:1811.06965, section 2.3. Narayanan et al. 2019,
"PipeDream", arXiv:1806.03377 (one forward, one backward). Narayanan et al. 2021, "Efficient
Large-Scale Language Model Training on GPU Clusters", arXiv:2104.04473, sections 2.2.1 and 2.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SCHEDULES = ("gpipe", "1f1b", "interleaved")
"""The names of the orders that this module knows."""


@dataclass(frozen=True)
class Unit:
    """The pass of one chunk for one microbatch.

    Attributes:
        is_forward: Whether it is the forward pass.
        chunk: Of the model, from 0.
        microbatch: From 0.
    """

    is_forward: bool
    chunk: int
    microbatch: int


def device_orders(
    schedule: str, stages: int, microbatches: int, virtual_stages: int = 1
) -> list[list[Unit]]:
    """Returns what each device computes, in order.

    Args:
        schedule: One of `SCHEDULES`.
        stages: Devices of a replica. Positive.
        microbatches: Of a replica batch. Positive; for "interleaved" a multiple of `stages`.
        virtual_stages: Chunks of a device. Positive; 1 unless the schedule is "interleaved".
    """
    if schedule == "interleaved":
        return [
            _interleaved(device, stages, microbatches, virtual_stages) for device in range(stages)
        ]
    return [
        _alternating(
            [Unit(True, device, m) for m in range(microbatches)],
            [Unit(False, device, m) for m in range(microbatches)],
            microbatches if schedule == "gpipe" else min(microbatches, stages - device - 1),
        )
        for device in range(stages)
    ]


def _interleaved(device: int, stages: int, microbatches: int, virtual_stages: int) -> list[Unit]:
    total = microbatches * virtual_stages

    def place(k: int) -> tuple[int, int]:
        group, within = divmod(k, stages * virtual_stages)
        return within // stages, group * stages + within % stages

    forward, backward = [], []
    for k in range(total):
        chunk, microbatch = place(k)
        forward.append(Unit(True, chunk * stages + device, microbatch))
        backward.append(Unit(False, (virtual_stages - 1 - chunk) * stages + device, microbatch))
    warm_up = (stages - device - 1) * 2 + (virtual_stages - 1) * stages
    return _alternating(forward, backward, total if microbatches == stages else min(total, warm_up))


def _alternating(forward: Sequence[Unit], backward: Sequence[Unit], warm_up: int) -> list[Unit]:
    """First `warm_up` forward passes; then one forward and one backward; then what is left."""
    order = list(forward[:warm_up])
    for next_forward, next_backward in zip(forward[warm_up:], backward, strict=False):
        order += [next_forward, next_backward]
    return order + list(backward[len(forward) - warm_up :])


def needed_before(unit: Unit, chunks: int) -> Unit | None:
    """Returns the unit whose result `unit` continues from; None for the first chunk's forward."""
    if unit.is_forward:
        return Unit(True, unit.chunk - 1, unit.microbatch) if unit.chunk else None
    if unit.chunk == chunks - 1:
        return Unit(True, unit.chunk, unit.microbatch)
    return Unit(False, unit.chunk + 1, unit.microbatch)


@dataclass(frozen=True)
class Timeline:
    """When each unit runs, if nothing else takes time.

    Attributes:
        begins: By unit.
        ends: By unit.
        orders: By device, its units in order.
    """

    begins: dict[Unit, float]
    ends: dict[Unit, float]
    orders: list[list[Unit]]

    @property
    def makespan(self) -> float:
        """When the last unit ends."""
        return max(self.ends.values())

    @property
    def bubble(self) -> float:
        """The part of the time that devices wait, from 0 to 1."""
        busy = sum(self.ends[unit] - self.begins[unit] for unit in self.begins)
        return 1 - busy / (self.makespan * len(self.orders))

    def in_order_of_begin(self) -> list[Unit]:
        """Returns all units so that each comes after those that it needs."""
        places = {unit: i for order in self.orders for i, unit in enumerate(order)}
        return sorted(self.begins, key=lambda u: (self.ends[u], self.begins[u], places[u]))


def timeline(
    orders: Sequence[Sequence[Unit]], duration: Callable[[Unit], float] = lambda _: 1
) -> Timeline:
    """Simulates a schedule.

    Args:
        orders: By device, its units in order.
        duration: How long a unit takes. Positive.

    Raises:
        ValueError: If the devices would wait for each other forever.
    """
    chunks = 1 + max(unit.chunk for order in orders for unit in order)
    begins: dict[Unit, float] = {}
    ends: dict[Unit, float] = {}
    done = [0] * len(orders)
    while True:
        moved = False
        for device, order in enumerate(orders):
            while done[device] < len(order):
                unit = order[done[device]]
                needed = needed_before(unit, chunks)
                if needed is not None and needed not in ends:
                    break
                free = ends[order[done[device] - 1]] if done[device] else 0
                begins[unit] = max(free, ends[needed] if needed is not None else 0)
                ends[unit] = begins[unit] + duration(unit)
                done[device] += 1
                moved = True
        if not moved:
            break
    waiting = [order[at] for order, at in zip(orders, done, strict=True) if at < len(order)]
    if waiting:
        raise ValueError(f"The devices of this schedule wait for each other: {waiting}.")
    return Timeline(begins, ends, [list(order) for order in orders])


def bubble_by_formula(stages: int, microbatches: int, virtual_stages: int = 1) -> float:
    """Returns the part of the time that devices wait, with equal chunks: see this module."""
    return (stages - 1) / (virtual_stages * microbatches + stages - 1)


def most_in_memory(order: Sequence[Unit]) -> int:
    """Returns the most passes of a device that have run forward and not yet backward."""
    now = most = 0
    for unit in order:
        now += 1 if unit.is_forward else -1
        most = max(most, now)
    return most
