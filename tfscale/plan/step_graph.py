"""A traced step as operations and tensors for `liveness`, and its floating-point operations."""

from __future__ import annotations

import dataclasses
import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tensorflow as tf

from strategies.extension import needed_operations
from tfscale.plan.blocks import Blocks
from tfscale.plan.liveness import (
    ACTIVATION,
    GRADIENT,
    MAY_REUSE,
    NOT_COUNTED,
    OWN,
    SHARES,
    WEIGHT_COPY,
    Moment,
    Operation,
    Tensor,
    moments,
    moments_of_threads,
)
from tfscale.plan.loops import MAKE_LISTS, bytes_kept, bytes_of_list

_SHARING = """
Identity IdentityN Reshape ExpandDims Squeeze StopGradient PreventGradient Snapshot CheckNumerics
EnsureShape While StatelessWhile
"""
_REUSING = """
Abs Add AddN AddV2 BiasAdd Cast Cos DivNoNan Elu EluGrad Erf Erfc Exp Expm1 LeakyRelu LeakyReluGrad
Log Log1p LogSoftmax Maximum Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Relu Relu6 Relu6Grad
ReluGrad Round Rsqrt RsqrtGrad SelectV2 Selu SeluGrad Sigmoid SigmoidGrad Sign Sin Softmax Softplus
SoftplusGrad Softsign Sqrt SqrtGrad Square SquaredDifference Sub Tanh TanhGrad Xdivy Xlogy ZerosLike
"""
_CALLING = """
Case If PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile While
"""
_MEMORY = {
    **dict.fromkeys(_SHARING.split(), SHARES),
    **dict.fromkeys(_REUSING.split(), MAY_REUSE),
}
_CALLERS = frozenset(_CALLING.split())
_SHARERS = frozenset(_SHARING.split())
_THREADS = 2
"""More threads update more variables at a time; a GPU computes one operation after another."""
_START, _BYTES_A_SECOND, _FLOPS_A_SECOND = 2e-6, 6e9, 40e9
"""Of a core. Only their ratios matter, and only for which operations overlap."""
_IN_MEMORY_ANYWAY = frozenset(("Const", "Placeholder", "ReadVariableOp", "VarHandleOp"))
_CONDITIONS = frozenset(("Case", "If", "StatelessCase", "StatelessIf"))
_LOOPS = frozenset(("While", "StatelessWhile"))


@dataclass(frozen=True)
class StepGraph:
    """What a traced step needs, in the order of its execution.

    Attributes:
        backward: During forward and backward pass, to the last gradient.
        update: After that: clipping, the optimizer, metrics.
        overlapped: During all of it on one replica, where nothing is reduced between.
        padding: What the allocator's blocks take beyond that, as a fraction.
        flops: Floating-point operations of the matrix products and convolutions of a step.
        num_unknown: Tensors whose size is not known before the step runs, and which count as 0.
        num_loops: Loops that keep what is not known before the step runs, and which counts as 0.
    """

    backward: tuple[Moment, ...]
    update: tuple[Moment, ...]
    overlapped: tuple[Moment, ...]
    padding: float
    flops: int
    num_unknown: int
    num_loops: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What `liveness` could not count, in sentences."""
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
    gradients: Iterable[tf.Tensor],
    parameters: Collection[int],
    num_backward: int,
) -> StepGraph:
    """Returns what a traced step needs.

    Args:
        graph: The graph of the traced step, a `FuncGraph`.
        gradients: Its tensors that are the gradients of parameters, without repetition.
        parameters: The `id` of the handle of each trainable variable.
        num_backward: Operations of `graph` that were made before the first gradient was applied.
    """
    reader = _Reader(graph, parameters)
    is_gradient = {tensor.ref() for tensor in gradients}
    operations = reader.operations([*graph.outputs, *gradients], is_gradient)
    earlier = set(graph.get_operations()[:num_backward])
    first = [place for place, op in enumerate(reader.sources) if op in earlier]
    last = [place for place, op in enumerate(reader.sources) if op not in earlier]
    backward = [_among(operations[place], first) for place in first]
    read_later = {number for place in last for number in operations[place].inputs}
    made = {number for operation in backward for number in operation.outputs}
    update = moments([*backward, *(operations[place] for place in last)], reader.tensors)
    blocks = Blocks()
    overlapped = moments_of_threads(operations, reader.tensors, threads=_THREADS, blocks=blocks)
    requested = max(moment.total for moment in overlapped)
    return StepGraph(
        backward=tuple(
            moments_of_threads(backward, reader.tensors, read_later & made, threads=_THREADS)
        ),
        update=tuple(update[len(backward) :]),
        overlapped=tuple(overlapped),
        padding=max(0.0, blocks.peak / requested - 1.0) if requested else 0.0,
        flops=reader.flops,
        num_unknown=reader.num_unknown,
        num_loops=reader.num_loops,
    )


def _among(operation: Operation, places: Sequence[int]) -> Operation:
    """Returns an operation that waits for those of `places` only, by their new numbers."""
    if not operation.waits_for:
        return operation
    numbers = (bisect_left(places, other) for other in operation.waits_for if other in places)
    return dataclasses.replace(operation, waits_for=tuple(numbers))


class _Reader:
    """Translates the operations of one graph, and those of the functions that it calls."""

    def __init__(
        self, graph: Any, parameters: Collection[int], tensors: list[Tensor] | None = None
    ) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = [] if tensors is None else tensors
        self.numbers: dict[Any, int] = {}
        self.flops = 0
        self.num_unknown = 0
        self.num_loops = 0
        # By tensor: whether it depends on a parameter, and on anything else but constants.
        self._lineage: dict[Any, tuple[bool, bool]] = {}
        self._parameters = {
            inner.ref() for outer, inner in graph.captures if id(outer) in parameters
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
        lists = bytes_kept(op, _SHARERS) if op.type in _LOOPS else {}
        self.num_loops += lists is None
        for place, tensor in enumerate(op.outputs):
            self._lineage[tensor.ref()] = lineage
            self.numbers[tensor.ref()] = len(self.tensors)
            kind = _kind(op, tensor, lineage, gradients)
            own = (lists or {}).get(place, 0)
            self.tensors.append(Tensor(own or self._bytes(op, tensor), kind))
        flops = _flops(op)
        self.flops += flops
        makes_list = op.type in MAKE_LISTS and op.outputs[0].dtype == tf.variant
        memory = OWN if makes_list else _MEMORY.get(op.type, OWN)
        inputs = tuple(self.numbers[tensor.ref()] for tensor in op.inputs)
        outputs = tuple(self.numbers[tensor.ref()] for tensor in op.outputs)
        if op.type == "IdentityN":  # TensorFlow makes one operation of each output
            pairs = zip(inputs, outputs, strict=True)
            return [Operation((given,), (made,), SHARES) for given, made in pairs]
        if op.type in _CONDITIONS:
            return self._largest_branch(op, inputs, outputs)
        touched = sum(self.tensors[number].bytes for number in (*inputs, *outputs))
        is_free = memory == SHARES or op.type in _IN_MEMORY_ANYWAY
        seconds = 0.0 if is_free else _START + touched / _BYTES_A_SECOND + flops / _FLOPS_A_SECOND
        scratch = self._scratch(op)
        if not lists:
            return [Operation(inputs, outputs, memory, (), scratch, seconds)]
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
            body = _Reader(graph, ())
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
        graph = max(self._called_graphs(op), key=lambda each: _Reader(each, ()).peak_alone())
        body = _Reader(graph, (), self.tensors)
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
    if op.type in _IN_MEMORY_ANYWAY:
        return NOT_COUNTED
    return WEIGHT_COPY if lineage == (True, False) else ACTIVATION


def _called(op: Any) -> Iterator[str]:
    if op.type not in _CALLERS:  # reading the attributes takes long
        return
    for value in op.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


def _flops(op: Any) -> int:
    """Returns two for each multiplication and addition of a matrix product or convolution."""
    shapes = [tensor.shape for tensor in op.inputs]
    if op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        first = "transpose_a" if op.type == "MatMul" else "adj_x"
        return _product(op.outputs[0].shape, [shapes[0][-2 if op.get_attr(first) else -1]])
    if op.type == "Einsum":
        terms = op.get_attr("equation").decode().partition("->")[0].split(",")
        if any("." in term for term in terms):
            return 0
        sizes = {
            label: size
            for term, shape in zip(terms, shapes, strict=True)
            for label, size in zip(term, shape, strict=True)
        }
        return _product([], sizes.values()) if len(terms) == 2 else 0
    if op.type in ("Conv2D", "Conv3D", "Conv"):
        return _product(op.outputs[0].shape, shapes[1][:-1])
    if op.type in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        return _product(shapes[2], shapes[1][:-1])
    if op.type in ("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"):
        return _product(shapes[2], op.outputs[0].shape[:-1])
    return 0


def _product(shape: Sequence[int | None], more: Iterable[int | None]) -> int:
    sizes = [*shape, *more]
    return 0 if any(size is None for size in sizes) else 2 * prod(int(size or 0) for size in sizes)
