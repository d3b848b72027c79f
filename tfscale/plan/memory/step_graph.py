"""A traced step as operations and tensors for `liveness`, and its floating-point operations."""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import ONLY_SHAPE, needed_operations
from tfscale.monitor.operation_flops import flops_of
from tfscale.plan.memory.liveness import (
    ACTIVATION,
    GRADIENT,
    NOT_COUNTED,
    OWN,
    SHARES,
    WEIGHT_COPY,
    Operation,
    Tensor,
    moments,
)
from tfscale.plan.memory.loops import MAKE_LISTS, bytes_kept, bytes_of_list
from tfscale.plan.memory.operation_costs import seconds_for
from tfscale.plan.memory.operation_memory import (
    CALLERS,
    CONDITIONS,
    IN_MEMORY_ANYWAY,
    LOOPS,
    MEMORY,
    SHARERS,
)
from tfscale.plan.memory.traced_devices import Unit, places_of, units_of

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


@dataclass(frozen=True)
class Gradient:
    """The gradient of a parameter.

    Attributes:
        tensors: Numbers of its tensors: one, or the rows of a lookup and their indices.
        parameter: Number of the parameter.
        travels: Bytes in the dtype in which it travels between replicas.
    """

    tensors: tuple[int, ...]
    parameter: int
    travels: int

    @property
    def is_sparse(self) -> bool:
        """Whether it has only rows that were looked up."""
        return len(self.tensors) > 1


@dataclass(frozen=True)
class StepGraph:
    """What a traced step of one replica does.

    Attributes:
        operations: In the order of tracing.
        tensors: What they read and make.
        phases: FORWARD, BACKWARD or UPDATE, of each operation: the last is clipping, the optimizer
            and metrics.
        gradients: In the order in which the optimizer takes them.
        reads: By number of a tensor, the parameter that it is the value of.
        only_shapes: Numbers of the operations that look at no value.
        units: By operation, the unit of a pipeline that it is in, or None.
        flops: Floating-point operations of the matrix products and convolutions of a step.
        num_unknown: Tensors whose size is not known before the step runs, and which count as 0.
        num_loops: Loops that keep what is not known before the step runs, and which counts as 0.
    """

    operations: tuple[Operation, ...]
    tensors: tuple[Tensor, ...]
    phases: tuple[str, ...]
    gradients: tuple[Gradient, ...]
    reads: Mapping[int, int]
    only_shapes: frozenset[int]
    flops: int
    num_unknown: int
    num_loops: int
    units: tuple[Unit | None, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be counted, in sentences."""
        found = []
        if self.num_unknown:
            found.append(
                f"{self.num_unknown} tensors of a step have sizes that depend on the data, and "
                "count as 0."
            )
        if self.num_loops:
            found.append(
                f"a step has {self.num_loops} loops whose number of turns depends on the data; "
                "what they keep for the backward pass counts as 0."
            )
        return tuple(found)


def step_graph(
    graph: Any,
    gradients: Sequence[tuple[Any, int]],
    parameters: Mapping[int, int],
    num_backward: int,
    holders: Mapping[int, int] | None = None,
) -> StepGraph:
    """Returns what a traced step does.

    Args:
        graph: The graph of the traced step, a `FuncGraph`.
        gradients: Its gradients, tensors or `tf.IndexedSlices`, and the numbers of their
            parameters.
        parameters: Of each trainable variable, its number by the `id` of its handle.
        num_backward: Operations of `graph` that were made before the first gradient was applied.
        holders: Where variables are, if replicas have several devices; see `places_of`.
    """
    reader = _Reader(graph, parameters)
    parts = [part for gradient, _ in gradients for part in tensors_of(gradient)]
    operations = reader.operations([*graph.outputs, *parts], {part.ref() for part in parts})
    made = graph.get_operations()
    begins = next((i for i, op in enumerate(made) if op.name.startswith("gradient_tape/")), 0)
    phases = dict.fromkeys(made, UPDATE)
    phases |= dict.fromkeys(made[:num_backward], BACKWARD)  # with what is computed again in it
    phases |= dict.fromkeys(made[: min(begins, num_backward)], FORWARD)
    places = places_of(graph, holders or {}, num_backward)
    units = units_of(graph)
    return StepGraph(
        operations=tuple(
            dataclasses.replace(each, device=places[op])
            for each, op in zip(operations, reader.sources, strict=True)
        ),
        tensors=tuple(reader.tensors),
        phases=tuple(phases[op] for op in reader.sources),
        gradients=tuple(
            Gradient(
                tuple(reader.numbers[part.ref()] for part in tensors_of(gradient)),
                parameter,
                sum(_travels(part) for part in tensors_of(gradient)),
            )
            for gradient, parameter in gradients
        ),
        reads=reader.reads,
        only_shapes=frozenset(
            place for place, op in enumerate(reader.sources) if op.type in ONLY_SHAPE
        ),
        flops=reader.flops,
        num_unknown=reader.num_unknown,
        num_loops=reader.num_loops,
        units=tuple(units.get(op) for op in reader.sources),
    )


def tensors_of(gradient: Any) -> list[tf.Tensor]:
    """Returns the tensors of a gradient."""
    if isinstance(gradient, tf.IndexedSlices):
        return [gradient.values, gradient.indices]
    return [gradient]


def _travels(part: Any) -> int:
    """Returns the bytes of a tensor on its way: half precision travels as float32."""
    elements = part.shape.num_elements() if part.shape.rank is not None else None
    is_half = part.dtype in (tf.float16, tf.bfloat16)
    return int((elements or 0) * (4 if is_half else part.dtype.size))


class _Reader:
    """Translates the operations of one graph, and those of the functions that it calls."""

    def __init__(
        self, graph: Any, parameters: Mapping[int, int], tensors: list[Tensor] | None = None
    ) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = [] if tensors is None else tensors
        self.numbers: dict[Any, int] = {}
        self.flops = 0
        self.num_unknown = 0
        self.num_loops = 0
        # By tensor: whether it depends on a parameter, and on anything else but constants.
        self._lineage: dict[Any, tuple[bool, bool]] = {}
        self.reads: dict[int, int] = {}
        self._parameters = {
            inner.ref(): parameters[id(outer)]
            for outer, inner in graph.captures
            if id(outer) in parameters
        }

    def operations(self, targets: Iterable[Any], gradients: Collection[Any]) -> list[Operation]:
        """Returns the operations that targets and effects depend on, in the order of tracing.

        Sets `sources`, the graph's operation behind each of them.
        """
        self.sources: list[Any] = []
        found: list[Operation] = []
        for op in _in_order(needed_operations(self.graph, targets)):
            own = self._translated(op, gradients)
            first = len(found)
            found += [_later(operation, first) for operation in own]
            self.sources += [op] * len(own)
        places = {op: place for place, op in enumerate(self.sources)}
        return [
            dataclasses.replace(
                operation,
                waits_for=(
                    *operation.waits_for,
                    *(places[other] for other in op.control_inputs),
                ),
            )
            for operation, op in zip(found, self.sources, strict=True)
        ]

    def _translated(self, op: Any, gradients: Collection[Any]) -> list[Operation]:
        lineage = self._lineage_of(op)
        lists = bytes_kept(op, SHARERS) if op.type in LOOPS else {}
        self.num_loops += lists is None
        for place, tensor in enumerate(op.outputs):
            self._lineage[tensor.ref()] = lineage
            self.numbers[tensor.ref()] = len(self.tensors)
            kind = _kind(op, tensor, lineage, gradients)
            own = (lists or {}).get(place, 0)
            self.tensors.append(Tensor(own or self._bytes(op, tensor), kind))
        if op.type == "ReadVariableOp" and op.inputs[0].ref() in self._parameters:
            read = self.numbers[op.outputs[0].ref()]
            parameter = self.reads[read] = self._parameters[op.inputs[0].ref()]
            self.tensors[read] = dataclasses.replace(self.tensors[read], value_of=parameter)
        flops = flops_of(op) or 0
        self.flops += flops
        makes_list = op.type in MAKE_LISTS and op.outputs[0].dtype == tf.variant
        memory = OWN if makes_list else MEMORY.get(op.type, OWN)
        inputs = tuple(self.numbers[tensor.ref()] for tensor in op.inputs)
        outputs = tuple(self.numbers[tensor.ref()] for tensor in op.outputs)
        if op.type == "IdentityN":  # TensorFlow makes one operation of each output
            pairs = zip(inputs, outputs, strict=True)
            return [Operation((given,), (made,), SHARES) for given, made in pairs]
        if op.type in CONDITIONS:
            return self._largest_branch(op, inputs, outputs)
        touched = sum(self.tensors[number].bytes for number in (*inputs, *outputs))
        is_free = memory == SHARES or op.type in IN_MEMORY_ANYWAY
        seconds = 0.0 if is_free else seconds_for(touched, flops)
        scratch = self._scratch(op)
        if not lists:
            writes = None
            if op.type != "ReadVariableOp" and op.inputs and op.inputs[0].ref() in self._parameters:
                writes = self._parameters[op.inputs[0].ref()]
            return [Operation(inputs, outputs, memory, (), scratch, seconds, writes)]
        passed = [place for place in range(len(outputs)) if place not in lists]
        aligned = tuple(inputs[place] for place in passed)
        made = tuple(outputs[place] for place in lists)
        return [
            Operation(inputs, made, OWN, (), scratch, seconds),
            Operation((*aligned, *made), tuple(outputs[place] for place in passed), SHARES),
        ]

    def _lineage_of(self, op: Any) -> tuple[bool, bool]:
        if op.type == "Const":
            return False, False
        if op.type == "Placeholder":
            is_parameter = op.outputs[0].ref() in self._parameters
            return is_parameter, not is_parameter
        sources = [self._lineage[tensor.ref()] for tensor in op.inputs]
        if not sources:
            return False, True  # random numbers, for instance
        return any(source[0] for source in sources), any(source[1] for source in sources)

    def _bytes(self, op: Any, tensor: tf.Tensor) -> int:
        if tensor.dtype in (tf.resource, tf.variant, tf.string):
            return bytes_of_list(tensor) if op.type in MAKE_LISTS else 0
        elements = tensor.shape.num_elements()
        if elements is None:
            self.num_unknown += op.type != "BroadcastGradientArgs"  # a few numbers
            return 0
        return int(elements * tensor.dtype.size)

    def _scratch(self, op: Any) -> int:
        """Returns what an operation needs while it runs, or the functions that it calls."""
        largest = 0
        made = sum(self.tensors[self.numbers[tensor.ref()]].bytes for tensor in op.outputs)
        for graph in self._called_graphs(op):
            body = _Reader(graph, {})
            largest = max(largest, body.peak_alone())
            self._count(body)
        return max(0, largest - made)

    def peak_alone(self) -> int:
        """Returns the bytes that a function needs besides its inputs, with its outputs."""
        operations = self.operations(self.graph.outputs, ())
        kept = [self.numbers[tensor.ref()] for tensor in self.graph.outputs]
        return max((moment.total for moment in moments(operations, self.tensors, kept)), default=0)

    def _largest_branch(
        self, op: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> list[Operation]:
        """Returns the operations of the branch that needs most, in place of a condition.

        TensorFlow runs them among all others; one may write over what the condition was given.
        """
        graph = max(self._called_graphs(op), key=lambda each: _Reader(each, {}).peak_alone())
        body = _Reader(graph, {}, self.tensors)
        body._parameters = {
            inner.ref(): self._parameters[outer.ref()]
            for inner, outer in zip(graph.inputs, op.inputs[1:], strict=True)
            if outer.ref() in self._parameters
        }
        operations = body.operations(graph.outputs, ())
        self._count(body)
        chosen, *given = inputs
        passed = [body.numbers.get(tensor.ref(), -1) for tensor in graph.inputs]  # or not needed
        made = [body.numbers[tensor.ref()] for tensor in graph.outputs]
        enters = {
            number: Operation((source, chosen), (number,), SHARES)
            for number, source in zip(passed, given, strict=True)
        }
        entered = [
            enters.get(each.outputs[0], each) if each.outputs else each for each in operations
        ]
        leaves = [
            Operation((number,), (output,), SHARES)
            for number, output in zip(made, outputs, strict=True)
        ]
        return [*entered, *leaves]

    def _called_graphs(self, op: Any) -> Iterator[Any]:
        for name in _called(op):
            function = self.graph._get_function(name)
            if function is not None:
                yield function.graph

    def _count(self, body: _Reader) -> None:
        self.flops += body.flops
        self.num_unknown += body.num_unknown
        self.num_loops += body.num_loops


def _later(operation: Operation, first: int) -> Operation:
    """Returns an operation whose `waits_for` count from another one."""
    if not operation.waits_for:
        return operation
    return dataclasses.replace(
        operation, waits_for=tuple(place + first for place in operation.waits_for)
    )


def _in_order(operations: Sequence[Any]) -> list[Any]:
    """Returns operations after those that they need; a loop may get inputs once it is made."""
    places = {op: place for place, op in enumerate(operations)}
    waiting = []
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for place, op in enumerate(operations):
        sources = {places[other] for other in (*(t.op for t in op.inputs), *op.control_inputs)}
        waiting.append(len(sources))
        for source in sources:
            readers[source].append(place)
    ready = [place for place, left in enumerate(waiting) if not left]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(operations[place])
        for reader in readers[place]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    return order


def _kind(
    op: Any, tensor: tf.Tensor, lineage: tuple[bool, bool], gradients: Collection[Any]
) -> str:
    if tensor.ref() in gradients:
        return GRADIENT
    if op.type in IN_MEMORY_ANYWAY:
        return NOT_COUNTED
    return WEIGHT_COPY if lineage == (True, False) else ACTIVATION


def _called(op: Any) -> Iterator[str]:
    if op.type not in CALLERS:  # reading the attributes takes long
        return
    for value in op.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name
