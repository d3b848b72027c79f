"""A block of the transformer: attention, then a gated feed-forward layer, both on residuals."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from recipes.language.attention import CausalAttention


@keras.saving.register_keras_serializable(package="recipes")
class SwiGLU(keras.layers.Layer):
    """The gated feed-forward layer `(silu(x G) * (x U)) D`, without biases.

    Args:
        hidden_width: Columns of G and U. Positive.
        output_stddev: Standard deviation of the initial D.
        seed: Seed of the initial kernels; the next one is used too.
        **kwargs: Arguments of every layer of Keras.

    Source: Shazeer 2020, arXiv:2002.05202, equation 6.
    """

    def __init__(self, hidden_width: int, output_stddev: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_width = hidden_width
        self.output_stddev = output_stddev
        self.seed = seed

    def build(self, states_shape: Any) -> None:
        """Creates the kernels: G and U beside each other, and D."""
        normal = keras.initializers.RandomNormal
        self.gate_and_up = keras.layers.Dense(
            2 * self.hidden_width,
            use_bias=False,
            kernel_initializer=normal(stddev=0.02, seed=self.seed),
            dtype=self.dtype_policy,
            name="gate_and_up",
        )
        self.down = keras.layers.Dense(
            states_shape[-1],
            use_bias=False,
            kernel_initializer=normal(stddev=self.output_stddev, seed=self.seed + 1),
            dtype=self.dtype_policy,
            name="down",
        )
        self.gate_and_up.build(states_shape)
        self.down.build((*states_shape[:-1], self.hidden_width))

    def call(self, states: Any) -> Any:
        """Returns a tensor like `states`, [batch, length, width]."""
        gate, up = ops.split(self.gate_and_up(states), 2, axis=-1)
        return self.down(ops.silu(gate) * up)

    def compute_output_shape(self, states_shape: Any) -> Any:
        """Returns the shape of the states."""
        return states_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        own = {
            "hidden_width": self.hidden_width,
            "output_stddev": self.output_stddev,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="recipes")
class DecoderBlock(keras.layers.Layer):
    """`x += attention(norm(x))`, then `x += feed_forward(norm(x))`.

    Norms are `keras.layers.RMSNormalization`, before each part, so that the residual is never
    normalized. Source: Zhang and Sennrich 2019, arXiv:1910.07467.

    Args:
        heads: Heads of the attention. Positive.
        hidden_width: Hidden elements of the feed-forward layer. Positive.
        output_stddev: Standard deviation of the initial kernels that add to the residual.
        seed: Seed of the initial kernels; the next three are used too.
        **kwargs: Arguments of every layer of Keras.
    """

    def __init__(
        self, heads: int, hidden_width: int, output_stddev: float, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.hidden_width = hidden_width
        self.output_stddev = output_stddev
        self.seed = seed
        policy = self.dtype_policy
        self.attention_norm = keras.layers.RMSNormalization(dtype=policy, name="attention_norm")
        self.attention = CausalAttention(heads, output_stddev, seed, dtype=policy, name="attention")
        self.feed_forward_norm = keras.layers.RMSNormalization(
            dtype=policy, name="feed_forward_norm"
        )
        self.feed_forward = SwiGLU(
            hidden_width, output_stddev, seed + 2, dtype=policy, name="feed_forward"
        )

    def build(self, states_shape: Any) -> None:
        """Creates the weights of all parts."""
        for part in (
            self.attention_norm,
            self.attention,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            part.build(states_shape)

    def call(self, states: Any, rotation: Any, allowed: Any) -> Any:
        """Returns the next states; for the arguments see `CausalAttention`."""
        states = states + self.attention(self.attention_norm(states), rotation, allowed)
        return states + self.feed_forward(self.feed_forward_norm(states))

    def continued(
        self, states: Any, rotation: Any, allowed: Any, kept: tuple[Any, Any], is_new: Any
    ) -> tuple[Any, tuple[Any, Any]]:
        """Computes one position, or all of them, with keys and values that were kept.

        Args:
            states: Those to compute, [batch, 1 or length, width].
            rotation: Of `RotaryAngles`, for these.
            allowed: bool [batch, 1, 1 or length, length].
            kept: Keys and values, [batch, length, heads, width of a head] each.
            is_new: Which of them `states` replaces, bool [length].

        Returns:
            The next states, and the keys and values to keep.
        """
        query, *new = self.attention.projected(self.attention_norm(states), rotation)
        is_new = is_new[None, :, None, None]
        keys, values = (ops.where(is_new, one, other) for one, other in zip(new, kept, strict=True))
        states = states + self.attention.attended(query, keys, values, allowed)
        return states + self.feed_forward(self.feed_forward_norm(states)), (keys, values)

    def compute_output_shape(self, states_shape: Any, *_: Any, **__: Any) -> Any:
        """Returns the shape of the states."""
        return states_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        own = {
            "heads": self.heads,
            "hidden_width": self.hidden_width,
            "output_stddev": self.output_stddev,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}
