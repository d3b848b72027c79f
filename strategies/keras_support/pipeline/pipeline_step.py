"""The training step of a pipeline: microbatches go through stages on several devices.

A unit is the forward or backward pass of one chunk for one microbatch (see `schedule`). Each is
traced on the device of its stage, with a gradient tape of its own; a backward pass begins with the
gradients that the later stages have computed for the outputs of its chunk. The schedule is kept by
control edges: a unit begins when the unit before it on its device is done. So no more microbatches
are in memory than the schedule says, and devices run beside each other where it lets them.

What counts is as for microbatches (see `step.microbatches`): each counts by its examples. All that
counts replicas sees one replica: the devices of a replica are none of tf.distribute's.

The loss is computed by the last stage. Losses that layers of other stages add (`add_loss`,
regularizers of activations) travel there, as do weights that are regularized.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.step_context import StepContext, current_step, taking_step
from strategies.keras_support.context.weight_copies import reading_copies
from strategies.keras_support.gradients.gradient_sum import GradientSum
from strategies.keras_support.gradients.tape_gradients import local_gradients
from strategies.keras_support.metrics.metric_reduction import metric_paths
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.pipeline.chunk_layer import entered
from strategies.keras_support.pipeline.following_devices import following_inputs
from strategies.keras_support.pipeline.noted_units import noted
from strategies.keras_support.pipeline.pipelined_model import PipelinedModel
from strategies.keras_support.pipeline.schedule import Unit
from strategies.keras_support.pipeline.shared_weights import added_up, copies_on, owners
from strategies.keras_support.placement.means_by_device import means_by_device
from strategies.keras_support.placement.replica_devices import devices_of_this_replica
from strategies.keras_support.sharding.sources import divided
from strategies.keras_support.step.loss_divisors import LossDivisors
from strategies.keras_support.step.microbatch_parts import (
    Logs,
    Microbatch,
    cut_batch,
    followed,
    merged_of_parts,
    only_examples_count,
    weight_of,
    written,
)
from strategies.keras_support.step.microbatches import MicrobatchStep


class PipelineStep(MicrobatchStep):
    """Stands in for Keras's `train_step`; called by a replica inside of its step.

    Args:
        model: A compiled Keras model under a strategy of this package.
        pipeline: How it is computed.
    """

    def __init__(self, model: Any, pipeline: PipelinedModel) -> None:
        super().__init__(model, pipeline.microbatches)
        self._pipeline = pipeline

    def __call__(self, _: Any) -> Logs:
        """Computes the replica batch of the current step, and applies its gradient."""
        model, whole = self._model, current_step()
        assert whole is not None
        whole.fraction()  # finds the examples of the global batch, if only all replicas know them
        parts = cut_batch(whole, self._count, may_be_fewer=False)
        divisors = self._divisors(whole, parts)
        with followed(whole) as lineage:
            run = _Run(self, whole, parts, divisors, lineage)
            for unit in self._pipeline.units:
                with noted(unit):
                    run.take(unit)
            run.note_times()
            (total,) = run.losses.result()
            whole.record_loss(total)
            gradients = run.gradients()
            with following_inputs():
                self.apply(gradients)
        extra = list(zip(run.logs, run.weights, strict=True))
        return merged_of_parts(run.logs[-1], extra, metric_paths(model))


@dataclass
class _InFlight:
    """What a microbatch keeps between its units.

    Attributes:
        context: Of its part of the batch.
        batch: Inputs, targets and weights of examples; from the first unit on.
        known: Tensors by the ids of Keras's symbolic ones: inputs, and outputs of chunks.
        arrived: Gradients of outputs of chunks, from the chunks that use them.
        passes: By chunk, what its backward pass needs.
        added: By chunk, the losses that its layers have added, by layer.
        by_weight: Gradients that the loss itself has of weights of other chunks, by their ids.
        divisor: How many divisors of losses were used.
    """

    context: StepContext
    batch: Any = None
    known: dict[int, Any] = field(default_factory=dict)
    arrived: dict[int, list[Any]] = field(default_factory=dict)
    passes: dict[int, Any] = field(default_factory=dict)
    added: dict[int, list[tuple[Any, list[Any]]]] = field(default_factory=dict)
    by_weight: dict[int, Any] = field(default_factory=dict)
    divisor: int = 0


@dataclass
class _Pass:
    """A forward pass of a chunk.

    Attributes:
        tape: Has recorded it.
        watched: What entered and has a gradient, by the id of what it came from.
        targets: What is differentiated: outputs and added losses; of the last chunk the loss.
    """

    tape: tf.GradientTape
    watched: list[tuple[int, Any]]
    targets: list[tuple[int, Any]]


class _Run:
    """One replica's step.

    Args:
        step: Computes the loss.
        whole: The context of the replica batch.
        parts: Its microbatches.
        divisors: Those of the losses.
        lineage: That of the step.
    """

    def __init__(
        self,
        step: PipelineStep,
        whole: StepContext,
        parts: list[Microbatch],
        divisors: LossDivisors,
        lineage: Any,
    ) -> None:
        self._step, self._whole, self._divisors = step, whole, divisors
        self._model, self._pipeline = step._model, step._pipeline
        self._parts = parts
        self._devices = devices_of_this_replica()
        self._last = len(self._pipeline.chunks) - 1
        self.weights = [weight_of(part, whole) for part in parts]
        self.losses = GradientSum(lineage)
        self.logs: list[Logs] = [{} for _ in parts]
        trainable = {id(v) for v in self._model.trainable_weights}
        self._used = [
            [v for v in chunk.weights if id(v) in trainable] for chunk in self._pipeline.chunks
        ]
        self._sums = [GradientSum(lineage) for _ in self._used]
        stage_of, first = self._pipeline.stage_of, owners(self._pipeline.chunks)
        self._stages = {key: stage_of(c) for key, c in first.items()}
        self._copies = [self._copies_for(c) for c in range(len(self._used))]
        self._done: dict[int, Any] = {}
        self._units = self._pipeline.units
        self._times: dict[tuple[Unit, int], Any] = {}
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        self._is_timed = self._pipeline.times is not None and tf.get_static_value(replica) == 0
        if self._is_timed:
            self._before = self._pipeline.times.read_value()
        self._in_flight = []
        for part in parts:
            context = whole.microbatch(part.examples, part.stop - part.start)
            context.divisors = divisors
            self._in_flight.append(_InFlight(context))
        self._kept = self._kept_by_chunk()

    def take(self, unit: Unit) -> None:
        """Traces one unit, after the one before it on its device."""
        flight = self._in_flight[unit.microbatch]
        stage = self._pipeline.stage_of(unit.chunk)
        waited = self._done.get(stage, [])
        self._divisors.resume(flight.divisor)
        with taking_step(flight.context), tf.device(self._devices[stage]):
            if self._is_timed:
                waited = [self._time_after(unit, 0, [*waited, *self._arrivals(unit, flight)])]
            with tf.control_dependencies(waited):
                if unit.is_forward:
                    part = self._parts[unit.microbatch]
                    kept = self._kept[unit.chunk] if part.may_be_empty else []
                    with only_examples_count(part, flight.context, self._whole, kept):
                        results = self._forward(unit, flight)
                else:
                    results = self._backward(unit, flight)
            if self._is_timed:
                results = [self._time_after(unit, 1, results)]
            with tf.control_dependencies(_tensors_in(results)):
                done = tf.no_op()
        self._done[stage] = [] if done is None else [done]  # eagerly there is no operation
        flight.divisor = self._divisors.position

    def gradients(self) -> list[Any]:
        """Returns the gradients of the model's trainable weights, reduced over the replicas.

        With shard=2 or 3 a replica gets its parts only.
        """
        uses: dict[int, list[Any]] = {}
        for c, (weights, total) in enumerate(zip(self._used, self._sums, strict=True)):
            with tf.device(self._devices[self._pipeline.stage_of(c)]):
                for weight, gradient in zip(weights, total.result(), strict=True):
                    uses.setdefault(id(weight), []).append(gradient)
        trainable = self._model.trainable_weights
        places = [self._stages[id(weight)] for weight in trainable]
        own: list[Any] = []
        for weight, place in zip(trainable, places, strict=True):
            with tf.device(self._devices[place]):
                own.append(added_up(uses[id(weight)]))
                if isinstance(own[-1], tf.Tensor):
                    own[-1].set_shape(weight.shape)  # sums of a Dense's over tokens lose it
        if self._whole.state is not None:  # several replicas
            with following_inputs():
                kept = divided(trainable, own, places)
            for i, part in kept.items():
                own[i] = part
            dense = [i for i, g in enumerate(own) if isinstance(g, tf.Tensor)]
            means = means_by_device(
                [own[i] for i in dense], [places[i] for i in dense], self._whole
            )
            self._whole.lineage.mark(means, Source.REDUCED)
            for i, mean in zip(dense, means, strict=True):
                own[i] = mean
        return own

    def note_times(self) -> None:
        """Keeps when the units ran, if they were timed."""
        if self._is_timed:
            with tf.device("CPU:0"):
                rows = [[self._times[unit, 0], self._times[unit, 1]] for unit in self._units]
                self._pipeline.times.assign(tf.convert_to_tensor(rows))

    def _time_after(self, unit: Unit, column: int, values: Sequence[Any]) -> tf.Tensor:
        """Returns the time when `values` are there, in seconds.

        TensorFlow would run all `tf.timestamp` one after another, in the order of their tracing.
        """
        with tf.device("CPU:0"), tf.control_dependencies(_tensors_in(values)):
            # Not a constant, and another one each time: otherwise the graph is simplified.
            own = self._before[self._units.index(unit), column]
            now = tf.numpy_function(lambda _: time.perf_counter(), [own], tf.float64, False)
        self._times[unit, column] = tf.ensure_shape(now, [])
        return now

    def _arrivals(self, unit: Unit, flight: _InFlight) -> list[Any]:
        """Returns what a unit gets from others."""
        chunk = self._pipeline.chunks[unit.chunk]
        if unit.is_forward:
            return [flight.known[id(t)] for t in chunk.inputs if id(t) in flight.known]
        return [g for t in chunk.outputs for g in flight.arrived.get(id(t), [])]

    def _forward(self, unit: Unit, flight: _InFlight) -> list[Any]:
        """Computes a chunk's outputs; of the last chunk the loss, too."""
        c = unit.chunk
        chunk, layer = self._pipeline.chunks[c], self._pipeline.layers[c]
        if flight.batch is None:
            part = self._parts[unit.microbatch]
            flight.batch = keras.utils.unpack_x_y_sample_weight(part.of(self._whole.batch))
            flight.known = self._pipeline.given(flight.batch[0])
        inputs = [(id(t), entered(flight.known[id(t)])) for t in chunk.inputs]
        with tf.GradientTape() as tape:
            watched = [(key, t) for key, t in inputs if _is_float(t)]
            tape.watch([*(t for _, t in watched), *self._watched_copies(c).values()])
            with reading_copies(self._copies[c]):
                values = layer([t for _, t in inputs], training=True)
            outputs = [(id(t), value) for t, value in zip(chunk.outputs, values, strict=True)]
            flight.added[c] = layer.added_losses()
            if c < self._last:
                targets = [*outputs, *((id(t), t) for t in _losses_in(flight.added[c]))]
                flight.known |= dict(outputs)
                flight.passes[c] = _Pass(tape, watched, targets)
                return [value for _, value in targets]
            watched += self._losses_entered(flight, tape)
            known = flight.known | dict(inputs) | dict(outputs)
            predicted, loss, target = self._loss(unit, flight, self._pipeline.packed(known))
        flight.passes[c] = _Pass(tape, watched, [(0, target)])
        x, y, sample_weight = flight.batch
        self.logs[unit.microbatch] = self._model.compute_metrics(
            x, y, predicted, sample_weight=sample_weight
        )
        self.losses.add([tf.reduce_sum(loss)], self.weights[unit.microbatch])
        return [target]

    def _losses_entered(self, flight: _InFlight, tape: tf.GradientTape) -> list[tuple[int, Any]]:
        """Lets the model find the losses of this microbatch, on the last stage; returns them.

        A layer keeps the losses of its newest call, perhaps for another microbatch.
        """
        watched = []
        for layer in all_layers(self._model):
            layer._losses.clear()
        for c, added in flight.added.items():
            for layer, losses in added:
                copies = losses if c == self._last else [tf.identity(loss) for loss in losses]
                layer._losses.extend(copies)
                if c != self._last:
                    watched += [(id(t), copy) for t, copy in zip(losses, copies, strict=True)]
        tape.watch([t for _, t in watched])
        return watched

    def _loss(self, unit: Unit, flight: _InFlight, predicted: Any) -> tuple[Any, Any, Any]:
        """Returns the predictions, the loss, and what is differentiated."""
        model = self._model
        x, y, sample_weight = flight.batch
        loss = model._compute_loss(
            x=x, y=y, y_pred=predicted, sample_weight=sample_weight, training=True
        )
        return predicted, loss, self._step.to_differentiate(x, loss)

    def _backward(self, unit: Unit, flight: _InFlight) -> list[Any]:
        """Computes the gradients of a chunk's weights and inputs."""
        c = unit.chunk
        used, copies, run = self._used[c], self._watched_copies(c), flight.passes.pop(c)
        is_last = c == self._last
        weights = self._model.trainable_weights if is_last else used
        targets = [t for key, t in run.targets if is_last or key in flight.arrived]
        arrived = (
            None
            if is_last
            else [
                added_up(flight.arrived.pop(key)) for key, _ in run.targets if key in flight.arrived
            ]
        )
        entered_ones = [t for _, t in run.watched]
        sources = [*entered_ones, *copies.values(), *weights]
        found: list[Any] = [None] * len(sources)
        if targets:
            with local_gradients():
                found = run.tape.gradient(targets, sources, output_gradients=arrived)
        of_inputs, of_rest = found[: len(entered_ones)], found[len(entered_ones) :]
        for (key, _), gradient in zip(run.watched, of_inputs, strict=True):
            if gradient is not None:
                flight.arrived.setdefault(key, []).append(gradient)
        by_copy = dict(zip(copies, of_rest, strict=False))
        by_weight = {id(v): g for v, g in zip(weights, of_rest[len(copies) :], strict=True)}
        if is_last:
            ours = {id(v) for v in used}
            flight.by_weight = {k: g for k, g in by_weight.items() if k not in ours}
        terms = [by_weight, by_copy, flight.by_weight]
        gradients = [added_up([each.pop(id(v), None) for each in terms]) for v in used]
        self._sums[c].add(gradients, self.weights[unit.microbatch])
        return [*self._sums[c].pending(), *(g for g in of_inputs if g is not None)]

    def _watched_copies(self, c: int) -> dict[int, Any]:
        return {id(v): self._copies[c][id(v)] for v in self._used[c] if id(v) in self._copies[c]}

    def _copies_for(self, c: int) -> dict[int, Any]:
        """Copies of the weights that a chunk uses and another stage has."""
        stage = self._pipeline.stage_of(c)
        others = [v for v in self._pipeline.chunks[c].weights if self._stages[id(v)] != stage]
        return copies_on(others, self._devices[stage])

    def _kept_by_chunk(self) -> list[list[Any]]:
        """The variables that a forward pass writes on this replica alone, by chunk."""
        owner = {
            id(variable): c
            for c, layer in enumerate(self._pipeline.layers)
            for each in all_layers(layer)
            for variable in each.variables
        }
        kept: list[list[Any]] = [[] for _ in self._pipeline.chunks]
        for variable in written(self._model, self._whole):
            kept[owner.get(id(variable), self._last)].append(variable)
        return kept


def _tensors_in(values: Sequence[Any]) -> list[Any]:
    """Returns the tensors that operations can wait for."""
    flat = tf.nest.flatten([v for v in values if v is not None], expand_composites=True)
    return [t for t in flat if tf.is_tensor(t) or isinstance(t, tf.Operation)]


def _is_float(tensor: Any) -> bool:
    return tensor is not None and (tensor.dtype.is_floating or tensor.dtype.is_complex)


def _losses_in(added: list[tuple[Any, list[Any]]]) -> list[Any]:
    return [loss for _, losses in added for loss in losses]
