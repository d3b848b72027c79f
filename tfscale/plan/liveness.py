"""When the tensors of a step are in memory: arithmetic over its operations, without TensorFlow.

A tensor is in memory from the operation that makes it to the last one that reads it. Some share
memory: a reshaped tensor is its input under another shape, and an elementwise operation writes over
an input that nobody else needs. TensorFlow's executor does both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

ACTIVATION = "activation"
WEIGHT_COPY = "weight copy"
GRADIENT = "gradient"
NOT_COUNTED = "not counted"

SHARES = "shares"
"""The outputs are the inputs, under another name or shape."""
MAY_REUSE = "may reuse"
"""The output is written over an input of its size that is not needed later."""
OWN = "own"
"""The outputs have memory of their own."""


@dataclass(frozen=True)
class Tensor:
    """An output of an operation.

    Attributes:
        bytes: Its size.
        kind: ACTIVATION, WEIGHT_COPY, GRADIENT, or NOT_COUNTED for what is in memory anyway.
    """

    bytes: int
    kind: str = ACTIVATION


@dataclass(frozen=True)
class Operation:
    """An operation of a step.

    Attributes:
        inputs: Numbers of the tensors that it reads.
        outputs: Numbers of the tensors that it makes.
        memory: SHARES, MAY_REUSE or OWN.
        waits_for: Numbers of the operations that must have run before, besides those of the inputs.
        scratch_bytes: What it needs only while it runs.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    memory: str = OWN
    waits_for: tuple[int, ...] = ()
    scratch_bytes: int = 0


@dataclass(frozen=True)
class Moment:
    """Bytes in memory while one operation runs.

    Attributes:
        activations: Tensors that depend on the batch, and scratch.
        weight_copies: Tensors computed only from parameters, such as a cast to half precision.
        gradients: Gradients of parameters.
    """

    activations: int = 0
    weight_copies: int = 0
    gradients: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.activations + self.weight_copies + self.gradients


@dataclass
class _Buffer:
    bytes: int
    kinds: set[str]
    reads_left: int = 0
    first: int = 0
    last: int | None = None


def moments(
    operations: Sequence[Operation], tensors: Sequence[Tensor], kept: Iterable[int] = ()
) -> list[Moment]:
    """Returns the bytes in memory during each operation.

    Args:
        operations: In the order in which they run; each after those that make its inputs.
        tensors: The tensors that `inputs` and `outputs` number.
        kept: Numbers of tensors that are in memory to the end.

    Example:
        >>> tensors = [Tensor(8), Tensor(8), Tensor(2)]
        >>> chain = [Operation((), (0,)), Operation((0,), (1,)), Operation((1,), (2,))]
        >>> [moment.activations for moment in moments(chain, tensors)]
        [8, 16, 10]
    """
    reads = Counter(number for operation in operations for number in operation.inputs)
    reads.update(kept)
    held: dict[int, _Buffer] = {}
    buffers: list[_Buffer] = []
    for time, operation in enumerate(operations):
        for place, number in enumerate(operation.outputs):
            buffer = _shared(operation, place, tensors[number], held)
            if buffer is None:
                buffer = _Buffer(tensors[number].bytes, set(), first=time)
                buffers.append(buffer)
            buffer.kinds.add(tensors[number].kind)
            buffer.reads_left += reads[number]
            held[number] = buffer
        for number in operation.inputs:
            buffer = held[number]
            buffer.reads_left -= 1
            if not buffer.reads_left:
                buffer.last = time
        for number in operation.outputs:
            if not held[number].reads_left:
                held[number].last = time
    return _timeline(buffers, operations)


def _shared(
    operation: Operation, place: int, tensor: Tensor, held: dict[int, _Buffer]
) -> _Buffer | None:
    """Returns the memory of an input that an output takes over, or None."""
    if operation.memory == SHARES and operation.inputs:
        return held[operation.inputs[min(place, len(operation.inputs) - 1)]]
    if operation.memory == MAY_REUSE:
        readers = Counter(id(held[number]) for number in operation.inputs)
        for number in operation.inputs:
            buffer = held[number]
            is_last = buffer.reads_left == readers[id(buffer)]
            if is_last and buffer.bytes == tensor.bytes and NOT_COUNTED not in buffer.kinds:
                return buffer
    return None


def _timeline(buffers: Iterable[_Buffer], operations: Sequence[Operation]) -> list[Moment]:
    changes: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(operations) + 1))
    for buffer in buffers:
        end = len(operations) if buffer.last is None else buffer.last + 1
        kind = _kind(buffer.kinds)
        changes[kind][buffer.first] += buffer.bytes
        changes[kind][end] -= buffer.bytes
    sums = dict.fromkeys((ACTIVATION, WEIGHT_COPY, GRADIENT), 0)
    found = []
    for time, operation in enumerate(operations):
        for kind in sums:
            sums[kind] += changes[kind][time]
        scratch = operation.scratch_bytes
        found.append(Moment(sums[ACTIVATION] + scratch, sums[WEIGHT_COPY], sums[GRADIENT]))
    return found


def _kind(kinds: Collection[str]) -> str:
    """Returns the kind of memory that tensors of several kinds share."""
    order = (NOT_COUNTED, GRADIENT, ACTIVATION, WEIGHT_COPY)
    return next(kind for kind in order if kind in kinds)


def as_early_as_possible(operations: Sequence[Operation], num_first: int) -> list[Operation]:
    """Returns operations in another order: those after the first ones as soon as they can run.

    So a variable is updated when its gradient is there, and the gradient's memory is free again.

    Args:
        operations: In an order in which they could run.
        num_first: How many of them keep their order.

    Example:
        >>> two = [Operation((), (0,)), Operation((), (1,)), Operation((0,), (2,))]
        >>> [operation.outputs for operation in as_early_as_possible(two, 2)]
        [(0,), (2,), (1,)]
    """
    makers = {number: place for place, each in enumerate(operations) for number in each.outputs}
    waiting = []
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for place, operation in enumerate(operations):
        sources = [makers[number] for number in operation.inputs] + [*operation.waits_for]
        waiting.append(len(sources))
        for source in sources:
            readers[source].append(place)
    ready = [place for place in range(num_first, len(operations)) if not waiting[place]][::-1]
    order = []
    for first in range(num_first):
        ready.append(first)
        while ready:
            place = ready.pop()
            order.append(operations[place])
            for reader in reversed(readers[place]):
                waiting[reader] -= 1
                if not waiting[reader] and reader >= num_first:
                    ready.append(reader)
    return order
