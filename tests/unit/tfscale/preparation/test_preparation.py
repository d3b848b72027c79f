"""`prepare`: which layers follow the policy, what is kept, replaced and refused.

That what it returns trains right is tested where whole runs are compared.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from strategies.half_precision_outputs import outputs_in_half_precision
from tfscale import prepare, set_precision
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.policy_followers import policy_followers

HALF, FLOAT32 = "mixed_bfloat16", "float32"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    set_precision("float32")
    yield
    set_precision("float32")


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


def simple(**changes: Any) -> keras.Model:
    """Two layers, the last of a dtype of its own; compiled."""
    layers = [keras.Input([2]), keras.layers.Dense(3), keras.layers.Dense(1, dtype="float32")]
    return compiled(keras.Sequential(layers), **changes)


def compiled(model: keras.Model, **changes: Any) -> keras.Model:
    arguments = {"optimizer": keras.optimizers.SGD(0.5, momentum=0.5), "loss": "mse"}
    model.compile(**{**arguments, **changes})
    return model


def policies(model: keras.Model) -> list[str]:
    return [layer.dtype_policy.name for layer in model.layers]


def quietly(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def test_layers_follow_the_policy_but_for_those_given_a_dtype(
    strategy: tf.distribute.Strategy, capsys: pytest.CaptureFixture[str]
) -> None:
    model = simple()
    prepared = quietly(lambda: prepare(model, strategy, precision=HALF))
    assert policies(prepared) == [HALF, FLOAT32]
    assert policies(model) == [FLOAT32, FLOAT32]
    assert keras.config.dtype_policy().name == HALF
    kept = f"layers of {model.name!r} that keep their own dtype: {model.layers[1].name}"
    assert f"tfscale: {kept} float32." in capsys.readouterr().err


def test_a_copy_in_half_precision_predicts_within_its_rounding(
    strategy: tf.distribute.Strategy,
) -> None:
    model, x = simple(), np.random.default_rng(0).normal(size=[64, 2]).astype("float32")
    prepared = prepare(model, strategy, precision=HALF)
    hidden = np.abs(x) @ np.abs(model.layers[0].kernel.numpy())
    largest = (hidden @ np.abs(model.layers[1].kernel.numpy())).max()
    apart = np.abs(model.predict(x, verbose=0) - prepared.predict(x, verbose=0)).max()
    # Inputs, weights, products and the hidden layer are rounded to 8 bits: 2**-9 each.
    assert 0 < apart < 4 * 2.0**-9 * largest


def test_a_file_does_not_tell_who_chose_so_the_commonest_policy_follows(tmp_path: Path) -> None:
    simple().save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(policy_followers(loaded)) == 3
    set_precision(HALF)
    layers = [keras.Input([2]), keras.layers.Dense(3), keras.layers.Dense(4)]
    model = keras.Sequential([*layers, keras.layers.Dense(1, dtype="float32", name="end")])
    model.save(tmp_path / "half.keras")
    set_precision("float32")
    names = {
        layer.name for layer in policy_followers(keras.models.load_model(tmp_path / "half.keras"))
    }
    assert names == {model.layers[0].name, model.layers[1].name}


@pytest.mark.parametrize("is_base_loaded", [False, True])
def test_a_new_end_on_a_whole_model_keeps_the_dtype_it_was_given(
    tmp_path: Path, is_base_loaded: bool
) -> None:
    base = keras.Sequential([keras.Input([2]), keras.layers.Dense(3), keras.layers.Dense(2)])
    if is_base_loaded:
        base.save(tmp_path / "base.keras")
        base = keras.models.load_model(tmp_path / "base.keras")
    end = keras.layers.Dense(1, dtype="float32")
    followers = policy_followers(keras.Sequential([base, end]))
    assert all(any(layer is one for one in followers) for layer in [base, *base.layers])
    assert not any(one is end for one in followers)


def test_layers_inside_of_layers_follow_with_them() -> None:
    given = keras.layers.LSTM(2, dtype="float32", return_sequences=True)
    inputs = keras.Input([3, 2])
    hidden = given(keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))(inputs))
    outputs = keras.layers.TimeDistributed(keras.layers.Dense(1, dtype="float32"))(hidden)
    found = policy_followers(keras.Model(inputs, outputs))
    kinds = sorted(type(layer).__name__ for layer in found)
    wanted = ["Bidirectional", "Functional", *["LSTM"] * 2, *["LSTMCell"] * 2, "TimeDistributed"]
    assert kinds == wanted


def test_flags_that_keras_sets_back_are_kept(strategy: tf.distribute.Strategy) -> None:
    base = keras.Sequential([keras.Input([2]), keras.layers.Dense(3), keras.layers.Dense(2)])
    base.trainable = False
    base.layers[1].trainable = True
    model = compiled(keras.Sequential([keras.Input([2]), base, keras.layers.Dropout(0.5)]))
    prepared = prepare(model, strategy, precision="float32")
    inner = prepared.layers[0]
    assert [inner.trainable, *(layer.trainable for layer in inner.layers)] == [False, False, True]
    pairs = zip(model.variables, prepared.variables, strict=True)
    assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in pairs)  # Dropout's too


def test_functions_and_classes_that_nobody_registered_are_found(
    strategy: tf.distribute.Strategy,
) -> None:
    def doubled(x: Any) -> Any:
        return 2 * x

    class Scale(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            pass

        def call(self, inputs: Any) -> Any:
            return 3 * inputs

    class Ones(keras.initializers.Initializer):
        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            return tf.ones(shape, dtype)

        def get_config(self) -> dict[str, Any]:
            return {}

    class Same(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            pass

        def call(self, inputs: Any) -> Any:
            return inputs

    layer = keras.layers.Dense(1, doubled, kernel_initializer=Ones())
    layers = [keras.Input([2]), layer, Scale(), Same()]
    model = compiled(keras.Sequential(layers), loss=lambda y, p: y - p)
    assert set(custom_objects_in([model.layers])) == {"doubled", "Ones", "Scale", "Same"}
    prepared = prepare(model, strategy, precision="float32")
    assert prepared.predict(np.ones([1, 2]), verbose=0).item() == 12


def test_a_layer_that_cannot_be_found_again_is_refused_with_the_cure(
    strategy: tf.distribute.Strategy,
) -> None:
    model = compiled(
        keras.Sequential([keras.Input([2]), keras.layers.Dense(1, activation=lambda x: 2 * x)])
    )
    set_precision(HALF)
    with (
        pytest.warns(UserWarning, match="lambda"),
        pytest.raises(
            ValueError, match=r"`model` must be of a class .*Pass a function that builds"
        ),
    ):
        prepare(model, strategy, precision="float64")
    assert (keras.config.dtype_policy().name, keras.config.floatx()) == (HALF, "float32")


def test_a_layer_shared_between_inner_models_is_refused_as_it_would_split(
    strategy: tf.distribute.Strategy,
) -> None:
    shared = keras.layers.Dense(2)
    first = keras.Sequential([keras.Input([2]), shared])
    model = compiled(keras.Sequential([keras.Input([2]), first, shared]))
    with pytest.raises(ValueError, match="`model` must be described completely by its config"):
        prepare(model, strategy, precision="float32")


def test_a_weight_without_a_name_is_found_in_the_copy(strategy: tf.distribute.Strategy) -> None:
    class Scale(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

        def call(self, inputs: Any) -> Any:
            return inputs * self.scale

    model = compiled(keras.Sequential([keras.Input([2]), Scale(), Scale()]))
    model.set_weights([np.array([2.0, 3.0]), np.array([5.0, 7.0])])
    prepared = prepare(model, strategy, precision="float64")
    np.testing.assert_array_equal(prepared.predict(np.ones([1, 2]), verbose=0), [[10, 21]])


def test_a_subclassed_model_without_a_config_is_refused(strategy: tf.distribute.Strategy) -> None:
    class Wrapping(keras.Model):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    model = compiled(Wrapping(keras.layers.Dense(1)))
    model(np.ones([1, 2]))
    with pytest.raises(ValueError, match="`model` must be of a class that can be made from"):
        prepare(model, strategy, precision="float32")


def test_a_model_with_a_compile_of_its_own_is_refused(strategy: tf.distribute.Strategy) -> None:
    class Compiling(keras.Sequential):
        def compile(self, optimizer: Any, loss: Any) -> None:
            super().compile(optimizer, loss)

    model = compiled(Compiling([keras.Input([2]), keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="does not override `compile`"):
        prepare(model, strategy, precision="float32")


def test_a_function_is_called_in_the_scope_and_under_the_policy(
    strategy: tf.distribute.Strategy,
) -> None:
    prepared = prepare(simple, strategy, precision=HALF, learning_rate=0.25)
    assert prepared.distribute_strategy is strategy
    assert policies(prepared) == [HALF, FLOAT32]
    config = prepared.optimizer.get_config()
    assert (config["learning_rate"], config["momentum"]) == (0.25, 0.5)


@pytest.mark.parametrize("is_function", [False, True])
def test_what_an_optimizer_knows_survives_a_new_rate(
    strategy: tf.distribute.Strategy, tmp_path: Path, is_function: bool
) -> None:
    def build() -> keras.Model:
        return keras.models.load_model(tmp_path / "trained.keras")

    trained = simple()
    trained.fit(np.ones([2, 2]), np.ones([2, 1]), verbose=0)
    trained.save(tmp_path / "trained.keras")
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    given = build if is_function else trained
    prepared = prepare(given, strategy, precision="float32", learning_rate=schedule)
    momenta, kept = (
        [slot.numpy() for slot in model.optimizer.variables if "momentum" in slot.name]
        for model in (trained, prepared)
    )
    assert int(prepared.optimizer.iterations.numpy()) == 1
    assert len(kept) == 4
    assert all(np.array_equal(one, other) for one, other in zip(momenta, kept, strict=True))
    wanted = 0.5 * 0.5 * (1 + np.cos(np.pi / 10))
    assert float(prepared.optimizer.learning_rate) == pytest.approx(wanted, rel=1e-6)


def test_what_is_given_takes_the_place_of_the_models_own(strategy: tf.distribute.Strategy) -> None:
    model = simple(metrics=["mse"], loss_weights=[2.0])
    prepared = prepare(
        model, strategy, precision="float32", optimizer="adam", learning_rate=0.25, metrics=["mae"]
    )
    assert isinstance(prepared.optimizer, keras.optimizers.Adam)
    assert prepared.optimizer.get_config()["learning_rate"] == 0.25
    x, y = np.ones([2, 2]), np.ones([2, 1])
    error = float(np.abs(model.predict(x, verbose=0) - y).max())
    found = prepared.evaluate(x, y, verbose=0)  # the loss, weighted by 2, and the metric
    assert found == pytest.approx([2 * error**2, error], rel=1e-5)


def test_metrics_given_as_objects_are_made_in_the_scope_and_its_float(
    strategy: tf.distribute.Strategy,
) -> None:
    def double(y_true: Any, y_pred: Any) -> Any:
        return 2 * y_pred

    metrics = [keras.metrics.MeanMetricWrapper(double, name="double")]
    prepared = prepare(simple, strategy, precision="float64", metrics=metrics)
    x = np.ones([2, 2])
    found = prepared.evaluate(x, np.ones([2, 1]), verbose=0, return_dict=True)["double"]
    assert found == pytest.approx(2 * float(prepared.predict(x, verbose=0)[0, 0]), rel=1e-6)
    assert metrics[0].variables[0].numpy() == 0
    assert {variable.dtype for variable in prepared.metrics_variables} == {"float64"}


def test_an_uncompiled_model_is_compiled_with_what_is_given(
    strategy: tf.distribute.Strategy,
) -> None:
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    adam = keras.optimizers.Adam(0.25)
    prepared = prepare(model, strategy, precision="float32", optimizer=adam, loss="mae")
    assert (prepared.loss, prepared.optimizer is adam) == ("mae", False)
    with pytest.raises(ValueError, match="`model` must be compiled, or `optimizer` and `loss`"):
        prepare(model, strategy, precision="float32", optimizer=adam)


@pytest.mark.parametrize("rate", [0, -0.1, float("nan"), float("inf"), True, "0.1"])
def test_a_rate_that_is_none_is_refused(strategy: tf.distribute.Strategy, rate: Any) -> None:
    message = re.escape(f"Received: learning_rate={rate!r}")
    with pytest.raises(ValueError, match="`learning_rate` must be a positive number.*" + message):
        prepare(simple, strategy, learning_rate=rate)


def test_arguments_that_contradict_each_other_are_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    trained = simple()
    trained.fit(np.ones([2, 2]), np.ones([2, 1]), verbose=0)
    sgd = keras.optimizers.SGD(0.5)
    cases: list[tuple[str, tuple[Any, Any], dict[str, Any]]] = [
        ("`strategy` must be a tf.distribute.Strategy", (simple, "mirrored"), {}),
        ("`model` must be a keras.Model or a function", ("model", strategy), {}),
        ("`optimizer` must be a Keras optimizer", (simple, strategy), {"optimizer": 0.1}),
        ("`optimizer` must be new", (simple, strategy), {"optimizer": trained.optimizer}),
        (
            "`learning_rate` must be omitted",
            (simple, strategy),
            {"optimizer": sgd, "learning_rate": 0.1},
        ),
        ("function that returned None", (lambda: None, strategy), {}),
        ("made outside", (lambda: trained, strategy), {}),
        ("`precision` must be one of", (simple, strategy), {"precision": "float7"}),
    ]
    for message, arguments, keywords in cases:
        with pytest.raises(ValueError, match=message):
            prepare(*arguments, **keywords)


def test_a_model_that_ends_in_half_precision_is_warned_of_with_the_cure(
    strategy: tf.distribute.Strategy,
) -> None:
    def build() -> keras.Model:
        inputs = keras.Input([2])
        ends = [keras.layers.Dense(1, name="low"), keras.layers.Dense(1, "linear", dtype="float32")]
        return compiled(keras.Model(inputs, [end(inputs) for end in ends]), loss=["mse", "mse"])

    message = r"half precision \(low in bfloat16\).* Give the last layer dtype=\"float32\""
    with pytest.warns(UserWarning, match=message):
        prepare(build, strategy, precision=HALF)
    quietly(lambda: prepare(build, strategy, precision="float32"))


def test_outputs_are_known_of_a_model_that_keras_knows_them_of(
    strategy: tf.distribute.Strategy,
) -> None:
    class Two(keras.Model):
        def __init__(self, end: str) -> None:
            super().__init__(name="two")
            self.first = keras.layers.Dense(1)
            self.end = keras.layers.Dense(1, dtype=end)

        def call(self, inputs: Any) -> Any:
            return self.end(self.first(inputs))

    set_precision(HALF)
    unbuilt = keras.Sequential([keras.layers.Dense(1, name="end")])
    assert outputs_in_half_precision(unbuilt) == {}
    unbuilt.build([None, 2])
    assert outputs_in_half_precision(unbuilt) == {"end": "bfloat16"}
    assert (outputs_in_half_precision(Two(HALF)), outputs_in_half_precision(Two(FLOAT32))) == (
        {"two": "bfloat16"},
        {},
    )


def test_what_is_saved_afterwards_loads_without_us(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    prepared = prepare(simple(), strategy, precision="float32")
    prepared.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"tfscale" not in archive.read("config.json")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.ones([1, 2])
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), prepared.predict(x, verbose=0))
