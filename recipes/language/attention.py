"""Causal attention within the documents of packed rows."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from recipes.language.rotary import rotated


@keras.saving.register_keras_serializable(package="recipes")
class EarlierInDocument(keras.layers.Layer):
    """Which positions each position may attend to: itself, and earlier ones of its document.

    Once for all blocks. Input: segment ids as of `tfscale.data.packed`, int32 [batch, length].
    Output: bool [batch, 1, to, from]. Padding attends to padding, so that no row is empty.
    """

    def call(self, segment_ids: Any) -> Any:
        """Returns the mask."""
        place = ops.arange(ops.shape(segment_ids)[1])
        is_earlier = place[:, None] >= place[None, :]
        is_same = segment_ids[:, :, None] == segment_ids[:, None, :]
        return ops.logical_and(is_same, is_earlier)[:, None]


@keras.saving.register_keras_serializable(package="recipes")
class CausalAttention(keras.layers.Layer):
    """Multi-head self-attention with rotary positions, without biases.

    Args:
        heads: Heads. Positive.
        output_stddev: Standard deviation of the initial kernel of the output.
        seed: Seed of the initial kernels; the next one is used too.
        **kwargs: Arguments of every layer of Keras.
    """

    def __init__(self, heads: int, output_stddev: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.output_stddev = output_stddev
        self.seed = seed

    def build(self, states_shape: Any) -> None:
        """Creates the kernels."""
        width, normal = states_shape[-1], keras.initializers.RandomNormal
        # Queries, keys and values in one product: large products are faster.
        self.projection = keras.layers.Dense(
            3 * width,
            use_bias=False,
            kernel_initializer=normal(stddev=0.02, seed=self.seed),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.output_projection = keras.layers.Dense(
            width,
            use_bias=False,
            kernel_initializer=normal(stddev=self.output_stddev, seed=self.seed + 1),
            dtype=self.dtype_policy,
            name="output_projection",
        )
        self.projection.build(states_shape)
        self.output_projection.build(states_shape)

    def call(self, states: Any, rotation: Any, allowed: Any) -> Any:
        """Returns what each position attended to.

        Args:
            states: [batch, length, width].
            rotation: Of `RotaryAngles`, [batch, length, width of a head].
            allowed: Of `EarlierInDocument`, bool [batch, 1, to, from].
        """
        return self.attended(*self.projected(states, rotation), allowed)

    def projected(self, states: Any, rotation: Any) -> tuple[Any, Any, Any]:
        """Returns queries, keys and values, [batch, length, heads, width of a head]."""
        projected = self.projection(states)
        head_width = states.shape[-1] // self.heads
        heads = projected.shape[-1] // (3 * head_width)  # those of this device: all, or some
        projected = ops.reshape(projected, (-1, ops.shape(states)[1], 3, heads, head_width))
        query, key, value = ops.unstack(projected, 3, axis=2)
        return rotated(query, rotation), rotated(key, rotation), value

    def attended(self, query: Any, key: Any, value: Any, allowed: Any) -> Any:
        """Returns what queries attend to, [batch, length, width].

        Args:
            query: Queries, of `projected`.
            key: Keys, for any number of positions.
            value: Values, for the same positions.
            allowed: bool [batch, 1, to, from].
        """
        attended = ops.dot_product_attention(
            # Not by its argument `scale`, which Keras 3.15 rounds to float32.
            query * query.shape[-1] ** -0.5,
            key,
            value,
            mask=allowed,
            scale=1.0,
        )
        width = query.shape[2] * query.shape[3]
        return self.output_projection(ops.reshape(attended, (-1, ops.shape(query)[1], width)))

    def compute_output_shape(self, states_shape: Any, *_: Any, **__: Any) -> Any:
        """Returns the shape of the states."""
        return states_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        own = {"heads": self.heads, "output_stddev": self.output_stddev, "seed": self.seed}
        return {**super().get_config(), **own}
