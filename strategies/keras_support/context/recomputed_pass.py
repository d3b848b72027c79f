"""What a recomputed function did in its first pass, so that its second pass does the same.

Between the passes random generators have moved on and layers have assigned their state. A second
pass must draw the same numbers, read the state as it was, and assign nothing. So the first pass
keeps what it drew and what its variables held, and the second reads from there.

A second pass may contain the first pass of a function within it; so passes form a chain.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf


class FirstPass:
    """The first pass of one call of a function.

    Args:
        outer: The second pass that this is a part of, or None.
    """

    def __init__(self, outer: SecondPass | None) -> None:
        self.outer = outer
        self.drawn: list[Any] = []
        self.before: dict[int, Any] = {}
        self.assigned: set[int] = set()
        self.is_assigning = False
        self._read: dict[int, Any] = {}
        self._updated: set[int] = set()
        self._graph = tf.compat.v1.get_default_graph()

    def draw(self, make: Callable[[], Any]) -> Any:
        """Returns `make()`, and keeps it for the second pass."""
        self._refuse_inner_graph("draw random numbers or add up over replicas")
        value = make() if self.outer is None else self.outer.draw(make)
        self.drawn.append(value)
        return value

    def value_of(self, variable: Any) -> Any:
        """Returns the value that `variable` has here if that is not its own, else None."""
        value = None if self.outer is None else self.outer.value_of(variable)
        if value is not None:
            self.before.setdefault(id(variable), value)
        self._read[id(variable)] = variable
        return value

    def assign(self, variable: Any, value: Any, assign: Callable[[Any], Any]) -> Any:
        """Assigns a variable of Keras, and keeps what it held."""
        self._refuse_inner_graph(f"assign {variable.path!r}")
        self._read[id(variable)] = variable
        if self.outer is None:
            self.keep(variable)
            self.assigned.add(local_handle(variable))
            self.is_assigning = True
            try:
                return assign(value)
            finally:
                self.is_assigning = False
        self.before.setdefault(id(variable), self.outer.value_of(variable))
        return self.outer.assign(variable, value, assign)

    def keep(self, variable: Any) -> None:
        """Called before `variable` is assigned, in this pass or after it."""
        if id(variable) in self._read and id(variable) not in self.before:
            self.before[id(variable)] = tf.identity(tf.convert_to_tensor(variable._value))

    def note_updated(self, variables: Sequence[Any]) -> None:
        """Called before an optimizer updates weights."""
        self._updated |= {id(variable) for variable in variables}

    def was_updated(self, variable: Any) -> bool:
        """Tells whether an optimizer has updated a weight since this pass read it."""
        return id(variable) in self._updated and id(variable) in self._read

    def refuse_native(self, name: str) -> None:
        """Refuses an assignment of a `tf.Variable`, which the second pass would do again."""
        raise ValueError(
            "A recomputed function must keep its state in variables of Keras. Received: an "
            f"assignment of a tf.Variable, {name!r}. Make it with layer.add_weight(..., "
            "trainable=False) or keras.Variable."
        )

    def _refuse_inner_graph(self, what: str) -> None:
        if tf.compat.v1.get_default_graph() is not self._graph:
            raise ValueError(
                "A recomputed function must not use a tf.cond, tf.while_loop or tf.function that "
                f"does what cannot be repeated. Received: one that would {what}. Do it outside of "
                "the condition, loop or function, or do not recompute this layer."
            )


class SecondPass:
    """The pass that recomputes: assigns nothing, and draws and reads what the first pass did.

    Args:
        first: The first pass.
        after: Makes what the first pass drew wait for this one.
    """

    def __init__(self, first: FirstPass, after: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._first = first
        self._after = after
        self._values = dict(first.before)
        self._place = 0

    def draw(self, make: Callable[[], Any]) -> Any:
        """Returns what the first pass drew at this place."""
        if self._place == len(self._first.drawn):
            raise ValueError(
                "A recomputed function must do the same in both passes. Received: one that draws "
                f"more than the {self._place} times of its first pass. Do not let it depend on "
                "counters or other state of Python."
            )
        self._place += 1
        return tf.nest.map_structure(self._after, self._first.drawn[self._place - 1])

    def value_of(self, variable: Any) -> Any:
        """Returns the value that `variable` had at this place of the first pass, or None for now's.

        Raises:
            ValueError: If an optimizer has updated it since then.
        """
        if self._first.was_updated(variable):
            raise ValueError(
                f"`{variable.path}` must not be updated before the gradients of all losses that "
                "were computed with it, if its layer is recomputed: the second pass would read the "
                "new value. Received: an update between forward pass and gradient. Compute the "
                "gradients first, or do not recompute this layer."
            )
        return self._values.get(id(variable))

    def assign(self, variable: Any, value: Any, _: Callable[[Any], Any]) -> Any:
        """Lets this pass read `value` as that of a variable of Keras, and leaves the variable."""
        value = variable._convert_to_tensor(value, dtype=variable._dtype)
        self._values[id(variable)] = value
        return value


class _Current(threading.local):
    """The pass that this thread's replica is in."""

    current: FirstPass | SecondPass | None = None


_PASS = _Current()


def current_pass() -> FirstPass | SecondPass | None:
    """Returns the innermost pass of a recomputed function that is running, or None."""
    return _PASS.current


@contextlib.contextmanager
def taking_pass(current: FirstPass | SecondPass) -> Iterator[None]:
    """Makes `current` the pass of this replica."""
    outer, _PASS.current = _PASS.current, current
    try:
        yield
    finally:
        _PASS.current = outer


def drawn(make: Callable[[], Any]) -> Any:
    """Returns `make()`; in a second pass what it returned in the first."""
    current = current_pass()
    return make() if current is None else current.draw(make)


def local_handle(variable: Any) -> int:
    """Returns the id of the eager handle of this replica's copy of a variable of Keras, or 0."""
    value = variable._value
    if isinstance(value, tf.distribute.DistributedValues):
        value = value._get()
    handle = getattr(value, "_handle", None)
    return 0 if handle is None else id(handle)
