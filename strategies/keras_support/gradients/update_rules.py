"""Rules for weights that hold after each update of an optimizer, such as zeros that stay zero.

A rule acts around the innermost optimizer's `apply`, so its gradients are reduced over the replicas
and free of dynamic loss scaling, and a step that is skipped does not reach it:

    reduce -> unscale -> gradients of the rules -> accumulate, clip, decay, update, moving average
           -> what the rules do after the update

Every replica does the same with its copies, from the same values, without communication. Within a
round of local steps (`local_sgd`) weights differ by replica; a rule that decides by them waits for
the end of the round.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from strategies.keras_support.gradients.gradient_reduce import Gradient


class UpdateRule(Protocol):
    """What holds for some weights of one optimizer after each of its updates."""

    @property
    def variables(self) -> list[Any]:
        """The Keras variables that it writes, besides the weights and their moving averages."""

    @property
    def averaged(self) -> list[Any]:
        """Those of `variables` that differ by replica in a round of local steps."""

    def gradients(
        self, optimizer: Any, gradients: list[Gradient | None], weights: Sequence[Any]
    ) -> list[Gradient | None]:
        """Returns the gradients that `optimizer` applies to `weights`; in replica context."""

    def after_update(self, optimizer: Any) -> None:
        """Called when `optimizer` has applied gradients; in replica context."""

    def after_round(self) -> None:
        """Called when replicas that stepped locally are equal again; outside of a step."""


_RULES: weakref.WeakKeyDictionary[Any, list[UpdateRule]] = weakref.WeakKeyDictionary()


def innermost(optimizer: Any) -> Any:
    """Returns the optimizer that updates the weights, inside of loss scaling."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def attach_rule(optimizer: Any, rule: UpdateRule) -> None:
    """Lets a rule hold from the next step that is traced on, after those that are attached.

    Args:
        optimizer: A model's, built.
        rule: One that does not keep `optimizer` alive. Attached once, however often this is called.
    """
    rules = _RULES.setdefault(innermost(optimizer), [])
    if rule not in rules:
        rules.append(rule)


def detach_rule(optimizer: Any, rule: UpdateRule) -> None:
    """Ends a rule; does nothing if it is not attached."""
    rules = _RULES.get(innermost(optimizer), [])
    if rule in rules:
        rules.remove(rule)


def rules_of(optimizer: Any) -> list[UpdateRule]:
    """Returns the rules of an optimizer, the outermost one too, in the order of their calls."""
    return list(_RULES.get(innermost(optimizer), ()))


def written_by_rules(optimizer: Any) -> list[Any]:
    """Returns the variables that the rules of an optimizer write, besides weights and averages."""
    return [variable for rule in rules_of(optimizer) for variable in rule.variables]


def ruled(apply: Any) -> Any:
    """Wraps an optimizer class's own `apply`: its rules act on the innermost optimizer's only."""

    @functools.wraps(apply)
    def ruled_apply(
        self: Any, grads: Sequence[Gradient | None], trainable_variables: Any = None
    ) -> Any:
        rules = _RULES.get(self)
        if not rules:
            return apply(self, grads, trainable_variables)
        weights = self._trainable_variables if trainable_variables is None else trainable_variables
        gradients = list(grads)
        for rule in rules:
            gradients = rule.gradients(self, gradients, weights)
        result = apply(self, gradients, trainable_variables)
        for rule in rules:
            rule.after_update(self)
        return result

    return ruled_apply
