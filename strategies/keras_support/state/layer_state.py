"""State of layers: variables that a step assigns are equal on all replicas after it.

A layer that assigns to one of its variables in `call` (a running mean, a codebook, a count) does so
on each replica, with that replica's batch. In Keras the copies differ, and the first is saved. Here
a value that was computed from a replica's own examples joins the next reduction of the step; if the
layer reads it before that, it is reduced at once.

* By default the copies become the mean of what the replicas assigned, weighted by examples. That is
  what one device computes wherever the examples enter as a mean, as in a moving average.
* Where the assignment takes a maximum or minimum with the old value, so do the copies.
* With `aggregation="sum"` the parts that come from a replica's examples are added up, and what does
  not depend on them (such as the decayed old value) counts once: for a count of examples.

What was computed from reduced gradients or from weights (an EMA teacher, an annealed factor) is
equal on all replicas already and is not sent. Integers that depend on the examples can only be
sums, and are refused otherwise.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.lineage import OWN, Lineage, Source
from strategies.keras_support.context.recomputed_pass import current_pass, local_handle
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.context.weight_copies import copy_of
from strategies.keras_support.gradients.step_reduce import Owed, reduce_in_step
from strategies.keras_support.metrics.metric_updates import assigned_form
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.patching.ownership import has_copies


@dataclass
class StepState:
    """What one replica's step has assigned to variables, and what has to be reduced.

    Attributes:
        before: By the id of a variable: the variable and its value when it was last equal on all
            replicas.
        known: Ids of variables that are known to be moved by each replica's own examples.
        is_assigning: Whether a variable of Keras is being assigned.
        assigned: By the id of a variable: those that layers have assigned, from whatever it was.
    """

    before: dict[int, tuple[Any, tf.Tensor]] = field(default_factory=dict)
    known: frozenset[int] = frozenset()
    is_assigning: bool = False
    assigned: dict[int, Any] = field(default_factory=dict)
    _sources: dict[int, Source] = field(default_factory=dict)
    _sums: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    _extremes: dict[int, str] = field(default_factory=dict)
    _owed: dict[int, Any] = field(default_factory=dict)

    def source_of(self, handle: int) -> Source:
        """What a variable's current value depends on, by the id of its handle."""
        return self._sources.get(handle, Source.SHARED)

    def note(self, variable: Any, value: Any, lineage: Lineage) -> None:
        """Called before `value` is assigned to `variable`."""
        key = id(variable)
        self.assigned[key] = variable
        is_known = key in self.known
        source = Source.DATA if is_known else lineage.of(value)
        if key not in self.before and source & OWN and _in_main_graph(value):
            self.before[key] = (variable, tf.identity(variable.value))
        if source & OWN:
            form = None if is_known else assigned_form(value, variable, lineage)
            self._refuse_unsendable(variable, source, form)
            self._owed[key] = variable
            if variable.aggregation == "sum" and not is_known:
                self._sums[key] = _split(value, lineage)
            elif not is_known and form in ("max", "min"):
                self._extremes[key] = form
        elif key in self.before and key not in self._owed and _in_main_graph(value):
            self.before[key] = (variable, tf.identity(value))
        handle = local_handle(variable)
        if handle and self._sources.get(handle, Source.SHARED) != source:
            self._sources[handle] = source
            lineage.forget_reads()

    @property
    def is_owing(self) -> bool:
        """Whether the replicas' copies of a variable differ at this point."""
        return bool(self._owed)

    @property
    def is_owing_unknown(self) -> bool:
        """Whether copies differ of variables that are not `known`, whose next read reduces them."""
        return any(key not in self.known for key in self._owed)

    def owes(self, variable: Any) -> bool:
        """Tells whether `variable` must be reduced before it is read."""
        return id(variable) in self._owed and id(variable) not in self.known

    def take_owed(self) -> Owed:
        """Returns what has to be reduced, and forgets it."""
        waiting, self._owed = self._owed, {}
        owed = Owed()
        for key, variable in waiting.items():
            if key not in self.before:
                raise ValueError(
                    f"`{variable.path}` must not be assigned values that depend on the batch "
                    "inside a tf.cond or tf.while_loop, unless it belongs to a layer of the "
                    "model. Received: such an assignment. Assign it outside, or make it with "
                    "add_weight."
                )
            before = self.before[key][1]
            if variable.aggregation == "sum":
                once, own = self._sums.pop(key, (before, variable.value - before))
                owed.sums.append((variable, once, own))
            elif key in self._extremes:
                owed.extremes.append((variable, self._extremes.pop(key), before))
            else:
                owed.means.append((variable, before))
        return owed

    def note_reduced(self, variable: Any, value: tf.Tensor) -> None:
        """Notes that `variable` now has `value` on all replicas."""
        self.before[id(variable)] = (variable, value)
        self._sources.pop(local_handle(variable), None)

    def drop_owed(self) -> None:
        """Forgets what has to be reduced: the copies may differ until a later step."""
        self._owed.clear()

    def _refuse_unsendable(self, variable: Any, source: Source, form: str | None) -> None:
        if source & Source.LOCAL_GRADIENT:
            raise ValueError(
                "Gradients of tfscale.local_gradients() must be applied in the step that computed "
                f"them. Received: an assignment of one to {variable.path!r}. Omit "
                "local_gradients() if gradients are kept for later steps."
            )
        dtype = tf.as_dtype(variable.dtype)
        if dtype.is_floating or variable.aggregation == "sum" or form in ("max", "min"):
            return
        raise ValueError(
            f"`{variable.path}` must be a float, or declare an aggregation, because each replica "
            f"computes it from its own examples. Received: dtype={variable.dtype}, "
            f"aggregation={variable.aggregation!r}. If it counts, make it with "
            'add_weight(..., aggregation="sum"); otherwise make it a float, or compute it from '
            "values that are equal on all replicas (tfscale.sum_over_replicas)."
        )


def step_state(model: Any, known: list[Any]) -> StepState:
    """Returns the state at the beginning of a step: what layers of `model` may assign.

    Args:
        model: A Keras model under a strategy of this package.
        known: Variables that a step moves by each replica's own examples, such as moving averages.
    """
    before = {id(v): (v, tf.identity(v.value)) for v in own_variables(model)}
    before |= {id(v): (v, tf.identity(v.value)) for v in known if id(v) not in before}
    return StepState(before, frozenset(id(v) for v in known))


def own_variables(model: Any) -> list[Any]:
    """The variables that layers keep besides their weights; not weights that are only frozen."""
    return [
        variable
        for layer in all_layers(model)
        for variable in layer._non_trainable_variables
        if variable._value is not None and variable.synchronization != "on_read"
    ]


def noted_assignment(assign: Any) -> Any:
    """Replaces `Variable.assign`: notes what a step assigns, and what that depends on."""

    @functools.wraps(assign)
    def noted(self: Any, value: Any) -> Any:
        current = current_pass()
        if current is not None:
            return current.assign(self, value, lambda new: assign_noted(self, new))
        return assign_noted(self, value)

    def assign_noted(self: Any, value: Any) -> Any:
        step = current_step()
        for each in step.passes if step is not None else ():
            each.keep(self)
        if step is None or step.state is None or not _is_replicated(self):
            return assign(self, value)
        if not step.is_updating:
            value = self._convert_to_tensor(value, dtype=self._dtype)
            step.state.note(self, value, step.lineage)
        with _assigned_here(self, step.state):
            return assign(self, value)

    return noted


class _ReducedBeforeRead(property):
    """`Variable.value`: what layers assigned in this step is averaged before it is read again."""


def reduced_before_read(value: Any) -> Any:
    """Replaces `Variable.value`: reduces what a step assigned before it is read."""
    read = value.fget

    def reduced(self: Any) -> Any:
        current = current_pass()
        value = None if current is None else current.value_of(self)
        if value is not None:
            return keras.ops.cast(value, self.dtype)
        copy = copy_of(self) if current is None else None
        if copy is not None:
            return keras.ops.cast(copy, self.dtype)
        step = current_step()
        if step is not None and step.state is not None and step.state.owes(self):
            if not step.is_in_main_graph():
                raise ValueError(
                    f"`{self.path}` must not be read inside a tf.cond, tf.while_loop or "
                    "tf.function after it was assigned from the batch in the same step: replicas "
                    "cannot communicate there to average it. Received: such a read. Read it before."
                )
            reduce_in_step([])
        return read(self)

    return _ReducedBeforeRead(reduced)


def _is_replicated(variable: Any) -> bool:
    """Tells whether every replica keeps a copy of `variable` that is meant to be the same."""
    return (
        has_copies(variable, tf.distribute.get_strategy())
        and str(variable.synchronization) != "on_read"
        and variable.aggregation != "only_first_replica"
    )


@contextlib.contextmanager
def _assigned_here(variable: Any, state: StepState) -> Iterator[None]:
    """Lets this replica write its own copy; TensorFlow would reduce it at once."""
    copies = variable._value
    aggregation = copies._aggregation
    copies._aggregation, state.is_assigning = tf.VariableAggregation.NONE, True
    try:
        yield
    finally:
        copies._aggregation, state.is_assigning = aggregation, False


def _in_main_graph(value: Any) -> bool:
    step = current_step()
    return step is not None and step.is_in_main_graph()


def _split(value: Any, lineage: Lineage) -> tuple[Any, Any]:
    """Splits a value into the part that counts once and the part of this replica."""
    if not lineage.of(value) & OWN:
        return value, None
    kind, inputs = lineage.operation(value)
    if not inputs:
        return None, value
    if kind in ("AddV2", "Add", "Sub", "AddN"):
        parts = [_split(each, lineage) for each in inputs]
        signed = [
            [
                -part if kind == "Sub" and i else part
                for i, part in enumerate(side)
                if part is not None
            ]
            for side in zip(*parts, strict=True)
        ]
        return _total(signed[0]), _total(signed[1])
    scaled = _scaled(kind, inputs, lineage)
    if scaled is None:
        return None, value
    part, keep = scaled
    once, own = _split(part, lineage)
    return None if once is None else keep(once), None if own is None else keep(own)


def _total(parts: list[Any]) -> Any:
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _scaled(kind: str, inputs: list[Any], lineage: Lineage) -> Any:
    """Returns the tensor that an operation scales, and how; None where it does something else."""
    if kind == "Mul":
        for part, other in (inputs, inputs[::-1]):
            if not lineage.of(other) & OWN:
                return part, lambda p, by=other: p * by
    if kind == "RealDiv" and not lineage.of(inputs[1]) & OWN:
        return inputs[0], lambda p, by=inputs[1]: p / by
    if kind == "Neg":
        return inputs[0], lambda p: -p
    if kind in ("Identity", "StopGradient"):
        return inputs[0], tf.identity
    return None
