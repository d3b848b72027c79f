"""ShardedEmbedding compared with keras.layers.Embedding, on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale.parallel import (
    RowUniform,
    ShardedEmbedding,
)

TABLE = np.arange(14.0, dtype=np.float32).reshape(7, 2)


def built(num_shards: int, **arguments: Any) -> ShardedEmbedding:
    """A table of 7 rows of 2: row i is (2 i, 2 i + 1)."""
    layer = ShardedEmbedding(7, 2, num_shards, **arguments)
    layer.build()
    layer.load_own_variables({"0": TABLE})
    return layer


def model_with(layer: Any) -> keras.Model:
    return keras.Sequential([keras.Input((3,), dtype="int32"), layer])


@pytest.mark.parametrize(
    ("num_shards", "parts"),
    [
        pytest.param(1, [[0, 1, 2, 3, 4, 5, 6]], id="one shard is the table"),
        pytest.param(3, [[0, 3, 6], [1, 4], [2, 5]], id="the first shards take the remainder"),
        pytest.param(7, [[0], [1], [2], [3], [4], [5], [6]], id="a row each"),
    ],
)
def test_rows_are_dealt_out_in_turn(num_shards: int, parts: list[list[int]]) -> None:
    layer = built(num_shards)
    assert [part.numpy()[:, 0].tolist() for part in layer.weights] == [
        [2.0 * row for row in rows] for rows in parts
    ]
    np.testing.assert_array_equal(layer.embeddings, TABLE)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize(
    "ids", [[[6, 0], [3, 3]], 5, [], np.zeros((0, 4)), np.arange(6).reshape(1, 2, 3)]
)
def test_any_shape_of_ids_is_looked_up(ids: Any, dtype: str) -> None:
    ids = np.asarray(ids)
    found = built(3)(tf.constant(ids, dtype))
    np.testing.assert_array_equal(found, TABLE[ids.astype(int)])


@pytest.mark.parametrize("wrong", [-1, 7])
def test_ids_outside_of_the_table_are_an_error_that_names_the_layer(wrong: int) -> None:
    layer = built(3, name="words")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'words' must be ids in \[0, 7\)"):
        layer(tf.constant([0, wrong]))


@pytest.mark.parametrize(
    "initializer",
    [
        "uniform",
        "glorot_uniform",  # whose range depends on the whole table's shape
        keras.initializers.RandomNormal(seed=3),
        RowUniform(seed=4),
    ],
)
def test_the_table_drawn_is_that_of_kerass_embedding(initializer: Any) -> None:
    drawn = []
    for make in (
        lambda: keras.layers.Embedding(7, 2, embeddings_initializer=initializer),
        lambda: ShardedEmbedding(7, 2, 3, embeddings_initializer=initializer),
    ):
        keras.utils.set_random_seed(5)
        layer = make()
        layer.build()
        drawn.append(np.asarray(layer.embeddings))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(np.unique(drawn[0])) == 14


def test_an_initializer_that_draws_anew_each_time_is_asked_once() -> None:
    calls = []

    def draw(shape: Any, dtype: Any = None) -> Any:
        calls.append(shape)
        return tf.constant(TABLE, dtype)

    layer = ShardedEmbedding(7, 2, 3, embeddings_initializer=draw)
    layer.build()
    assert calls == [(7, 2)]
    np.testing.assert_array_equal(layer.embeddings, TABLE)


def test_row_uniform_fills_its_interval_evenly_and_independently() -> None:
    drawn = RowUniform(-1.0, 3.0, seed=1)((2000, 30), "float64")
    assert drawn.min() >= -1.0
    assert drawn.max() < 3.0
    counts, _ = np.histogram(drawn, bins=10, range=(-1, 3))
    assert np.abs(counts - 6000).max() < 5 * np.sqrt(6000 * 0.9)  # five standard deviations
    correlations = np.corrcoef(drawn.T) - np.eye(30)
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    assert not np.isin(drawn, RowUniform(-1.0, 3.0, seed=2)((2000, 30), "float64")).any()


def test_gradients_are_sparse_and_of_the_rows_looked_up() -> None:
    layer = built(3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant([3, 3, 6])))
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert [type(gradient) for gradient in gradients] == [tf.IndexedSlices] * 3
    assert [gradient.indices.numpy().tolist() for gradient in gradients] == [[1, 1, 2], [], []]


def test_a_lookup_reads_rows_and_never_a_whole_shard() -> None:
    layer = built(3)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None], tf.int64)).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceGather") == 3
    assert "ReadVariableOp" not in kinds


def test_padding_is_masked_as_keras_does() -> None:
    ids = np.array([[0, 1, 0], [2, 0, 3]])
    masks = [
        np.asarray(layer.compute_mask(keras.ops.convert_to_tensor(ids)))
        for layer in (built(3, mask_zero=True), keras.layers.Embedding(7, 2, mask_zero=True))
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert built(3).compute_mask(ids) is None


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_rows_have_the_compute_dtype_and_tables_the_variable_dtype(policy: str) -> None:
    layer = built(3, dtype=policy)
    expected = keras.DTypePolicy(policy)
    assert layer(np.array([1])).dtype.name == expected.compute_dtype
    assert {part.dtype for part in layer.weights} == {expected.variable_dtype}


def test_a_model_file_holds_the_layer_with_all_it_was_given(tmp_path: Path) -> None:
    layer = built(
        3,
        embeddings_initializer=RowUniform(seed=9),
        embeddings_regularizer=keras.regularizers.L1(0.1),
        embeddings_constraint=keras.constraints.NonNeg(),
        mask_zero=True,
        activity_regularizer="l2",
        name="words",
    )
    model_with(layer).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").get_layer("words")
    assert again.get_config() == layer.get_config()
    assert len(again.weights) == 3
    np.testing.assert_array_equal(again.embeddings, TABLE)


def test_weights_load_into_other_shards_and_keras_takes_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "of.weights.h5"
    model_with(built(3)).save_weights(path)
    receiver = ShardedEmbedding(7, 2, 5)
    model_with(receiver).load_weights(path)
    keras_layer = keras.layers.Embedding(7, 2)
    keras_layer.build()
    keras_layer.set_weights([receiver.embeddings])
    np.testing.assert_array_equal(keras_layer.embeddings, TABLE)


def test_weights_with_slots_of_other_shards_do_not_pass_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "of.weights.h5"
    models = [model_with(ShardedEmbedding(7, 2, count)) for count in (3, 2)]
    for model in models:
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    models[0].save_weights(path)
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        models[1].load_weights(path)


@pytest.mark.parametrize("shape", [(6, 2), (7, 3)])
def test_a_table_of_another_size_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="`store` must contain one table of 7 rows of 2"):
        built(3).load_own_variables({"0": np.zeros(shape)})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_shards": 0}, "`num_shards` must be a positive integer. Received: num_shards=0"),
        ({"num_shards": 8}, "`num_shards` must be at most `input_dim`=7"),
        ({"input_dim": 2.0}, "`input_dim` must be a positive integer"),
        ({"output_dim": True}, "`output_dim` must be a positive integer"),
        (
            {"embeddings_constraint": keras.constraints.MaxNorm(1.0, axis=0)},
            "each row independently",
        ),
        ({"embeddings_constraint": keras.constraints.UnitNorm(axis=0)}, "each row independently"),
        ({"embeddings_regularizer": keras.regularizers.OrthogonalRegularizer()}, "a sum over rows"),
    ],
)
def test_what_would_train_another_table_is_refused(arguments: dict[str, Any], words: str) -> None:
    given = {"input_dim": 7, "output_dim": 2, "num_shards": 3, **arguments}
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        ShardedEmbedding(**given)


@pytest.mark.parametrize(
    "constraint",
    [
        keras.constraints.MaxNorm(1.0, axis=1),
        keras.constraints.UnitNorm(axis=-1),
        keras.constraints.MinMaxNorm(axis=1),
        keras.constraints.NonNeg(),
    ],
)
def test_rules_of_single_rows_are_taken(constraint: Any) -> None:
    ShardedEmbedding(7, 2, 3, embeddings_constraint=constraint, embeddings_regularizer="l1")


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_an_empty_or_endless_interval_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must be (above `minval`|a finite number)"):
        RowUniform(*bounds)
