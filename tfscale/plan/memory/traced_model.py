"""A user's model, built without memory and traced: its variables, and what a step of it needs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from strategies.extension import (
    all_layers,
    direct_layers,
    divided_weights,
    graph_of,
    is_divided,
    nodes_in_order,
    owners,
    pipeline_of,
    places_to_cut,
    plan_devices,
    spec_with_rows,
    support,
    traced_train_step,
    train_as_pipeline,
    training_step_of,
)
from tfscale.parallel import TensorRule, tensor_parallel
from tfscale.parallel.layer_costs import OperationCost, bytes_of
from tfscale.parallel.stage_cuts import balanced_cut
from tfscale.plan.memory.cuts import Parameter, bounds_by_path, parameters_of, shares
from tfscale.plan.memory.step_graph import StepGraph, step_graph
from tfscale.plan.memory.unallocated import unallocated_variables
from tfscale.recomputation import recompute

AS_IS = "as_is"
"""Recomputes the layers, or takes the precision, that the model was built with."""
BLOCKS = "blocks"
"""Recomputes each layer directly in the model that contains layers."""

PARAMETER = "parameter"
FIXED = "fixed parameter"
SLOT = "slot"
OTHER = "other"


class NoGradients(ValueError):
    """Raised if a step does not apply gradients with the model's optimizer."""


@dataclass(frozen=True)
class VariableMemory:
    """A variable of a model, its optimizer or its metrics.

    Attributes:
        path: Its Keras path, such as `"dense/kernel"`.
        shape: Its shape.
        dtype: Its dtype, such as `"float32"`.
        role: PARAMETER (trainable), FIXED, SLOT (of the optimizer) or OTHER (metrics, seeds).
        parameter: Of a slot, the path of its parameter; "" if it belongs to none.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    parameter: str = ""

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return int(tf.as_dtype(self.dtype).size)

    @property
    def bytes(self) -> int:
        """Bytes of the whole variable."""
        size = self.element_bytes
        for rows in self.shape:
            size *= rows
        return size


@dataclass(frozen=True)
class StepMemory:
    """What a step of one replica needs besides the variables.

    Attributes:
        rows: Examples of the batch that it was traced for.
        batch_bytes: Bytes of the batch.
        graph: What it does.
        dense_gradients: Bytes of each gradient, with all rows.
    """

    rows: int
    batch_bytes: int
    graph: StepGraph
    dense_gradients: tuple[int, ...]

    @property
    def packed_gradients(self) -> tuple[int, ...]:
        """Bytes of each gradient in the dtype in which it travels."""
        return tuple(each.travels for each in self.graph.gradients)


class TracedModel:
    """A model of the user, built with variables that have no memory.

    Args:
        build: Returns a compiled model and its data; called in the scope of a strategy.
        batch_of: Returns the specification of a batch of the data, a structure of `tf.TypeSpec`.
        devices: Over which each replica divides its matrices.
        rules: How, if `build` has not divided them.

    Attributes:
        optimizer: Name of the optimizer's class, without the one that scales the loss.
        rows: Examples of a batch of the data.
    """

    def __init__(
        self,
        build: Callable[[], tuple[Any, Any]],
        batch_of: Callable[[Any], Any],
        *,
        devices: int = 1,
        rules: Sequence[TensorRule] = (),
    ) -> None:
        self._strategy = support(tf.distribute.OneDeviceStrategy("CPU:0"))
        if devices > 1:
            plan_devices(self._strategy, devices)
        with self._inside():
            self._model, data = build()
            if devices > 1 and not any(map(is_divided, all_layers(self._model))):
                tensor_parallel(self._model, rules)
            self._model.run_eagerly = self._model.jit_compile = False
            self._batch = batch_of(data)
        self._record: list[Any] = []
        self._num_backward = 0
        self._apply = self._model.optimizer.apply
        self._model.optimizer.apply = self._recorded_apply
        self.rows = int(tf.nest.flatten(self._batch)[0].shape[0])
        optimizer = self._model.optimizer
        self.optimizer = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__

    @cached_property
    def variables(self) -> tuple[VariableMemory, ...]:
        """Every variable of model, optimizer and metrics, once a step was traced."""
        return tuple(memory for _, memory in _variables(self._model))

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Where each of `variables` is: a device of the replica, or a piece of a cut model."""
        model, pipeline = self._model, pipeline_of(self._model)
        of_parts = divided_weights(all_layers(model))
        found = {id(part): rank for parts, _ in of_parts for rank, part in enumerate(parts)}
        found |= {} if pipeline is None else owners(pipeline.chunks)
        by_path = {v.path: found.get(id(v), 0) for v in model.trainable_variables}
        # Slots are made where their parameter is; everything else is on the first device.
        return tuple(
            by_path.get(memory.parameter, 0) if memory.role == SLOT else found.get(id(variable), 0)
            for variable, memory in _variables(model)
        )

    @property
    def trainable_places(self) -> tuple[int, ...]:
        """Where each trainable weight is, in the order of the model."""
        by_path = {v.path: place for v, place in zip(self.variables, self.places, strict=True)}
        return tuple(by_path[v.path] for v in self._model.trainable_variables)

    def cut(self) -> Sequence[int]:
        """Cuts the model wherever a pipeline could; later steps are traced in these pieces.

        Returns:
            Where pieces begin, but for the first, in the order of the model's operations.

        Raises:
            ValueError: If it cannot be a pipeline.
        """
        nodes = nodes_in_order(graph_of(self._model))
        places = [place for place, reason in places_to_cut(nodes).items() if not reason]
        plan_devices(self._strategy, len(places) + 1)
        train_as_pipeline(self._model, places, 1, "gpipe", 1)
        training_step_of(self._model)  # refuses what cannot be trained so
        return places

    def parameters(self, replicas: int) -> list[Parameter]:
        """Returns what has to be known of trainable variables to gather them.

        Args:
            replicas: Positive.
        """
        return parameters_of(self._model.optimizer, self._model.trainable_variables, replicas)

    @property
    def has_blocks(self) -> bool:
        """Whether layers directly in the model contain layers."""
        return bool(self._blocks())

    def recompute(self, choice: str) -> None:
        """Chooses the layers that later steps recompute.

        Args:
            choice: AS_IS, BLOCKS, or a regular expression of their names. AS_IS cannot follow
                another choice.

        Raises:
            ValueError: If the model has no such layers.
        """
        if choice == AS_IS:
            return
        layers = self._blocks() if choice == BLOCKS else choice
        if not layers:
            raise ValueError(
                "`recompute` must name layers of the model. Received: 'blocks', but no layer "
                "directly in the model contains layers. Pass a regular expression of names."
            )
        recompute(self._model, layers)

    def _blocks(self) -> list[Any]:
        return [layer for layer in direct_layers(self._model) if direct_layers(layer)]

    def step(self, rows: int) -> StepMemory:
        """Traces a step of one replica.

        Args:
            rows: Examples of its batch. Positive.

        Raises:
            NoGradients: If the step does not apply gradients with the model's optimizer.
        """
        batch = spec_with_rows(self._batch, rows)
        self._record, self._num_backward = [], 0
        with self._inside():
            step = training_step_of(self._model)
            traced = traced_train_step(self._model, batch, for_xla=False, train_step=step)
        if not self._record:
            raise NoGradients(
                "`train_step` must apply its gradients with the optimizer of `compile`, so that "
                f"a plan can tell gradients from activations. Received: a step of "
                f"{type(self._model).__name__} that does not. Call self.optimizer.apply."
            )
        trainable = self._model.trainable_variables
        handles = {id(v.value.handle): number for number, v in enumerate(trainable)}
        numbers = {id(v): number for number, v in enumerate(trainable)}
        gradients = [(g, numbers[id(v)]) for g, v in self._record if g is not None]
        specs = [part for part in tf.nest.flatten(batch) if part is not None]
        return StepMemory(
            rows=rows,
            batch_bytes=sum(_spec_bytes(part) for part in specs),
            graph=step_graph(traced.graph, gradients, handles, self._num_backward, self._holders()),
            dense_gradients=tuple(_dense_bytes(g) for g, _ in gradients),
        )

    def _holders(self) -> dict[int, int]:
        """Returns where variables are, by the `id` of their handles."""
        variables = (variable for variable, _ in _variables(self._model))
        return {
            id(variable.value.handle): place
            for variable, place in zip(variables, self.places, strict=True)
            if place
        }

    def stored_bytes(
        self, here: Sequence[VariableMemory], replicas: int, shard: int
    ) -> tuple[int, int]:
        """Returns the bytes of parameters and slots on a device, of the replica that stores most.

        Args:
            here: The variables on it.
            replicas: Positive.
            shard: 0 to 3; see `device_memory`.
        """
        trainable = self._model.trainable_variables
        bounds = bounds_by_path(self._model.optimizer, trainable, replicas)
        shapes = {v.path: v.shape for v in self.variables if v.role == PARAMETER}

        def on_each(role: str, is_divided: bool) -> list[int]:
            listed = [
                (v.parameter if role == SLOT else v.path, v.shape, v.bytes)
                for v in here
                if v.role == role
            ]
            return shares(listed, bounds if is_divided else {}, shapes, replicas)

        parameters, slots = on_each(PARAMETER, shard >= 3), on_each(SLOT, shard >= 1)
        fixed = sum(v.bytes for v in here if v.role == FIXED)
        most = max(range(replicas), key=lambda r: parameters[r] + slots[r])
        return parameters[most] + fixed, slots[most]

    @property
    def other_bytes(self) -> int:
        """Bytes of the variables that are neither weights nor slots."""
        return sum(variable.bytes for variable in self.variables if variable.role == OTHER)

    def balanced(self, step: StepMemory, pieces: Sequence[int], runs: int) -> list[int]:
        """Returns where runs of layers begin, but for the first, balanced by estimated costs.

        Args:
            step: Of the model, once it was cut.
            pieces: What `cut` returned.
            runs: Positive.

        Raises:
            ValueError: If the model has fewer pieces.
        """
        nodes = nodes_in_order(graph_of(self._model))
        seconds: defaultdict[int, float] = defaultdict(float)
        for operation, unit in zip(step.graph.operations, step.graph.units, strict=True):
            if unit is not None:
                seconds[unit[1]] += operation.seconds
        begins = {place: piece for piece, place in enumerate([0, *pieces])}
        seen: set[int] = set()
        costs = [
            OperationCost(
                node.operation.name,
                seconds[begins[place]] if place in begins else 0.0,  # all of the piece
                bytes_of(node, node.outputs, seen),
            )
            for place, node in enumerate(nodes)
        ]
        reasons = places_to_cut(nodes)
        names = [node.operation.name for node in nodes]
        # The plan is carried out by names: of a layer that is used again they are its first use.
        named = {
            place: reason if names.index(names[place]) == place else "it is used before"
            for place, reason in reasons.items()
        }
        is_enough = list(named.values()).count("") >= runs - 1
        return balanced_cut(nodes, named if is_enough else reasons, runs, lambda: costs)

    def operation_names(self) -> list[str]:
        """Returns the names of the operations of the model, in order; none if it has no graph."""
        with contextlib.suppress(ValueError):
            return [node.operation.name for node in nodes_in_order(graph_of(self._model))]
        return []

    def _recorded_apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        variables = trainable_variables or self._model.optimizer._trainable_variables
        self._record += zip(grads, variables, strict=True)
        graph = tf.compat.v1.get_default_graph()
        self._num_backward = self._num_backward or len(graph.get_operations())
        return self._apply(grads, trainable_variables)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        with self._strategy.scope(), unallocated_variables():
            yield


def _variables(model: Any) -> Iterator[tuple[Any, VariableMemory]]:
    """Yields each variable of Keras, and what it needs."""

    def described(variable: Any, role: str, parameter: str = "") -> tuple[Any, VariableMemory]:
        shape = tuple(int(rows) for rows in variable.shape)
        return variable, VariableMemory(variable.path, shape, variable.dtype, role, parameter)

    trainable = {id(v) for v in model.trainable_variables}
    weights = {id(v) for v in model.weights}
    for variable in model.variables:
        is_weight = PARAMETER if id(variable) in trainable else FIXED
        yield described(variable, is_weight if id(variable) in weights else OTHER)
    by_name = {v.path.replace("/", "_"): v.path for v in model.trainable_variables}
    for variable in model.optimizer.variables:
        # Keras names a slot after its parameter: dense/kernel has adam/dense_kernel_velocity.
        name = variable.path.rpartition("/")[2]
        owners = [own for own in by_name if name.startswith(f"{own}_")]
        owner = by_name[max(owners, key=len)] if owners else ""
        yield described(variable, SLOT, owner)
    for variable in model.metrics_variables:
        yield described(variable, OTHER)


def _spec_bytes(part: Any) -> int:
    elements = part.shape.num_elements() if part.shape.rank is not None else None
    return int((elements or 0) * part.dtype.size)


def _dense_bytes(gradient: Any) -> int:
    return int(gradient.shape.num_elements() * gradient.dtype.size)
