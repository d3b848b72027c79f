"""Microbatches: a replica computes its replica batch in parts, one after another, for one update.

Activations are kept from a forward pass to its backward pass. With K microbatches those of one part
are in memory at a time, about 1/K, for one more copy of the gradients, in which they are added up.
Each part begins by a control edge when the sums of the one before it are there; otherwise
TensorFlow's executor would begin all of them at once. In XLA its inputs depend on those sums.

A microbatch counts like the replica batch of a replica of its own: with n_i of the replica's n_r
examples and gradient g_i, the replica's gradient is sum_i (n_i / n_r) g_i. That is weighted by
n_r / n when the replicas are added up, so each microbatch has the weight n_i / n, as in

    sum_r (n_r / n) sum_i (n_i / n_r) g_i  =  sum_i n_i g_i / n    over all microbatches

and what is exact for replicas (divisors of losses, sums of `add_loss`, means of metrics; see
`loss_weighting`) is exact for microbatches, in the same way.

What a layer does in `call` it does once a microbatch: BatchNormalization normalizes with the
statistics of one microbatch, and moves its moving statistics once for each; a counter of calls
counts microbatches; dropout draws separately.

A microbatch without examples, of a replica batch with fewer rows than parts, computes on a row of
the replica batch, which has no effect, as in a replica without examples (see `replica_step`).

Source: Huang et al. 2019, "GPipe", arXiv:1811.06965, section 2.2 (micro-batches of a mini-batch,
whose gradients are applied together; BatchNorm by micro-batch).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from strategies.devices import all_on
from strategies.keras_support.context.lineage import Lineage, Source
from strategies.keras_support.context.step_context import StepContext, current_step, taking_step
from strategies.keras_support.gradients.gradient_sum import GradientSum
from strategies.keras_support.gradients.tape_gradients import local_gradients
from strategies.keras_support.gradients.xla_order import waiting_for
from strategies.keras_support.metrics.metric_reduction import metric_paths
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.patching.ownership import is_asynchronous
from strategies.keras_support.step.loss_divisors import LossDivisors
from strategies.keras_support.step.microbatch_count import microbatches_of
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


def is_standard(step: Callable[[Any], Logs]) -> bool:
    """Tells whether `step` is Keras's own, which reports the model's metrics and nothing else."""
    own = (keras.Model.train_step, keras.Model.test_step)
    return getattr(step, "__func__", None) in own or getattr(step, "is_like_own", False)


def train_step_of(model: Any) -> Callable[[Any], Logs]:
    """Returns the training step of a model: its `train_step`, or one in microbatches.

    Args:
        model: A compiled Keras model under a strategy of this package.

    Raises:
        ValueError: If it is to compute microbatches and cannot.
    """
    count = microbatches_of(model)
    if count == 1:
        step: Callable[[Any], Logs] = model.train_step
        return step
    require(Need.MICROBATCHES)
    if not is_standard(model.train_step):
        raise ValueError(
            "`microbatches` must be 1 for a model with its own `train_step`, which alone knows "
            f"what it does with a batch. Received: microbatches={count} for {model.name!r} of "
            f"class {type(model).__name__}. Override compute_loss instead of train_step, or add up "
            "gradients in train_step, inside of tfscale.local_gradients()."
        )
    if is_asynchronous(model.distribute_strategy):
        raise ValueError(
            "`microbatches` must be 1 under parameter servers: a worker trains on its own batches, "
            f"one by one. Received: microbatches={count}. Make the batches smaller."
        )
    return MicrobatchStep(model, count)


class MicrobatchStep:
    """Stands in for Keras's `train_step`; called by a replica inside of its step.

    Args:
        model: A compiled Keras model under a strategy of this package.
        count: Microbatches of a replica batch. At least 2. Of a batch with fewer rows, some are
            empty.

    Attributes:
        is_like_own: Tells `is_standard` that it reports what Keras's own step does.
    """

    is_like_own = True

    def __init__(self, model: Any, count: int) -> None:
        self.__name__ = "train_step"
        self._model = model
        self._count = count

    def __call__(self, _: Any) -> Logs:
        """Computes the replica batch of the current step, and applies its gradient."""
        model, whole = self._model, current_step()
        assert whole is not None
        whole.fraction()  # finds the examples of the global batch, if only all replicas know them
        parts = cut_batch(whole, self._count)
        divisors = self._divisors(whole, parts)
        with followed(whole) as lineage:
            gradients, losses, extra = GradientSum(lineage), GradientSum(lineage), []
            logs: Logs = {}
            for part in parts:
                weight = weight_of(part, whole)
                waited = gradients.pending()
                with tf.control_dependencies(waited):
                    after = waiting_for(waited) if waited and self._is_compiled() else None
                    logs, loss, own = self._computed(part, whole, divisors, after)
                    gradients.add(own, weight)
                    losses.add([loss], weight)
                    extra.append((logs, weight))
            (total,) = losses.result()
            whole.record_loss(total)
            self.apply(gradients.result() if model.trainable_weights else [])
        return merged_of_parts(logs, extra, metric_paths(model))

    def apply(self, gradients: list[Any]) -> None:
        """Updates the model's trainable weights; see Keras's `train_step`."""
        model = self._model
        if model.trainable_weights:
            model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        else:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)

    def to_differentiate(self, x: Any, loss: tf.Tensor) -> tf.Tensor:
        """Counts the loss of a microbatch in the metric, and returns it as it is differentiated."""
        model = self._model
        rows = tf.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
        model._loss_tracker.update_state(loss, sample_weight=rows)
        scaled: tf.Tensor = loss if model.optimizer is None else model.optimizer.scale_loss(loss)
        return scaled

    def _computed(
        self,
        part: Microbatch,
        whole: StepContext,
        divisors: LossDivisors,
        after: Callable[[tf.Tensor], tf.Tensor] | None,
    ) -> tuple[Logs, tf.Tensor, list[Any]]:
        """Returns a microbatch's logs, its loss and its gradients; see Keras's `train_step`.

        Args:
            part: The microbatch.
            whole: The context of the replica batch.
            divisors: Those of the losses.
            after: Makes an input wait for the microbatch before, or None.
        """
        model = self._model
        with _taken(model, part, whole, divisors):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(part.of(whole.batch))
            if after is not None:
                x = tf.nest.map_structure(lambda each: each if each is None else after(each), x)
            with tf.GradientTape() as tape:
                predicted, loss = self._forward(x, y, sample_weight)
                scaled = self.to_differentiate(x, loss)
            with local_gradients():
                own = tape.gradient(scaled, model.trainable_weights)
            logs = model.compute_metrics(x, y, predicted, sample_weight=sample_weight)
        return logs, tf.reduce_sum(loss), own

    def _is_compiled(self) -> bool:
        """Tells whether XLA compiles the step."""
        model = self._model
        is_asked = bool(model.jit_compile) and not model.run_eagerly
        return is_asked or all_on("TPU", model.distribute_strategy)

    def _forward(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, tf.Tensor]:
        model = self._model
        predicted = model(x, training=True) if model._call_has_training_arg else model(x)
        loss = model._compute_loss(
            x=x, y=y, y_pred=predicted, sample_weight=sample_weight, training=True
        )
        return predicted, loss

    def _divisors(self, whole: StepContext, parts: list[Microbatch]) -> LossDivisors:
        """Collects the divisors of the losses of all microbatches, if any loss has one."""
        divisors = LossDivisors()

        def collect(part: Microbatch) -> tf.Tensor:
            context = replace(
                whole.microbatch(part.examples, part.stop - part.start),
                state=None,
                clock=None if divisors.is_dry else whole.clock,
                lineage=Lineage((), lambda _: Source.SHARED),
                divisors=divisors,
            )
            regularized = [v for v in self._model.trainable_variables if v.regularizer is not None]
            values = [(v, tf.convert_to_tensor(v.value)) for v in regularized]
            kept = keras.StatelessScope(state_mapping=values, collect_losses=True)
            with taking_step(context), kept:
                divisors.begin_microbatch()
                batch = keras.utils.unpack_x_y_sample_weight(part.of(whole.batch))
                return self._forward(*batch)[1]

        # Traced apart, because what has effects (a tf.print in a layer) would run.
        is_known = False
        with contextlib.suppress(*[Exception] if self._model.run_eagerly else []):
            tf.function(lambda: collect(parts[0]), autograph=False).get_concrete_function()
            is_known = divisors.is_empty
        divisors.is_dry = False
        divisors.clear()
        for part in [] if is_known else parts:
            collect(part)
        divisors.add_up()
        return divisors


@contextlib.contextmanager
def _taken(
    model: Any, part: Microbatch, whole: StepContext, divisors: LossDivisors
) -> Iterator[None]:
    """Surrounds a microbatch; leaves metrics and state as they were if it has no examples."""
    context = whole.microbatch(part.examples, part.stop - part.start)
    context.divisors = divisors
    divisors.begin_microbatch()
    kept = written(model, whole) if part.may_be_empty else []
    with only_examples_count(part, context, whole, kept):
        yield
