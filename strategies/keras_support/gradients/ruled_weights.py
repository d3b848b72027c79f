"""Some weights of a model, and the optimizer that updates them by a rule."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.update_rules import (
    UpdateRule,
    attach_rule,
    detach_rule,
    innermost,
)
from strategies.keras_support.patching.needs import Need, require


class RuledWeights(UpdateRule):
    """A rule for some weights of a model.

    Args:
        model: A compiled model under a strategy of this package, its optimizer built.
        weights: Of the variables that its optimizer updates.
    """

    def __init__(self, model: Any, weights: Sequence[Any]) -> None:
        require(Need.PRUNING)
        optimizer = innermost(model.optimizer)
        self.strategy = model.distribute_strategy
        self.weights = list(weights)
        # Weak: the table of rules must not keep alive the optimizers that it is keyed by.
        self._optimizer: Callable[[], Any] = weakref.ref(optimizer)
        places = {id(v): place for place, v in enumerate(optimizer._trainable_variables)}
        self._places = [places[id(weight)] for weight in self.weights]

    def is_of(self, model: Any) -> bool:
        """Tells whether the rule can go on for `model`, as it is compiled now."""
        return self._optimizer() is innermost(model.optimizer)

    def attach(self) -> None:
        """Lets the rule hold from the next step that is traced on."""
        attach_rule(self._optimizer(), self)

    def detach(self) -> None:
        """Ends the rule; the weights stay as they are."""
        if (optimizer := self._optimizer()) is not None:
            detach_rule(optimizer, self)

    def gradients(
        self, optimizer: Any, gradients: list[Gradient | None], weights: Sequence[Any]
    ) -> list[Gradient | None]:
        """Returns gradients of which those of the rule's weights are replaced."""
        of_weights = {id(w): place for place, w in enumerate(self.weights)}
        found = list(gradients)
        for i, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
            place = of_weights.get(id(weight))
            if gradient is not None and place is not None:
                found[i] = self._gradient(optimizer, place, gradient)
        return found

    def _gradient(self, optimizer: Any, place: int, gradient: Gradient) -> Gradient:
        """Returns what replaces the gradient of the weight at a place of `weights`."""
        raise NotImplementedError

    def _with_averages(self) -> list[list[Any]]:
        """Returns each weight, and the moving average of it that Keras keeps, if it does."""
        optimizer = self._optimizer()
        if not optimizer.use_ema:
            return [[weight] for weight in self.weights]
        averages = optimizer._model_variables_moving_average
        pairs = zip(self.weights, self._places, strict=True)
        return [[weight, averages[place]] for weight, place in pairs]

    def _own(self, variable: Any) -> tf.Tensor:
        """Returns the value on this worker's first replica."""
        return tf.identity(self.strategy.experimental_local_results(variable.value)[0])
