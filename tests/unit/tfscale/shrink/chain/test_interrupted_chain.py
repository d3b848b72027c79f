"""A stage that fails in the middle is continued by the next call, from its last whole epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale.shrink import Chain, Compressed, compress

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

X = np.random.default_rng(4).normal(size=(20, 5))
STEPS = 2


class Rows:
    """Batches that are counted, of which one may fail, once."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.read, self.fails_after = 0, fails_after

    def __call__(self) -> Iterator[tuple[Any, Any]]:
        for start in range(0, 20, 10):
            if self.read == self.fails_after:
                raise OSError("the disk of the data is gone")
            self.read += 1
            yield X[start : start + 10], X[start : start + 10, :2]

    def dataset(self) -> tf.data.Dataset:
        types = tuple(tf.TensorSpec([10, width], "float64") for width in (5, 2))
        rows = tf.data.Dataset.from_generator(self, output_signature=types)
        return rows.apply(tf.data.experimental.assert_cardinality(STEPS))


def compressed(
    one: tf.distribute.Strategy,
    rows: Rows,
    activation: str = "tanh",
    loss: str = "mse",
    **arguments: Any,
) -> Compressed:
    keras.utils.set_random_seed(1)
    with one.scope():
        layers = [keras.Input((5,)), keras.layers.Dense(8, activation), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01), loss)
    return compress(
        model,
        Chain(sparsity=0.5, epochs=6),
        rows.dataset(),
        validation=(X, X[:, :2]),
        file_format="keras",
        **arguments,
    )


@contextlib.contextmanager
def damaged(path: Path, text: str) -> Iterator[None]:
    whole = path.read_text()
    path.write_text(text)
    yield
    path.write_text(whole)


def test_it_ends_like_a_chain_that_was_not_interrupted(
    one: tf.distribute.Strategy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = compressed(one, Rows())
    with pytest.raises(tf.errors.OpError, match="the disk of the data is gone"):
        compressed(one, Rows(fails_after=9), stages_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`stages_dir` must be new.*another learning rate"):
        compressed(one, Rows(), stages_dir=tmp_path, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"`stages_dir` must be new.*another architecture"):
        compressed(one, Rows(), "relu", stages_dir=tmp_path)  # of the same weights
    with pytest.raises(ValueError, match=r"`stages_dir` must be new.*another loss or optimizer"):
        compressed(one, Rows(), loss="mae", stages_dir=tmp_path)
    for damage in ("[]", "null", '{"chain": 1}'):
        refused = pytest.raises(ValueError, match="`stages_dir` must")
        with damaged(tmp_path / "chain.json", damage), refused:
            compressed(one, Rows(), stages_dir=tmp_path)
    again = Rows()
    found = compressed(one, again, stages_dir=tmp_path)
    assert "after 4 of 6 epochs" in capfd.readouterr().err
    assert again.read < 6 * STEPS
    for weight, wanted in zip(found.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, wanted)
    assert not [*tmp_path.rglob("*")]
