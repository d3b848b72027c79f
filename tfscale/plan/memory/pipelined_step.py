"""A step of a pipeline: the units of all microbatches, from those of one that was traced.

The traced step has one microbatch, and is cut wherever it can be (see
`traced_model.TracedModel.cut`). Here neighbours of these pieces are joined to the runs of layers of
a pipeline, and each unit, the forward or backward pass of a run, is repeated for all microbatches
in the order of a schedule. As in `strategies.keras_support.pipeline.pipeline_step`, a unit begins
when the one before it on its device is done, and each run adds up the gradients of its weights.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strategies.extension import device_orders, timeline
from tfscale.plan.memory.growing_step import GrowingStep
from tfscale.plan.memory.liveness import (
    GRADIENT,
    MAY_REUSE,
    NOT_COUNTED,
    SHARES,
    Operation,
)
from tfscale.plan.memory.step_graph import BACKWARD, FORWARD, Gradient, StepGraph


@dataclass(frozen=True)
class Staging:
    """How a model is computed in stages.

    Attributes:
        stages: Devices of a replica.
        schedule: One of `SCHEDULES`.
        virtual_stages: Runs of layers on each device.
        begins: By run but the first, the piece of the trace with which it begins.
    """

    stages: int
    schedule: str
    virtual_stages: int
    begins: tuple[int, ...]

    def run_of(self, piece: int) -> int:
        """Returns the run of layers that a piece is in."""
        return bisect.bisect_right(self.begins, piece)

    def stage_of(self, piece: int) -> int:
        """Returns the device of a replica that computes a piece."""
        return self.run_of(piece) % self.stages


def pipelined(step: StepGraph, staging: Staging, microbatches: int) -> StepGraph:
    """Returns the step of a replica batch.

    Args:
        step: A traced step of one microbatch, whose operations are on the devices of their pieces.
        staging: The stages.
        microbatches: Positive.
    """
    return _Expansion(step, staging, microbatches).made()


Key = tuple[bool, int]
"""Whether it is a forward pass, and the number of the run."""


class _Expansion(GrowingStep):
    """The step of a replica batch, which grows."""

    def __init__(self, step: StepGraph, staging: Staging, microbatches: int) -> None:
        super().__init__((), step.tensors, ())
        self._step, self._staging, self._count = step, staging, microbatches
        self._only_shapes: set[int] = set()
        self._reads = dict(step.reads)
        self._units: list[Key | None] = [
            None if unit is None else (unit[0], staging.run_of(unit[1])) for unit in step.units
        ]
        self._makers = {t: i for i, each in enumerate(step.operations) for t in each.outputs}
        self._members: defaultdict[Key, list[int]] = defaultdict(list)
        for place, unit in enumerate(self._units):
            if unit is not None:
                self._members[unit].append(place)
        self._results = self._found_results()
        self._slices = self._parts_of_batch()
        # For each microbatch: operations and tensors of this step by those of the traced one.
        self._places: list[dict[int, int]] = [{} for _ in range(microbatches)]
        self._made: list[dict[int, int]] = [{} for _ in range(microbatches)]
        self._outside: dict[int, int] = {}
        self._totals: dict[tuple[int, ...], list[int]] = defaultdict(list)
        self._ends: dict[int, int] = {}  # by device, the end of its newest unit
        self._sums = self._found_sums()

    def made(self) -> StepGraph:
        """Returns the step."""
        staging, first = self._staging, self._members[True, 0][0]
        for place in range(first):
            self._copy(place, 0)
        orders = device_orders(
            staging.schedule, staging.stages, self._count, staging.virtual_stages
        )
        for unit in timeline(orders).in_order_of_begin():
            self._unit((unit.is_forward, unit.chunk), unit.microbatch)
        replaced = self._finish_sums()
        for place in range(first, len(self._units)):
            if self._units[place] is None:
                self._copy(place, self._count - 1, replaced)
        return dataclasses.replace(
            self._step,
            operations=tuple(self.operations),
            tensors=tuple(self.tensors),
            phases=tuple(self.phases),
            gradients=tuple(
                dataclasses.replace(
                    each,
                    tensors=tuple(replaced.get(t, self._of_last(t)) for t in each.tensors),
                    travels=each.travels * (self._count if each.is_sparse else 1),
                )
                for each in self._step.gradients
            ),
            reads=self._reads,
            only_shapes=frozenset(self._only_shapes),
            flops=self._step.flops * self._count,
            units=(None,) * len(self.operations),
        )

    def _found_results(self) -> dict[Key, list[int]]:
        """Returns the operations whose results other units read, by unit."""
        found: dict[Key, dict[int, None]] = defaultdict(dict)
        last = max(run for _, run in self._members)
        for place, operation in enumerate(self._step.operations):
            unit = self._units[place]
            for tensor in operation.inputs:
                maker = self._units[self._makers[tensor]]
                if unit is None or maker is None or unit == maker:
                    continue
                if unit[1] != maker[1] or unit[1] == last:
                    found[maker][self._makers[tensor]] = None
        return {unit: list(places) for unit, places in found.items()}

    def _parts_of_batch(self) -> set[int]:
        """Returns what the batch consists of, as far as units read it."""
        read = {t for places in self._members.values() for p in places for t in self._inputs(p)}
        return {
            t
            for t in read
            if self._units[self._makers[t]] is None
            and not self._step.operations[self._makers[t]].inputs
            and self.tensors[t].kind == NOT_COUNTED
            and self.tensors[t].bytes
        }

    def _inputs(self, place: int) -> tuple[int, ...]:
        return self._step.operations[place].inputs

    def _found_sums(self) -> dict[Key, list[_Sum]]:
        """Returns, by unit, the gradients that it adds to sums."""
        found: dict[Key, dict[tuple[int, bool], list[int]]] = defaultdict(dict)
        seen: set[int] = set()
        for gradient in self._step.gradients:
            size = self.tensors[gradient.tensors[0]].bytes
            for tensor in self._from_units(gradient, seen):
                unit = self._units[self._makers[tensor]]
                assert unit is not None
                wide = (size, 2 * size)  # half precision is added up in float32
                is_dense = not gradient.is_sparse and self.tensors[tensor].bytes in wide
                # Rows of lookups are listed one behind the other; others are added up.
                key = (gradient.parameter, True) if is_dense else (tensor, False)
                found[unit].setdefault(key, []).append(tensor)
        return {
            unit: [_Sum(tuple(tensors), is_dense) for (_, is_dense), tensors in sums.items()]
            for unit, sums in found.items()
        }

    def _from_units(self, gradient: Gradient, seen: set[int]) -> Iterable[int]:
        """Yields the tensors of units that a gradient is computed from, after the last unit."""
        left = list(gradient.tensors)
        while left:
            tensor = left.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            place = self._makers[tensor]
            if self._units[place] is not None:
                yield tensor
            else:
                left += self._inputs(place)

    def _unit(self, key: Key, microbatch: int) -> None:
        """Adds a unit: after the one before it on its device, and with its sums."""
        stage = key[1] % self._staging.stages
        waits = [self._ends[stage]] if stage in self._ends else []
        phase = FORWARD if key[0] else BACKWARD
        if key == (True, 0) and self._count > 1:
            for tensor in sorted(self._slices):
                given = self.tensors[tensor]
                (self._made[microbatch][tensor],) = self.add(
                    phase, (tensor,), [(given.bytes, given.kind)], SHARES, waits
                )
        for place in self._members.get(key, ()):
            self._copy(place, microbatch, waits=waits)
        places = self._places[microbatch]
        done = [places[p] for p in self._results.get(key, self._members.get(key, ()))]
        for each in self._sums.get(key, ()):
            done.append(self._add_to(each, microbatch))
        last = Operation(memory=SHARES, waits_for=tuple(done or waits), device=stage)
        self._ends[stage] = self.put(phase, last)

    def _add_to(self, each: _Sum, microbatch: int) -> int:
        """Adds the gradients of one microbatch to their sum. Returns the last operation."""
        terms = [self._made[microbatch][tensor] for tensor in each.tensors]
        totals = self._totals[each.tensors]
        if not each.is_dense:
            totals += terms
            return self._places[microbatch][self._makers[each.tensors[0]]]
        terms += totals
        size = max(self.tensors[tensor].bytes for tensor in terms)
        totals[:] = self.add(BACKWARD, terms, [(size, GRADIENT)], MAY_REUSE)
        return len(self.operations) - 1

    def _finish_sums(self) -> dict[int, int]:
        """Returns what stands for the gradients of one microbatch after the last unit."""
        found: dict[int, int] = {}
        for each in itertools.chain(*self._sums.values()):
            totals = self._totals[each.tensors]
            found[each.tensors[0]] = totals[0]
            if len(totals) > 1:
                size = sum(self.tensors[tensor].bytes for tensor in totals)
                rows = [(size, self.tensors[totals[0]].kind)]
                (found[each.tensors[0]],) = self.add(BACKWARD, totals, rows)
            for other in each.tensors[1:]:  # are in the sum
                device = self.device_of(totals[0])
                (found[other],) = self.add(BACKWARD, (), [(0, NOT_COUNTED)], SHARES, device=device)
        return found

    def _copy(
        self,
        place: int,
        microbatch: int,
        replaced: dict[int, int] | None = None,
        waits: Sequence[int] = (),
    ) -> None:
        """Adds an operation of the trace, for one microbatch if it is in a unit."""
        operation, unit = self._step.operations[place], self._units[place]
        places, made = self._places[microbatch], self._made[microbatch]
        earlier = [
            places[other] if self._units[other] is not None else self._outside[other]
            for other in operation.waits_for
        ]
        inputs = [
            made[tensor]
            if unit is not None and tensor in made
            else (replaced or {}).get(tensor, self._of_last(tensor))
            for tensor in operation.inputs
        ]
        if unit is None:
            outputs = operation.outputs
            self._outside[place] = len(self.operations)
        else:
            begins = all(self._units[self._makers[t]] != unit for t in operation.inputs)
            if begins and all(self._units[other] != unit for other in operation.waits_for):
                earlier += waits
            outputs = tuple(self._another(tensor, microbatch) for tensor in operation.outputs)
            places[place] = len(self.operations)
        if place in self._step.only_shapes:
            self._only_shapes.add(len(self.operations))
        copied = dataclasses.replace(
            operation,
            inputs=tuple(inputs),
            outputs=outputs,
            waits_for=tuple(earlier),
            device=self._staging.stage_of(operation.device),
        )
        self.put(self._step.phases[place], copied)

    def _of_last(self, tensor: int) -> int:
        """Returns the tensor of the last microbatch, or one that all have."""
        is_made = self._units[self._makers[tensor]] is not None
        return self._made[-1][tensor] if is_made else tensor

    def _another(self, tensor: int, microbatch: int) -> int:
        """Returns a microbatch's own tensor in place of the traced one."""
        number = len(self.tensors)
        self.tensors.append(self.tensors[tensor])
        if tensor in self._step.reads:
            self._reads[number] = self._step.reads[tensor]
        self._made[microbatch][tensor] = number
        return number


@dataclass(frozen=True)
class _Sum:
    """Gradients of one parameter that a unit makes.

    Attributes:
        tensors: Of the traced step.
        is_dense: Whether microbatches add them up; else their rows are put together.
    """

    tensors: tuple[int, ...]
    is_dense: bool
