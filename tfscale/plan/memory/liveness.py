"""When the tensors of a step are in memory: arithmetic over its operations, without TensorFlow.

A tensor is in memory from the operation that makes it to the last one that reads it. Some share
memory: a reshaped tensor is its input under another shape, and an elementwise operation writes over
an input that nothing else needs. TensorFlow's executor does both.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tfscale.plan.memory.blocks import Blocks

ACTIVATION = "activation"
WEIGHT_COPY = "weight copy"
GRADIENT = "gradient"
BUFFER = "buffer"
NOT_COUNTED = "not counted"

SHARES = "shares"
"""The outputs are the inputs, under another name or shape."""
MAY_REUSE = "may reuse"
"""The output is written over an input of its size that is not needed later."""
OWN = "own"
"""The outputs have memory of their own."""


_NETWORK = -1
_LONG_SECONDS = 4e-6
"""An operation that takes at least so long may be handed to another thread."""


@dataclass(frozen=True)
class Tensor:
    """An output of an operation.

    Attributes:
        bytes: Its size.
        kind: ACTIVATION, WEIGHT_COPY, GRADIENT, BUFFER, or NOT_COUNTED for what is in memory
            anyway.
        value_of: Number of the parameter whose value it is, or None. If that is updated while
            something is still to read the old value, TensorFlow writes to a copy.
    """

    bytes: int
    kind: str = ACTIVATION
    value_of: int | None = None


@dataclass(frozen=True)
class Operation:
    """An operation of a step.

    Attributes:
        inputs: Numbers of the tensors that it reads.
        outputs: Numbers of the tensors that it makes.
        memory: SHARES, MAY_REUSE or OWN.
        waits_for: Numbers of the operations that must have run before, besides those of the inputs.
        scratch_bytes: What it needs only while it runs.
        seconds: How long it runs, roughly.
        writes: Number of the parameter that it updates, or None.
        travels: Whether the network works at it, one after another, and no thread.
        device: Number of the device that computes it, and has what it makes.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    memory: str = OWN
    waits_for: tuple[int, ...] = ()
    scratch_bytes: int = 0
    seconds: float = 0.0
    writes: int | None = None
    travels: bool = False
    device: int = 0


@dataclass(frozen=True)
class Moment:
    """Bytes in memory of a device while it runs one operation.

    Attributes:
        activations: Tensors that depend on the batch, and scratch.
        weight_copies: Tensors computed only from parameters, such as a cast to half precision.
        gradients: Gradients of parameters.
        buffers: What travels between replicas.
        operation: The number of the one that begins; two moments may be equal without it.
        device: The device.
    """

    activations: int = 0
    weight_copies: int = 0
    gradients: int = 0
    buffers: int = 0
    operation: int = field(default=0, compare=False)
    device: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.activations + self.weight_copies + self.gradients + self.buffers


@dataclass
class _Buffer:
    bytes: int
    kinds: set[str]
    device: int
    reads_left: int = 0
    place: int | None = None

    @property
    def kind(self) -> str:
        """The kind of what tensors of several kinds share."""
        order = (NOT_COUNTED, GRADIENT, BUFFER, ACTIVATION, WEIGHT_COPY)
        return next(kind for kind in order if kind in self.kinds)


class _Memory:
    """What is in memory while operations begin and end."""

    def __init__(
        self,
        operations: Sequence[Operation],
        tensors: Sequence[Tensor],
        kept: Iterable[int],
        blocks: Sequence[Blocks] = (),
    ) -> None:
        self._blocks = blocks
        self._tensors = tensors
        self._reads = Counter(number for each in operations for number in each.inputs)
        self._reads.update(kept)
        self._held: dict[int, _Buffer] = {}
        self._bytes: defaultdict[int, Counter[str]] = defaultdict(Counter)  # by device and kind
        self._scratch: Counter[int] = Counter()
        self._scratch_places: dict[int, int] = {}
        self._values: defaultdict[int, list[_Buffer]] = defaultdict(list)

    def begin(self, number: int, operation: Operation) -> Moment:
        """Makes the outputs of an operation. Returns what is in memory while it runs."""
        device = operation.device
        for place, output in enumerate(operation.outputs):
            tensor = self._tensors[output]
            buffer = _shared(operation, place, tensor, self._held)
            if buffer is None:
                buffer = _Buffer(tensor.bytes, {tensor.kind}, device)
                if self._blocks and tensor.bytes and tensor.kind != NOT_COUNTED:
                    buffer.place = self._blocks[device].take(tensor.bytes)
                if tensor.value_of is not None and tensor.kind == NOT_COUNTED:
                    self._values[tensor.value_of].append(buffer)
            else:
                self._bytes[buffer.device][buffer.kind] -= buffer.bytes
                buffer.kinds.add(tensor.kind)
            self._bytes[buffer.device][buffer.kind] += buffer.bytes
            buffer.reads_left += self._reads[output]
            self._held[output] = buffer
        if operation.writes is not None:
            self._keep_old_value(operation.writes)
        if operation.scratch_bytes:
            self._scratch[device] += operation.scratch_bytes
            if self._blocks:
                place = self._blocks[device].take(operation.scratch_bytes)
                self._scratch_places[id(operation)] = place
        sums = self._bytes[device]
        activations = sums[ACTIVATION] + self._scratch[device]
        return Moment(activations, sums[WEIGHT_COPY], sums[GRADIENT], sums[BUFFER], number, device)

    def end(self, operation: Operation) -> None:
        """Frees what nothing reads any more."""
        for number in operation.inputs:
            self._held[number].reads_left -= 1
        touched = (self._held[number] for number in (*operation.inputs, *operation.outputs))
        for buffer in {id(each): each for each in touched}.values():
            if not buffer.reads_left:
                self._free(buffer)
        self._scratch[operation.device] -= operation.scratch_bytes
        if id(operation) in self._scratch_places:
            self._blocks[operation.device].give_back(self._scratch_places.pop(id(operation)))

    def _keep_old_value(self, parameter: int) -> None:
        """The value of a parameter is no longer in it, but beside it, until its last reader ran."""
        held = [buffer for buffer in self._values.pop(parameter, ()) if buffer.reads_left]
        for buffer in held[:1]:  # all of them are one
            self._bytes[buffer.device][NOT_COUNTED] -= buffer.bytes
            self._bytes[buffer.device][WEIGHT_COPY] += buffer.bytes
            buffer.kinds = {WEIGHT_COPY}
            if self._blocks:
                buffer.place = self._blocks[buffer.device].take(buffer.bytes)

    def _free(self, buffer: _Buffer) -> None:
        self._bytes[buffer.device][buffer.kind] -= buffer.bytes
        if buffer.place is not None:
            self._blocks[buffer.device].give_back(buffer.place)
            buffer.place = None


def moments(
    operations: Sequence[Operation], tensors: Sequence[Tensor], kept: Iterable[int] = ()
) -> list[Moment]:
    """Returns the bytes in memory during each operation, if they run one after another.

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
    memory = _Memory(operations, tensors, kept)
    found = []
    for number, operation in enumerate(operations):
        found.append(memory.begin(number, operation))
        memory.end(operation)
    return found


def moments_of_threads(
    operations: Sequence[Operation],
    tensors: Sequence[Tensor],
    kept: Iterable[int] = (),
    *,
    threads: int,
    blocks: Sequence[Blocks] = (),
) -> list[Moment]:
    """Returns the bytes in memory when each operation begins, as TensorFlow's executor runs them.

    An operation is ready when its inputs are there. A thread of its device runs what its last
    operation made ready: short operations at once, of the long ones the last; the others it puts on
    a stack of its own. It takes the next one from there, and if that is empty the oldest of another
    thread. So a variable is updated while other gradients are computed, and with two threads two
    operations have inputs and outputs in memory.

    Args:
        operations: In any order.
        tensors: The tensors that `inputs` and `outputs` number.
        kept: Numbers of tensors that are in memory to the end.
        threads: Of each device. Positive.
        blocks: Where the tensors of each device get their memory, to learn how much of it is lost.

    Example:
        >>> tensors = [Tensor(8), Tensor(1)]
        >>> two = [Operation((), (0,), seconds=1.0), Operation((), (1,), seconds=1.0)]
        >>> [moment.total for moment in moments_of_threads(two, tensors, threads=1)]
        [1, 8]
        >>> [moment.total for moment in moments_of_threads(two, tensors, threads=2)]
        [1, 9]

    Source: TensorFlow 2.21, `tensorflow/core/common_runtime/executor.cc`, `ScheduleReady`.
    """
    makers = {number: place for place, each in enumerate(operations) for number in each.outputs}
    waiting = []
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for place, operation in enumerate(operations):
        sources = [makers[number] for number in operation.inputs] + [*operation.waits_for]
        waiting.append(len(sources))
        for source in sources:
            readers[source].append(place)
    devices = {each.device: _Queues(threads) for each in operations}
    memory = _Memory(operations, tensors, kept, blocks)
    running: list[tuple[float, int, int, int]] = []
    now, found = 0.0, []

    def make_ready(places: Iterable[int], device: int, thread: int) -> set[int]:
        """Gives operations to their devices. Returns these."""
        queued: defaultdict[int, list[tuple[int, Operation]]] = defaultdict(list)
        for place in places:
            queued[operations[place].device].append((place, operations[place]))
        for own, ready in queued.items():
            devices[own].add(max(thread, 0) if own == device else 0, ready)
        return set(queued)

    woken = make_ready((place for place, left in enumerate(waiting) if not left), 0, 0)
    while True:
        for device in sorted(woken):
            for thread in sorted(devices[device].idle):
                taken = devices[device].next_of(thread)
                if taken is not None:
                    devices[device].idle.discard(thread)
                    found.append(memory.begin(taken, operations[taken]))
                    ends = now + operations[taken].seconds
                    heapq.heappush(running, (ends, len(found), thread, taken))
        if not running:
            return found
        now, _, thread, place = heapq.heappop(running)
        device = operations[place].device
        devices[device].idle.add(thread)
        memory.end(operations[place])
        for reader in readers[place]:
            waiting[reader] -= 1
        made_ready = dict.fromkeys(each for each in readers[place] if not waiting[each])
        woken = {device} | make_ready(made_ready, device, thread)


class _Queues:
    """The operations of a device that are ready, by thread.

    Attributes:
        idle: The threads that run nothing.
    """

    def __init__(self, threads: int) -> None:
        self.idle = {_NETWORK, *range(threads)}
        self._network: deque[int] = deque()
        self._at_once: list[deque[int]] = [deque() for _ in range(threads)]
        self._stacks: list[deque[int]] = [deque() for _ in range(threads)]

    def add(self, thread: int, ready: Iterable[tuple[int, Operation]]) -> None:
        """Adds what an operation of a thread made ready."""
        last = None
        for place, operation in ready:
            if operation.travels:
                self._network.append(place)
            elif operation.seconds < _LONG_SECONDS:
                self._at_once[thread].append(place)
            else:
                if last is not None:
                    self._stacks[thread].append(last)
                last = place
        if last is not None:
            (self._stacks if self._at_once[thread] else self._at_once)[thread].append(last)

    def next_of(self, thread: int) -> int | None:
        """Takes the next operation of a thread, or returns None."""
        if thread == _NETWORK:
            return self._network.popleft() if self._network else None
        if self._at_once[thread]:
            return self._at_once[thread].popleft()
        if self._stacks[thread]:
            return self._stacks[thread].pop()
        return next((other.popleft() for other in self._stacks if other), None)


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
