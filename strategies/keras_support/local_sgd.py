"""Local SGD: replicas train independently for a round, then their parameters are averaged.

Within a round a replica's gradient, slots, BatchNorm statistics and what other layers keep are its
own, and nothing is communicated. At its end everything that the steps wrote becomes the mean over
the replicas, weighted by the examples each has seen in the round. So a step of an optimizer that is
linear in its gradients (SGD, with momentum too), followed by such a mean, is the synchronous step:

    sum_r (n_r / n) (w - a g_r) = w - a sum_r (n_r / n) g_r

Slots are averaged with the parameters. That makes this true of momentum, is what the analysis of
local momentum assumes, and leaves all copies of every variable equal wherever a model is evaluated
or saved.

Source: Stich 2019, arXiv:1805.09767, algorithm 1 (parameters); Yu, Jin, Yang 2019,
arXiv:1905.03817, algorithm 1 (momentum with them); McMahan et al. 2017, arXiv:1602.05629,
algorithm 1 (weights by examples).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.gradients.gradient_reduce import reduce_gradients
from strategies.keras_support.gradients.local_steps import LocalRound, stepping_locally
from strategies.keras_support.gradients.update_rules import rules_of
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.model.outside_scope import refuse_model_outside
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.pipeline.pipelined_model import pipeline_of
from strategies.keras_support.sharding.stages import stage_of
from strategies.keras_support.state.batch_norm import moving_statistics
from strategies.keras_support.step.microbatch_count import microbatches_of


def trains_on_one_replica(model: Any) -> bool:
    """Tells whether `model` trains on one replica, so there is nothing to average.

    Raises:
        ValueError: If it trains on several replicas of a strategy that this package did not build.
    """
    strategy = model.distribute_strategy
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return True
    refuse_model_outside(model, "LocalUpdates", factory="strategies.mirrored_strategy()")
    return False


def trace_step_again(model: Any) -> None:
    """Lets the next step be traced again, because rules of its optimizer have changed.

    Local training makes its own function when it begins, and traces it at the first step.
    """
    if not isinstance(model.train_function, LocalTraining):
        model.make_train_function(force=True)


class LocalTraining:
    """Stands in for a model's train function during one `fit`, on several replicas.

    Keras calls it once an execution, after `expect`.
    """

    def __init__(self, model: Any, every: int) -> None:
        """Replaces the train function of the model.

        Args:
            model: Compiled under a strategy of this package.
            every: Steps of a round. A positive multiple of the model's `steps_per_execution`.

        Raises:
            ValueError: If rounds do not end with executions, or the model cannot be averaged.
        """
        _refuse_impossible(model, every)
        self._model = model
        self._every = every
        self._strategy = model.distribute_strategy
        with self._strategy.scope():
            examples = tf.Variable(
                tf.constant(0, tf.int64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
        self._round = LocalRound(examples)
        # A function that was traced before reduces gradients, or belongs to a `fit` that failed.
        model.train_function = None
        model.make_train_function()
        self._train = model.train_function
        self._mean: Any = None
        self._steps = 0
        self._steps_of_epoch = 0
        self._epoch: int | None = None
        self._is_expected = False
        model.train_function = self

    def replace_step(self, train: Any) -> None:
        """Goes on with another train function of the model, such as one that is watched."""
        self._train = train

    def begin_epoch(self, steps: int | None) -> None:
        """Begins an epoch of `steps` steps, or None if the number is not known."""
        self._epoch = steps
        self._steps_of_epoch = 0

    def expect(self) -> None:
        """Marks the next call as one of the `fit` that this belongs to."""
        self._is_expected = True

    def __call__(self, iterator: Any) -> Any:
        """Takes the steps of one execution, and ends the round if it is over."""
        if not self._is_expected:  # its `fit` failed, and now the model is trained without it
            self.end()
            self._model.make_train_function()
            return self._model.train_function(iterator)
        self._is_expected = False
        count = getattr(iterator, "count", None) or self._model.steps_per_execution
        try:
            with stepping_locally(self._model.optimizer, self._round):
                logs = self._train(iterator)
        except StopIteration:
            self.average()
            raise
        self._steps += count
        self._steps_of_epoch += count
        is_last = self._epoch is not None and self._steps_of_epoch >= self._epoch
        if self._steps >= self._every or is_last:
            self.average()
        return logs

    def average(self) -> None:
        """Sets all replicas to the mean of their values, if there was a step since the last time.

        Collective: all workers call it after the same step.
        """
        if self._steps == 0:
            return
        self._steps = 0
        if self._mean is None:
            self._mean = self._mean_function()
        self._mean()
        for rule in rules_of(self._model.optimizer):
            rule.after_round()

    def end(self) -> None:
        """Averages for the last time and lets the model reduce gradients again."""
        self.average()
        if self._model.train_function is self:
            self._model.train_function = None

    def _mean_function(self) -> Any:
        model, examples = self._model, self._round.examples
        statistics = moving_statistics(model)
        noted = {id(v) for v in statistics}
        variables = [
            *model.trainable_variables,
            *_slots(model.optimizer),
            *statistics,
            *(v for key, v in self._round.assigned.items() if key not in noted),
            *(variable for rule in rules_of(model.optimizer) for variable in rule.averaged),
        ]

        def on_replica() -> Any:
            seen = tf.identity(examples)
            values = [tf.convert_to_tensor(variable.value) for variable in variables]
            means = reduce_gradients(values, seen)
            examples.assign(tf.zeros_like(seen))
            return means

        def mean() -> None:
            means = self._strategy.run(on_replica)
            for variable, of_replicas in zip(variables, means, strict=True):
                variable.assign(self._strategy.experimental_local_results(of_replicas)[0])

        return mean if model.run_eagerly else tf.function(mean, autograph=False)


def _slots(optimizer: Any) -> list[Any]:
    """The slots of an optimizer, without its counter and rate, which are equal on all replicas."""
    alike = (optimizer.iterations, optimizer._iterations, optimizer._learning_rate)
    return [
        variable
        for variable in optimizer.variables
        if not any(variable is other for other in alike) and "float" in variable.dtype
    ]


def _refuse_impossible(model: Any, every: int) -> None:
    require(Need.LOCAL_UPDATES)
    if microbatches_of(model) > 1:
        raise ValueError(
            "`callbacks` must not combine LocalUpdates with microbatches, which is not supported. "
            f"Received: both, {microbatches_of(model)} microbatches. Use one of the two."
        )
    if pipeline_of(model) is not None:
        raise ValueError(
            "`callbacks` must not contain LocalUpdates for a pipeline, which adds up gradients "
            "over the replicas in each step. Received: both, for "
            f"{model.name!r}. Use one of the two."
        )
    if stage_of(model.distribute_strategy):
        raise ValueError(
            "`callbacks` must not contain LocalUpdates under a strategy with shard > 0, because "
            "each replica needs a whole model to step by itself. Received: "
            f"shard={stage_of(model.distribute_strategy)}. Use one of the two."
        )
    if every % model.steps_per_execution:
        raise ValueError(
            "`every` must be a multiple of the model's steps_per_execution, since replicas are "
            f"averaged between executions. Received: every={every}, "
            f"steps_per_execution={model.steps_per_execution}. Compile the model with "
            f"steps_per_execution={every}."
        )
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`optimizer` must not scale the loss: replicas that step locally would skip different "
            "steps, and their learning rates would differ. Received: a LossScaleOptimizer. Use "
            "mixed_bfloat16 or "
            "float32."
        )
    for layer in all_layers(model):
        if getattr(layer, "synchronized", False):
            raise ValueError(
                "`model` must not have a BatchNormalization with synchronized=True: its "
                "statistics would combine replicas whose parameters differ. Received: layer "
                f"{layer.name!r}. Use synchronized=False."
            )
