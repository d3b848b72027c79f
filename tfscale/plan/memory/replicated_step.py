"""A step of one replica of several: what they gather, reduce and divide is added to its operations.

The traced step is that of a replica alone. With others,

- gradients are reduced, with workers in packs of 16 MiB of which one travels while the next is
  made (`strategies.keras_support.context.packs`);
- with shard 1 to 3 the optimizer reads and makes parts of 1 / R of each variable;
- with shard 1 and 2 updated parameters are gathered; with shard 3 those of a layer are gathered
  before its forward pass, which waits until the layer two before has used its own, and again when
  its gradient arrives;
- microbatches add to sums, which are there from the beginning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import tensorflow as tf

from strategies.extension import packs
from tfscale.plan.memory.cuts import Parameter
from tfscale.plan.memory.growing_step import GrowingStep
from tfscale.plan.memory.liveness import (
    BUFFER,
    GRADIENT,
    MAY_REUSE,
    OWN,
    SHARES,
    WEIGHT_COPY,
    Operation,
    Tensor,
)
from tfscale.plan.memory.step_graph import BACKWARD, FORWARD, UPDATE, Gradient, StepGraph

Value = TypeVar("Value")

REDUCE = "reduce"


@dataclass(frozen=True)
class Replication:
    """How a step is divided.

    Attributes:
        replicas: Positive.
        workers: Processes that the replicas are divided among. Positive.
        shard: What is divided over the replicas: 0 nothing, 1 slots, 2 and gradients, 3 and
            parameters.
        microbatches: Parts of a replica batch, one after the other. Positive.
    """

    replicas: int
    workers: int
    shard: int
    microbatches: int


def replica_step(step: StepGraph, parameters: Sequence[Parameter], how: Replication) -> GrowingStep:
    """Returns what a replica does in a step, or in the last microbatch of it.

    The phases of its operations are FORWARD, BACKWARD, REDUCE or UPDATE.

    Args:
        step: A traced step of one replica and microbatch, or of a pipeline.
        parameters: Those that `step` numbers.
        how: The division.
    """
    made = _Step(step, parameters, how)
    if how.replicas > 1 and how.shard == 3:
        made.gather_for_layers()
        made.reduce()
        made.add_to_sums()
    else:
        made.add_to_sums()
        made.reduce()
    made.update()
    if how.replicas > 1 and how.shard in (1, 2):
        made.make_whole()
    return made


class _Step(GrowingStep):
    """The step of a replica, which grows."""

    def __init__(self, step: StepGraph, parameters: Sequence[Parameter], how: Replication) -> None:
        super().__init__(step.operations, step.tensors, step.phases)
        self._step = step
        self._parameters = parameters
        self._how = how
        # By tensor of a gradient, what stands for it now.
        self._now = {number: number for each in step.gradients for number in each.tensors}

    def add_to_sums(self) -> None:
        """Microbatches add gradients up; rows of lookups are listed one behind the other."""
        count = self._how.microbatches
        if count == 1:
            return
        for gradient in self._step.gradients:
            for number in gradient.tensors:
                given = self._now[number]
                size = self.tensors[given].bytes
                earlier = size * (count - 1) if gradient.is_sparse else size
                device = self.device_of(given)
                (kept,) = self.add(FORWARD, (), [(earlier, GRADIENT)], device=device)
                total = [(earlier + (size if gradient.is_sparse else 0), GRADIENT)]
                memory = OWN if gradient.is_sparse else MAY_REUSE
                (self._now[number],) = self.add(BACKWARD, (kept, given), total, memory)

    def reduce(self) -> None:
        """Replicas add up gradients."""
        how = self._how
        if how.replicas == 1:
            return
        sparse = [each for each in self._step.gradients if each.is_sparse]
        dense = [each for each in self._step.gradients if not each.is_sparse]
        for gradient in sparse:
            for number in gradient.tensors:
                rows = [(self._bytes(number) * how.replicas, GRADIENT)]
                now = (self._now[number],)
                (self._now[number],) = self.add(REDUCE, now, rows, device=0)
        if how.workers > 1:
            # What is gathered for a layer is reduced as its gradient comes, each by itself.
            travelling = [[each] for each in dense] if how.shard == 3 else _in_packs(dense[::-1])
            turns: list[int] = []
            for pack in travelling:
                self._travel(pack, turns[-2:-1] if how.shard < 3 else ())
                turns.append(len(self.operations) - 1)
        elif how.shard >= 2:
            for gradient in dense:
                self._add_on_owners(gradient)
        else:
            for own in self._by_device(dense):
                self._travel(own, ())

    def _by_device(self, gradients: Iterable[Gradient]) -> list[list[Gradient]]:
        """Returns gradients together that are on one device of the replica."""
        found: dict[int, list[Gradient]] = {}
        for gradient in gradients:
            device = self.device_of(self._now[gradient.tensors[0]])
            found.setdefault(device, []).append(gradient)
        return list(found.values())

    def _travel(self, pack: Sequence[Gradient], waits_for: Iterable[int]) -> None:
        """Workers reduce a pack; in one process, replicas reduce all gradients as one."""
        how = self._how
        given = tuple(self._now[number] for each in pack for number in each.tensors)
        size = sum(each.travels for each in pack)
        is_copied = len(pack) > 1 or size != self._bytes(pack[0].tensors[0])
        memory = OWN if is_copied else MAY_REUSE
        (flat,) = self.add(REDUCE, given, [(size, BUFFER)], memory, waits_for)
        # TensorFlow's ring writes over what it is given, and receives a piece at a time.
        scratch = size // how.replicas
        sums = [(size, BUFFER)]
        (total,) = self.add(REDUCE, (flat,), sums, MAY_REUSE, scratch=scratch, travels=True)
        self._arrive(pack, total, is_copied)

    def _arrive(self, pack: Sequence[Gradient], total: int, is_copied: bool) -> None:
        """What has travelled as one is taken apart again."""
        is_divided = self._how.shard >= 2
        numbers = [number for each in pack for number in each.tensors]
        sizes = [self._bytes(number) for number in numbers]
        if is_divided:
            sizes = [self._part(size) for size in sizes]
        memory = OWN if is_divided or is_copied else SHARES
        parts = self.add(REDUCE, (total,), [(size, GRADIENT) for size in sizes], memory)
        self._now.update(zip(numbers, parts, strict=True))

    def _add_on_owners(self, gradient: Gradient) -> None:
        """In one process a replica adds up the pieces that all have for it."""
        (number,) = gradient.tensors
        size = self._bytes(number)
        (pieces,) = self.add(REDUCE, (self._now[number],), [(size, BUFFER)])
        (part,) = self.add(REDUCE, (pieces,), [(self._part(size), GRADIENT)])
        self._now[number] = part

    def update(self) -> None:
        """The optimizer reads what has been reduced, and works on parts."""
        is_divided = self._how.shard >= 1 and self._how.replicas > 1
        if is_divided and self._how.shard == 1:  # gradients are whole until here
            for number, now in list(self._now.items()):
                part = [(self._part(self.tensors[now].bytes), GRADIENT)]
                (self._now[number],) = self.add(UPDATE, (now,), part)
        sizes = {each.bytes for each in self._parameters}
        derived = set(self._now.values())
        for place in range(len(self._step.operations)):
            if self.phases[place] != UPDATE:
                continue
            operation = self.operations[place]
            inputs = tuple(self._now.get(number, number) for number in operation.inputs)
            is_derived = is_divided and not derived.isdisjoint(inputs)
            scratch = operation.scratch_bytes
            self.operations[place] = dataclasses.replace(
                operation,
                inputs=inputs,
                scratch_bytes=self._part(scratch) if is_derived else scratch,
            )
            for number in operation.outputs if is_divided else ():
                tensor = self.tensors[number]
                if is_derived or tensor.bytes in sizes:
                    derived.add(number)
                    self.tensors[number] = Tensor(self._part(tensor.bytes), tensor.kind)

    def make_whole(self) -> None:
        """Each replica gets the parts of the parameters that the others have updated."""
        updates: dict[int, list[int]] = {}
        for place, operation in enumerate(self.operations):
            if operation.writes is not None:
                updates.setdefault(operation.writes, []).append(place)
        written = sorted(updates)
        turns: list[int] = []
        for pack in self._parameter_packs(written):
            sizes = [self._parameters[number].bytes for number in pack]
            after = [place for number in pack for place in updates[number]]
            if self._how.workers > 1:
                after += turns[-2:-1]
            own = [(self._part(each), BUFFER) for each in sizes]
            device = self.operations[after[0]].device
            parts = self.add(UPDATE, (), own, OWN, after, device=device)
            wholes = self._gathered(UPDATE, pack, parts)
            turns.append(len(self.operations) - 1)
            self.add(UPDATE, wholes, [])

    def _parameter_packs(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        if self._how.workers == 1:
            return ([number] for number in numbers)
        return _neighbours(numbers, [self._parameters[number].bytes for number in numbers])

    def _gathered(
        self,
        phase: str,
        pack: Sequence[int],
        parts: tuple[int, ...] = (),
        waits_for: Iterable[int] = (),
        device: int | None = None,
    ) -> tuple[int, ...]:
        """Returns the whole tensors of parameters, from this replica's parts."""
        sizes = [self._parameters[number].bytes for number in pack]
        wholes = [(size, BUFFER) for size in sizes]
        if self._how.workers == 1:  # one copy of what lies on the other devices
            return self.add(phase, parts, wholes, OWN, waits_for, device=device)
        if len(pack) == 1 and not self._parameters[pack[0]].is_joined:
            return self.add(phase, parts, wholes, OWN, waits_for, travels=True)
        flat = [(sum(self._part(size) for size in sizes), BUFFER)]
        (sent,) = self.add(phase, parts, flat, OWN, waits_for)
        (rows,) = self.add(phase, (sent,), [(sum(sizes), BUFFER)], travels=True)
        return self.add(phase, (rows,), wholes)

    def gather_for_layers(self) -> None:
        """The parameters of a layer are gathered for it, and again for its backward pass."""
        self._gather_forward()
        makers = {t: place for place, each in enumerate(self.operations) for t in each.outputs}
        again: dict[int, int] = {}
        for place in range(len(self._step.operations)):
            if self.phases[place] == BACKWARD and place not in self._step.only_shapes:
                self._gather_again(place, makers, again)

    def _gather_forward(self) -> None:
        """Gathers what a layer reads when the layer two before has used its own."""
        readers: dict[int, list[int]] = {}
        for place, operation in enumerate(self._step.operations):
            if self.phases[place] == FORWARD:
                for number in operation.inputs:
                    readers.setdefault(number, []).append(place)
        of_devices: dict[int, list[tuple[str, list[int]]]] = {}
        for place, operation in enumerate(self._step.operations):
            read = operation.outputs[0] if len(operation.outputs) == 1 else -1
            is_used = read in self._step.reads and read in readers
            if not is_used or self.phases[place] != FORWARD:
                continue
            number = self._step.reads[read]
            layer = self._parameters[number].layer
            layers = of_devices.setdefault(operation.device, [])
            if not layers or layers[-1][0] != layer:
                layers.append((layer, []))
            layers[-1][1].append(read)
            before = layers[-3][1] if len(layers) > 2 else []
            waits = [*operation.waits_for, *self._users(before, readers)]
            device = operation.device
            (whole,) = self._gathered(FORWARD, [number], waits_for=waits, device=device)
            self.tensors[read] = Tensor(self._parameters[number].bytes, BUFFER)
            self.operations[place] = Operation((whole,), (read,), SHARES, device=device)

    def _users(self, gathered: Sequence[int], readers: dict[int, list[int]]) -> list[int]:
        """Returns the operations that use gathered tensors, or copies of them."""
        reached, found = list(gathered), []
        for number in reached:
            for place in readers.get(number, ()):
                made = self._step.operations[place].outputs
                if all(self.tensors[t].kind == WEIGHT_COPY and t in readers for t in made):
                    reached += [t for t in made if t not in reached]
                else:
                    found.append(place)
        return found

    def _gather_again(self, place: int, makers: dict[int, int], again: dict[int, int]) -> None:
        """An operation of the backward pass reads what is gathered when its gradient arrives."""
        operation = self.operations[place]
        gathered = [number for number in operation.inputs if self._is_gathered(number, makers)]
        if not gathered:
            return
        arriving = [
            makers[number]
            for number in operation.inputs
            if number in makers and self.phases[makers[number]] == BACKWARD
        ]
        inputs = tuple(
            self._rebuilt(number, makers, again, arriving, operation.device)
            if number in gathered
            else number
            for number in operation.inputs
        )
        self.operations[place] = dataclasses.replace(operation, inputs=inputs)

    def _is_gathered(self, number: int, makers: dict[int, int]) -> bool:
        """Tells whether a tensor is a parameter, or was computed only from some before."""
        if number in self._step.reads:
            return True
        is_copy = self.tensors[number].kind == WEIGHT_COPY
        return is_copy and self.phases[makers[number]] == FORWARD

    def _rebuilt(
        self,
        number: int,
        makers: dict[int, int],
        again: dict[int, int],
        arriving: Sequence[int],
        device: int,
    ) -> int:
        if number not in again and number in self._step.reads:
            parameter = self._step.reads[number]
            (again[number],) = self._gathered(
                BACKWARD, [parameter], waits_for=arriving, device=device
            )
        elif number not in again:
            made = self.operations[makers[number]]
            inputs = tuple(
                self._rebuilt(each, makers, again, arriving, device)
                if self._is_gathered(each, makers)
                else each
                for each in made.inputs
            )
            outputs = [(self._bytes(each), WEIGHT_COPY) for each in made.outputs]
            scratch = made.scratch_bytes
            copies = self.add(BACKWARD, inputs, outputs, made.memory, scratch=scratch)
            again.update(zip(made.outputs, copies, strict=True))
        return again[number]

    def _bytes(self, number: int) -> int:
        return self.tensors[number].bytes

    def _part(self, size: int) -> int:
        return -(-size // self._how.replicas)


def _in_packs(gradients: Sequence[Gradient]) -> Iterator[list[Gradient]]:
    """Yields gradients that travel together."""
    return _neighbours(gradients, [each.travels for each in gradients])


def _neighbours(values: Sequence[Value], sizes: Sequence[int]) -> Iterator[list[Value]]:
    """Yields values of the given bytes in the packs of workers."""
    specs = [tf.TensorSpec([size], tf.uint8) for size in sizes]
    return ([values[place] for place in pack] for pack in packs(specs, range(len(specs))))
