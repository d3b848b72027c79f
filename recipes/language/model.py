"""The language model: a decoder-only transformer in plain Keras layers."""

from __future__ import annotations

from typing import Literal

import keras

from recipes.language.attention import EarlierInDocument
from recipes.language.bits_per_byte import BitsPerByte
from recipes.language.block import DecoderBlock
from recipes.language.rotary import RotaryAngles
from recipes.language.sizes import ModelSize

_SEEDS_OF_A_BLOCK = 4


def language_model(size: ModelSize, *, num_tokens: int, seed: int) -> keras.Model:
    """Builds a model of the next token. Call it in the strategy's scope.

    Its inputs are those of `tfscale.data.packed`, a dict of `tokens`, `positions` and
    `segment_ids`, int32 [batch, length] each, of any length. Its output are logits, [batch, length,
    num_tokens], of the token after each position. The matrix of the embedding is also that of the
    logits.

    Initial kernels have the standard deviation 0.02, and those that add to the residual
    `0.02 / sqrt(2 * layers)`. Source: Radford et al. 2019, "Language models are unsupervised
    multitask learners", section 2.3.

    Args:
        size: Its size.
        num_tokens: Tokens of the vocabulary. Positive.
        seed: Seed of the weights. Not negative.

    Example:
        >>> model = language_model(ModelSize(layers=1, width=8, heads=2), num_tokens=5, seed=0)
        >>> model.count_params()  # 5 * 8, 4 * 8 * 8, 3 * 8 * 32, and 3 norms of 8
        1088
    """
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("tokens", "positions", "segment_ids")
    }
    embedding = keras.layers.ReversibleEmbedding(
        num_tokens,
        size.width,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02, seed=seed),
        # Logits in float32 at least: half precision would round the loss (Keras's own advice).
        reverse_dtype=keras.config.floatx(),
        name="embedding",
    )
    rotation = RotaryAngles(size.head_width, name="rotation")(inputs["positions"])
    allowed = EarlierInDocument(name="allowed")(inputs["segment_ids"])
    states = embedding(inputs["tokens"])
    for layer in range(size.layers):
        block = DecoderBlock(
            size.heads,
            size.hidden_width,
            output_stddev=0.02 / (2 * size.layers) ** 0.5,
            seed=seed + 1 + _SEEDS_OF_A_BLOCK * layer,
            name=f"block_{layer}",
        )
        states = block(states, rotation, allowed)
    states = keras.layers.RMSNormalization(name="norm")(states)
    logits = embedding(states, reverse=True)
    # The embedding announces its compute type, and this layer the type that it really has.
    logits = keras.layers.Activation("linear", dtype=keras.config.floatx(), name="logits")(logits)
    return keras.Model(inputs, logits, name="language_model")


def compile_for_training(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    bytes_of_tokens: list[int],
    *,
    jit_compile: bool | Literal["auto"] = "auto",
) -> None:
    """Compiles the model for rows of `recipes.language.rows`. Call it in the strategy's scope.

    The loss of a batch is the mean over the tokens that are predicted, over all replicas: the
    reduction divides by the sum of the weights, not by the number of places.

    Args:
        model: A model of `language_model`.
        optimizer: The optimizer. Matrices are decayed; norms and embeddings are not.
        bytes_of_tokens: Bytes of each token of the vocabulary.
        jit_compile: Whether XLA compiles steps; Keras's choice if "auto".
    """
    if optimizer.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["scale", "embeddings"])
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[BitsPerByte(bytes_of_tokens)],
        jit_compile=jit_compile,
    )
