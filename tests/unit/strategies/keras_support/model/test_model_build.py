"""Models that their first step builds match one device, where nothing is built before.

22 examples in batches of six: the last batch has four, and replica batches have different sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.layers import BatchNormalization, Dense

import strategies

pytestmark = pytest.mark.own_process

X = np.random.default_rng(0).normal(size=(22, 6))


@pytest.fixture(scope="module")
def made() -> dict[str, tf.distribute.Strategy]:
    three = strategies.mirrored_strategy(3)
    two = strategies.mirrored_strategy(2)
    return {"3": three, "2": two, "one device": strategies.one_device_strategy()}


@pytest.fixture(autouse=True)
def _in_float64() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


class AutoEncoder(keras.Model):
    """Has no `call`, a custom loss, and a tracker with the name of Keras's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Dense(5, activation="tanh")
        self.decoder = keras.Sequential([Dense(4, activation="tanh"), Dense(6)])
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def train_step(self, x: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(x)) - x) ** 2)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class Adversaries(keras.Model):
    """Two networks and two optimizers; the second network is used when the first is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.Sequential([Dense(4, activation="tanh"), Dense(3)])
        self.second = keras.Sequential([Dense(4, activation="tanh"), Dense(1)])

    def compile(self, ones: Any, others: Any) -> None:
        super().compile()
        self.ones, self.others = ones, others

    def train_step(self, x: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            one = tf.reduce_mean((self.first(x) - 1.0) ** 2)
        weights = self.first.trainable_weights
        self.ones.apply(tape.gradient(one, weights), weights)
        with tf.GradientTape() as tape:
            other = tf.reduce_mean((self.second(self.first(x)) - 2.0) ** 2)
        weights = self.second.trainable_weights
        self.others.apply(tape.gradient(other, weights), weights)
        return {"one": one, "other": other}


class Compared(keras.Model):
    """`call` takes three arguments, of which Keras knows one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = keras.Sequential([Dense(5, activation="tanh"), Dense(3, use_bias=False)])

    def call(self, anchor: Any, near: Any, far: Any) -> Any:
        anchor, near, far = self.net(anchor), self.net(near), self.net(far)
        return tf.reduce_sum((anchor - near) ** 2 - (anchor - far) ** 2, axis=-1)

    def loss_of(self, x: Any) -> Any:
        return tf.reduce_mean(tf.nn.relu(self(x, x[:, ::-1], 2.0 * x) + 0.5))

    def train_step(self, x: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = self.loss_of(x)
        weights = self.net.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"triplet": loss}

    def test_step(self, x: Any) -> dict[str, Any]:
        return {"triplet": self.loss_of(x)}


class AsInTheGuide(keras.Model):
    """`compile` gets a loss and metrics, which only the step calls."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.end = Dense(4, activation="tanh"), Dense(1)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data, data[:, :1]
        with tf.GradientTape() as tape:
            predicted = self.end(self.hidden(x))
            loss = self.compute_loss(y=y, y_pred=predicted)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(x)[0])
            else:
                metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


KINDS = ("no call", "two nets, two optimizers", "three arguments", "as in the guide")


def compiled(kind: str, eagerly: bool = False) -> Any:
    adam = keras.optimizers.Adam
    if kind == "no call":
        model: Any = AutoEncoder()
        model.compile(adam(0.01), run_eagerly=eagerly)
    elif kind == "two nets, two optimizers":
        model = Adversaries()
        model.compile(adam(0.01), adam(0.02))
    elif kind == "three arguments":
        model = Compared()
        model.compile(adam(0.01))
    else:
        model = AsInTheGuide()
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def trained(strategy: tf.distribute.Strategy, build: Callable[[], Any]) -> list[Any]:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = build()
    fit = model.fit(X, batch_size=6, epochs=2, shuffle=False, verbose=0)
    tracked = (
        [fit.history["loss"]] if "loss" in fit.history else []
    )  # the other logs are those of the last batch
    return [np.asarray(part, np.float64) for part in (*model.get_weights(), *tracked)]


def assert_alike(found: list[Any], expected: list[Any]) -> None:
    for number, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(number, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("on", "kind"),
    # Three replicas have batches of one and two rows; two have equal ones.
    [
        *(("3", kind) for kind in KINDS),
        ("one device", "two nets, two optimizers"),
        *(pytest.param("2", kind, marks=pytest.mark.thorough) for kind in KINDS),
        *(
            pytest.param("one device", kind, marks=pytest.mark.thorough)
            for kind in KINDS
            if kind != "two nets, two optimizers"
        ),
    ],
)
def test_a_model_that_its_first_step_builds(
    made: dict[str, tf.distribute.Strategy], on: str, kind: str
) -> None:
    expected = trained(tf.distribute.get_strategy(), lambda: compiled(kind))
    assert_alike(trained(made[on], lambda: compiled(kind)), expected)


def test_a_model_that_its_first_step_builds_eagerly(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    def build() -> Any:
        return compiled("no call", eagerly=True)

    assert_alike(trained(made["2"], build), trained(tf.distribute.get_strategy(), build))


def test_a_model_that_its_test_step_builds(made: dict[str, tf.distribute.Strategy]) -> None:
    def tested(strategy: tf.distribute.Strategy) -> list[Any]:
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = compiled("three arguments")
        return [model.evaluate(X[:18], batch_size=18, verbose=0), *model.get_weights()]

    assert_alike(tested(made["3"]), tested(tf.distribute.get_strategy()))


class Normalized(AutoEncoder):
    """Its first step builds a layer with moving statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([BatchNormalization(momentum=0.5)])

    def train_step(self, x: Any) -> dict[str, Any]:
        self.encoder(x, training=True)
        return {"rows": tf.shape(x)[0]}


def test_moving_statistics_made_by_the_first_step_are_the_same_on_all_replicas(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    with made["2"].scope():
        model = Normalized()
        model.compile("sgd")
    model.fit(X[:4], batch_size=4, epochs=1, verbose=0)
    mean = model.encoder.layers[0].moving_mean
    copies = [copy.numpy() for copy in made["2"].experimental_local_results(mean.value)]
    np.testing.assert_allclose(copies[0], X[:4].mean(axis=0) / 2, rtol=1e-9)
    np.testing.assert_array_equal(copies[1], copies[0])


def test_a_model_with_keras_step_says_why_it_cannot_be_built(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    class Wrong(keras.Model):
        def call(self, x: Any) -> Any:
            raise ValueError("no such shape")

    with made["2"].scope():
        model = Wrong()
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no such shape"):
        model.fit(X, X, verbose=0)
