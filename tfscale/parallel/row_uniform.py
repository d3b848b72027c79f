"""An initializer that draws any row of a table independently of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import number, whole_number

# The generator SplitMix64: the step of its counter, and the shifts and multipliers of its mixer.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_BLOCK_ELEMENTS = 2**20


@keras.saving.register_keras_serializable(package="tfscale")
class RowUniform(keras.initializers.Initializer):
    """Uniform values as a function of the row index, for tables that exceed the memory of a host.

    Element j of row i is number `i * output_dim + j` of a counter-based generator. So each shard of
    a `ShardedEmbedding` is drawn separately, and the table is the same for any number of shards and
    for `keras.layers.Embedding`. It is drawn with NumPy in blocks of 8 MiB.

    Args:
        minval: Lower bound. Finite.
        maxval: Upper bound. Finite, above `minval`.
        seed: In `[0, 2**31)`. Use different seeds for different tables.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> table = RowUniform(seed=1)((4, 2))
        >>> bool((table[1::2] == RowUniform(seed=1).rows(range(1, 4, 2), 2, "float32")).all())
        True

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int = 0) -> None:
        self.minval = number("minval", minval)
        self.maxval = number("maxval", maxval)
        if not self.minval < self.maxval:
            raise ValueError(
                "`maxval` must be above `minval`, both finite. Received: "
                f"minval={minval!r}, maxval={maxval!r}. Keras's default is -0.05 and 0.05."
            )
        self.seed = whole_number("seed", seed, at_least=0, below=2**31)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray[Any, Any]:
        """Draws a whole table, [rows, output_dim]."""
        rows, output_dim = shape
        return self.rows(range(rows), output_dim, dtype or keras.config.floatx())

    def rows(self, indices: range, output_dim: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Draws the rows at `indices`, as [len(indices), output_dim].

        Args:
            indices: Indices of rows. Not negative.
            output_dim: Elements of a row. Positive.
            dtype: The dtype of the result. For half precision the result is float32, and the
                variable rounds it.
        """
        name = keras.backend.standardize_dtype(dtype)
        drawn = np.empty([len(indices), output_dim], name if name == "float64" else "float32")
        size = max(1, _BLOCK_ELEMENTS // output_dim)
        for first in range(0, len(indices), size):
            block = np.asarray(indices[first : first + size], np.uint64)
            drawn[first : first + size] = self._block(block, output_dim)
        return drawn

    def _block(self, indices: np.ndarray[Any, Any], output_dim: int) -> np.ndarray[Any, Any]:
        columns = np.arange(1, output_dim + 1, dtype=np.uint64)
        start = np.random.default_rng(self.seed).integers(2**64, dtype=np.uint64)
        bits = indices[:, np.newaxis] * np.uint64(output_dim) + columns
        bits = start + bits * _STEP  # modulo 2**64
        for shift, multiplier in _MIXERS:
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(multiplier)
        bits ^= bits >> np.uint64(31)
        # 53 bits fill the fraction of a float64.
        unit = (bits >> np.uint64(11)) * 2.0**-53
        return self.minval + (self.maxval - self.minval) * unit

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}
