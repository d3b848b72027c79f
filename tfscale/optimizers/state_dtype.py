"""Optimizer slots that are stored in bfloat16, and computed with in the dtype of their variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import floats_read_as, one_of, whole_number

STATE_DTYPES = ("bfloat16",)
ROUNDINGS = ("stochastic", "nearest")

_KEPT = ("average", "gradient_accumulator")
"""Names of variables that are no slots of the update: averages of weights, sums of gradients."""


def with_state_dtype(
    optimizer: keras.optimizers.Optimizer,
    dtype: str = "bfloat16",
    *,
    rounding: str = "stochastic",
    seed: int = 0,
) -> keras.optimizers.Optimizer:
    """Lets an optimizer store its slots in bfloat16, which halves their memory.

    Slots are moments, accumulators and whatever else an optimizer keeps for each element of a
    variable. An update reads them, computes in the variable's dtype (at least float32), and rounds
    the new slots once. Averages of the weights (`use_ema`) and accumulated gradients keep their
    dtype.

    bfloat16 has 8 bits of precision. Rounded to the nearest, a slot that moves by less than 1/512
    of itself in a step stays where it is: Adam's second moment with beta_2 = 0.999 hardly falls
    when gradients do. So a value x between two neighbours a < b is rounded to b with the
    probability (x - a) / (b - a), which keeps its mean. The random numbers depend on the seed, the
    slot, the position in it and the number of the update, so they are the same on every replica and
    in a run that is resumed. Sharded slots draw for each part, and so round otherwise.

    The optimizer keeps its class, and a `.keras` file contains only that. Keras loads the file with
    slots in float32. To continue in bfloat16, resume from `tfscale.callbacks.Checkpoint`.

    Args:
        optimizer: A new optimizer of Keras or tfscale, or one of your own whose `update_step`
            assigns slots by `self.assign`, `assign_add` and `assign_sub`, as Keras's do.
        dtype: "bfloat16". float16 is not offered: squares of gradients below 6e-8 would become 0.
        rounding: "stochastic", or "nearest".
        seed: Of the random numbers, at least 0.

    Returns:
        The same optimizer.

    Raises:
        ValueError: If the optimizer has no slots, has already trained, or only wraps another one.

    Example:
        >>> optimizer = with_state_dtype(keras.optimizers.Adam(1e-3))
        >>> optimizer.build([keras.Variable([1.0, 2.0])])
        >>> [slot.dtype for slot in optimizer.variables[-2:]]
        ['bfloat16', 'bfloat16']

    Source: Zamirai et al. 2020, "Revisiting BFloat16 training", arXiv:2010.06192, section 3.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"`optimizer` must be a Keras optimizer. Received: optimizer={optimizer!r}. Pass one, "
            "such as keras.optimizers.Adam(1e-3)."
        )
    one_of("dtype", dtype, STATE_DTYPES)
    one_of("rounding", rounding, ROUNDINGS)
    seed = whole_number("seed", seed, at_least=0)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`optimizer` must be the one that updates. Received: a LossScaleOptimizer, which only "
            "scales the loss. Wrap afterwards: LossScaleOptimizer(with_state_dtype(inner))."
        )
    if optimizer.built:
        raise ValueError(
            f"`optimizer` must be new. Received: {optimizer.name!r}, which has its slots already. "
            "Call with_state_dtype before build, compile and fit."
        )
    if isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum:
        raise ValueError(
            "`optimizer` must have slots. Received: SGD without momentum, which has none. Leave "
            "with_state_dtype out."
        )
    if stored_state_of(optimizer) is None:
        vars(optimizer)[_STATE] = _StoredState(optimizer, rounding, seed)
    return optimizer


_STATE = "_tfscale_stored_state"


def stored_state_of(optimizer: Any) -> Any:
    """Returns how `optimizer` stores its slots, for `with_same_state_dtype`; None if as Keras."""
    return vars(optimizer).get(_STATE)


def with_same_state_dtype(optimizer: Any, source: Any) -> Any:
    """Lets a copy of an optimizer store its slots as the original does, and returns the copy."""
    state = stored_state_of(source)
    if state is not None:
        with_state_dtype(optimizer, rounding=state.rounding, seed=state.seed)
    return optimizer


class _StoredState:
    """Replaces methods of one optimizer, so that it makes and updates slots in bfloat16.

    An update runs in a `keras.StatelessScope`, which collects new slots, and reads slots in the
    dtype that it computes in.
    """

    def __init__(self, optimizer: Any, rounding: str, seed: int) -> None:
        self.rounding = rounding
        self.seed = seed
        self._optimizer = optimizer
        self._places: dict[int, int] = {}
        self._is_making_slot = False
        self._scope: Any = None
        self._original = {
            name: getattr(optimizer, name)
            for name in (
                *("add_variable", "add_variable_from_reference"),
                *("update_step", "assign", "assign_add", "assign_sub"),
            )
        }
        # Not by setattr: Keras looks for variables in what is set.
        vars(optimizer).update(
            add_variable=self._add_variable,
            add_variable_from_reference=self._add_slot,
            update_step=self._update_step,
            assign=self._assigning("assign", lambda _, new: new),
            assign_add=self._assigning("assign_add", lambda old, new: old + new),
            assign_sub=self._assigning("assign_sub", lambda old, new: old - new),
        )

    def _add_variable(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_making_slot and tf.as_dtype(kwargs["dtype"]).is_floating:
            kwargs["dtype"] = "bfloat16"
        return self._original["add_variable"](*args, **kwargs)

    def _add_slot(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        self._is_making_slot = name not in _KEPT
        try:
            slot = self._original["add_variable_from_reference"](
                reference_variable, name=name, initializer=initializer
            )
        finally:
            self._is_making_slot = False
        if name not in _KEPT:
            self._places[id(slot)] = len(self._places)
        return slot

    def _update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        width = "float64" if tf.as_dtype(variable.dtype) == tf.float64 else "float32"
        with floats_read_as(width), keras.StatelessScope() as scope:
            self._scope = scope
            try:
                self._original["update_step"](gradient, variable, learning_rate)
            finally:
                self._scope = None
        for each in self._optimizer.variables:
            value = scope.get_current_value(each)
            if value is not None and id(each) in self._places:
                self._original["assign"](each, self._rounded(value, self._places[id(each)]))
            elif value is not None:
                each.assign(value)

    def _assigning(
        self, name: str, combine: Callable[[Any, Any], Any]
    ) -> Callable[[Any, Any], None]:
        """Returns what replaces a method that assigns a variable."""

        def assign(variable: Any, value: Any) -> None:
            if self._scope is None or id(variable) not in self._places:
                self._original[name](variable, value)
                return
            old = tf.convert_to_tensor(variable.value)
            if isinstance(value, tf.IndexedSlices):
                rows = value.indices[:, tf.newaxis]
                new = tf.cast(value.values, old.dtype)
                if name == "assign":
                    total = tf.tensor_scatter_nd_update(old, rows, new)
                else:
                    change = tf.scatter_nd(rows, new, tf.shape(old, rows.dtype))
                    total = combine(old, change)
            else:
                total = combine(old, tf.cast(value, old.dtype))
            self._scope.add_update((variable, total))

        return assign

    def _rounded(self, value: tf.Tensor, place: int) -> tf.Tensor:
        if self.rounding == "nearest":
            return tf.cast(value, tf.bfloat16)
        update = tf.cast(tf.convert_to_tensor(self._optimizer.iterations), tf.int64)
        own = tf.constant((self.seed * 1_000_003 + place) % (1 << 62), tf.int64)
        return rounded_stochastically(value, tf.stack([own, update]))


def rounded_stochastically(value: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Rounds to one of the two neighbours in bfloat16, so that the mean is the value.

    bfloat16 is the upper half of float32. A random number from 0 to 2**16 - 1 is added to the lower
    half, which is then cut off: it carries with the probability lower / 2**16. Sign and magnitude
    are separate, so negative numbers are treated alike. Values that bfloat16 has, inf and NaN stay.

    Args:
        value: float32 or float64; of float64 the nearest float32 is rounded.
        seed: int64 [2]. The same seed draws the same numbers on any device.

    Returns:
        bfloat16, of the same shape.

    Example:
        >>> rounded_stochastically(tf.constant([1.0, -0.5]), tf.constant([1, 2], tf.int64)).numpy()
        array([1, -0.5], dtype=bfloat16)
    """
    single = tf.cast(value, tf.float32)
    drawn = tf.random.stateless_uniform(
        tf.shape(single), seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    bits = tf.bitcast(single, tf.uint32)
    noisy = bits + tf.bitwise.bitwise_and(drawn, tf.constant(0xFFFF, tf.uint32))
    cut = tf.bitwise.bitwise_and(noisy, tf.constant(0xFFFF0000, tf.uint32))
    rounded = tf.cast(tf.bitcast(cut, tf.float32), tf.bfloat16)
    return tf.where(tf.math.is_finite(single), rounded, tf.cast(single, tf.bfloat16))
