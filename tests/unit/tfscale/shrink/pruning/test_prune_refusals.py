"""What Prune refuses when training begins, and which weights of which layers it prunes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tfscale.parallel import Pipeline, TensorRule, tensor_parallel
from tfscale.shrink import ConstantSparsity, OneShot, Prune

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two")]

dense = keras.layers.Dense


def begun(strategy: Any, make: Callable[[], Sequence[Any]], *prunes: Prune) -> keras.Model:
    """Makes a model, prunes it once and takes one step."""
    keras.utils.clear_session()
    with strategy.scope():
        model = keras.Sequential(make(), name="model")
        model.compile("sgd", "mse", jit_compile=False)
    rows = np.ones([2, *model.input_shape[1:]], model.inputs[0].dtype)
    targets = np.ones([2, *model.output_shape[1:]])
    model.fit(rows, targets, verbose=0, callbacks=[*prunes])
    return model


def plain() -> list[Any]:
    return [keras.Input((4,)), dense(6, name="first"), dense(3, name="last")]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            lambda: [keras.Input((4,)), keras.layers.BatchNormalization()],
            {},
            "`model` must have a trainable kernel to prune.* 'model', which has none",
        ),
        pytest.param(
            lambda: [
                keras.Input((4,)),
                dense(3, trainable=False),
                keras.layers.BatchNormalization(),
            ],
            {},
            "`model` must have a trainable kernel",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            plain,
            {"keep": ["first", "last"]},
            "`model` must have a trainable kernel",
            marks=pytest.mark.thorough,
        ),
        (plain, {"keep": ["middle"]}, "`keep` must match .*'middle'.*model/first/kernel"),
        (plain, {"targets": {"middle": 0.5}}, "`targets` must match .*'middle'"),
        (plain, {"targets": {"last": 0.5}, "keep": [".*kernel"]}, "`keep` must not match"),
        (
            plain,
            {"pattern": "2:4"},
            r"`pattern` must cover .*'2:4'; model/last/kernel has 6 x 3.*keep=\['model/last/kernel",
        ),
        (plain, {"pattern": "16x1"}, "multiples of 16 x 1.*model/first/kernel has 4 x 6"),
        (
            lambda: [keras.Input((1,)), dense(1, name="only")],
            {},
            r"at least one weight or block .*0\.5 of 1 in 'model/only/kernel'",
        ),
    ],
    ids=["none", "frozen", "kept", "keep", "targets", "both", "2:4", "block", "small"],
)
def test_a_model_that_cannot_be_pruned_is_refused(
    one: tf.distribute.Strategy, make: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        begun(one, make, Prune(OneShot(0.5), **arguments))


def test_two_of_them_are_refused(one: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match="`callbacks` must contain one Prune"):
        begun(one, plain, Prune(OneShot(0.5)), Prune(OneShot(0.5)))


def test_weights_that_are_not_finite_are_refused(one: tf.distribute.Strategy) -> None:
    keras.utils.clear_session()
    with one.scope():
        model = keras.Sequential(plain(), name="model")
        model.compile("sgd", "mse")
    weights = model.get_weights()
    weights[0][0] = np.nan
    model.set_weights(weights)
    with pytest.raises(ValueError, match=r"must have finite weights for Prune.*first/kernel"):
        model.fit(np.ones([2, 4]), np.ones([2, 3]), verbose=0, callbacks=[Prune(OneShot(0.5))])


def test_restored_weights_are_masked(one: tf.distribute.Strategy) -> None:
    keras.utils.clear_session()
    with one.scope():
        model = keras.Sequential(plain(), name="model")
        model.compile(keras.optimizers.SGD(1e9), "mse")  # the first epoch is the best
    prune = Prune(ConstantSparsity(0.5, begin=2), scope="layer")
    stop = keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)
    given = {"x": np.ones([2, 4]), "y": np.ones([2, 3]), "epochs": 3, "verbose": 0}
    with pytest.raises(ValueError, match=r"Received: Prune before it\. Put Prune last"):
        model.fit(**given, callbacks=[prune, stop])
    model.fit(**given, callbacks=[stop, prune])
    assert stop.best_epoch == 0
    assert [np.mean(w == 0) for w in model.get_weights()[::2]] == [0.5, 0.5]


def test_a_state_of_another_type_is_refused(one: tf.distribute.Strategy) -> None:
    prune = Prune(OneShot(0.5))
    begun(one, plain, prune)
    prune.restore({"steps": 2})
    counts: list[Any] = [-1, 1.5, "1", None, True, 2**64, [2]]
    states: list[Any] = [None, [], {}, {"steps": 2, "x": 1}, *({"steps": n} for n in counts)]
    for state in states:
        with pytest.raises(ValueError, match="must be"):
            prune.restore(state)
    arrays = prune.state_arrays()
    assert {name: array.shape for name, array in arrays.items()} == {
        "mask/0": (4, 6),
        "mask/1": (6, 3),
    }
    for change in (
        {"mask/0": arrays["mask/0"][1:]},
        {"mask/0": np.ones([4, 6])},
        {"x": np.ones(1)},
    ):
        with pytest.raises(ValueError, match="`Prune` must mask the weights"):
            prune.restore_arrays({**arrays, **change})
    assert prune.state() == {"steps": 2}


def test_a_model_outside_of_a_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="under a tfscale strategy to use Prune"):
        begun(tf.distribute.get_strategy(), plain, Prune(OneShot(0.5)))


def test_weights_that_are_not_whole_are_refused(two: tf.distribute.Strategy) -> None:
    prune, rows = Prune(OneShot(0.5)), np.ones([4, 4])
    for stage in (1, 2, 3):
        with pytest.raises(ValueError, match=rf"must not contain Prune .*shard={stage}.*shard=0"):
            begun(strategies.mirrored_strategy(2, shard=stage), plain, prune)
    divided = strategies.mirrored_strategy(1, devices_per_replica=2)
    with divided.scope():
        model = keras.Sequential(plain(), name="model")
        tensor_parallel(model, [TensorRule("model/first", "column")])
        model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match=r"must not contain Prune .*tensor_parallel"):
        model.fit(rows, np.ones([4, 3]), verbose=0, callbacks=[prune])
    with divided.scope():
        model = keras.Sequential(plain(), name="model")
        Pipeline(model, stages=2, microbatches=2)
        model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match=r"must not contain Prune .*pipeline"):
        model.fit(rows, np.ones([4, 3]), verbose=0, callbacks=[prune])


def test_kernels_of_each_kind_are_pruned(two: tf.distribute.Strategy) -> None:
    def make() -> list[Any]:
        return [
            keras.Input((8, 8, 4)),
            keras.layers.Conv2D(8, 3, name="convolution"),
            keras.layers.SeparableConv2D(8, 3, name="separable"),
            keras.layers.Conv2DTranspose(4, 3, name="transposed"),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Reshape((-1, 4)),
            keras.layers.LSTM(8, name="recurrent"),
            keras.layers.EinsumDense("ab,bc->ac", 8, name="einsum"),
            dense(4, name="head"),
        ]

    prune = Prune(OneShot(0.5), pattern="2:4", keep=["head"])
    model = begun(two, make, prune)
    paths = {
        "convolution/kernel",
        "separable/pointwise_kernel",
        "transposed/kernel",
        "recurrent/lstm_cell/kernel",
        "recurrent/lstm_cell/recurrent_kernel",
        "einsum/kernel",
    }
    assert prune.sparsity() == {f"model/{path}": 0.5 for path in paths}
    zeros = {v.path: float(np.mean(v.numpy() == 0)) for v in model.trainable_variables}
    for path, fraction in zeros.items():
        if "kernel" in path:
            assert fraction == (0.5 if path.removeprefix("model/") in paths else 0), path


@pytest.mark.thorough
def test_attention_and_named_embeddings_are_pruned(two: tf.distribute.Strategy) -> None:
    class Attending(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="attending")
            self.attention = keras.layers.MultiHeadAttention(2, 4, name="attention")

        def build(self, shape: Any) -> None:
            self.attention.build(shape, shape)

        def call(self, x: Any) -> Any:
            return self.attention(x, x)

    def make() -> list[Any]:
        embedding = keras.layers.Embedding(16, 8, name="embedding")
        return [keras.Input((5,), dtype="int32"), embedding, Attending()]

    prune = Prune(OneShot(0.5), targets={"embedding": 0.25})
    begun(two, make, prune)
    attention = "model/attending/attention"
    assert prune.sparsity() == {
        "model/embedding/embeddings": 0.25,
        **{f"{attention}/{name}/kernel": 0.5 for name in ("query", "key", "value")},
        f"{attention}/attention_output/kernel": 0.5,
    }


@pytest.mark.thorough
def test_a_weight_that_two_layers_share_is_pruned_once(one: tf.distribute.Strategy) -> None:
    keras.utils.clear_session()
    with one.scope():
        inputs = keras.Input((4,))
        shared = dense(4, name="shared")
        inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
        model = keras.Model(inputs, inner(shared(inputs)))
        model.compile("sgd", "mse")
    prune = Prune(OneShot(0.5))
    model.fit(np.ones([2, 4]), np.ones([2, 4]), verbose=0, callbacks=[prune])
    assert list(prune.sparsity().values()) == [0.5]
