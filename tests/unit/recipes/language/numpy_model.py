"""The language model in NumPy, one row and one head at a time, with complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def rotated(heads: Array, positions: Array, base: float = 10_000.0) -> Array:
    """Turns [length, width] by multiplication with complex numbers."""
    half = heads.shape[1] // 2
    numbers = heads[:, :half] + 1j * heads[:, half:]
    turns = positions[:, None] * base ** (-2.0 * np.arange(half) / heads.shape[1])
    turned = numbers * np.exp(1j * turns)
    return np.concatenate([turned.real, turned.imag], axis=1)


def rms_norm(states: Array, scale: Array, epsilon: float = 1e-6) -> Array:
    return np.asarray(states / np.sqrt((states**2).mean(-1, keepdims=True) + epsilon) * scale)


def swiglu(states: Array, gate_and_up: Array, down: Array) -> Array:
    gate, up = np.split(states @ gate_and_up, 2, axis=-1)
    return np.asarray((gate / (1 + np.exp(-gate)) * up) @ down)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def attention(
    states: Array, projection: Array, output: Array, heads: int, positions: Array, segments: Array
) -> Array:
    length, width = states.shape
    queries, keys, values = np.split(states @ projection, 3, axis=-1)
    result = np.zeros_like(states)
    for head in range(heads):
        own = slice(head * width // heads, (head + 1) * width // heads)
        query = rotated(queries[:, own], positions)
        key = rotated(keys[:, own], positions)
        for to in range(length):
            seen = [at for at in range(to + 1) if segments[at] == segments[to]]
            scores = softmax(key[seen] @ query[to] / np.sqrt(width // heads))
            result[to, own] = scores @ values[seen, own]
    return np.asarray(result @ output)


def logits(weights: dict[str, Array], layers: int, heads: int, row: dict[str, Array]) -> Array:
    """Returns the logits of one row, [length, num_tokens].

    Args:
        weights: By the path of the variable below the model.
        layers: Blocks.
        heads: Heads of the attention.
        row: `tokens`, `positions` and `segment_ids`, int [length].
    """
    states = weights["embedding/embeddings"][row["tokens"]]
    for layer in range(layers):
        of = {
            name.removeprefix(f"block_{layer}/"): array
            for name, array in weights.items()
            if name.startswith(f"block_{layer}/")
        }
        states = states + attention(
            rms_norm(states, of["attention_norm/scale"]),
            of["attention/projection/kernel"],
            of["attention/output_projection/kernel"],
            heads,
            row["positions"],
            row["segment_ids"],
        )
        states = states + swiglu(
            rms_norm(states, of["feed_forward_norm/scale"]),
            of["feed_forward/gate_and_up/kernel"],
            of["feed_forward/down/kernel"],
        )
    states = rms_norm(states, weights["norm/scale"])
    return np.asarray(states @ weights["embedding/embeddings"].T)
