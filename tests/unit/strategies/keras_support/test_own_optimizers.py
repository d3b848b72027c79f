"""Optimizers that only a `train_step` uses: the two of a GAN, built in the first step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process


class Adversaries(keras.Model):
    """A generator and a critic, trained in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(5)]
        )
        self.critic = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
        )
        self.criterion = keras.losses.BinaryCrossentropy(from_logits=True)

    def use(self, critics: Any, generators: Any) -> None:
        self.compile()
        self.of_critic, self.of_generator = critics, generators

    def call(self, noise: Any) -> Any:
        return self.generator(noise)

    def train_step(self, data: Any) -> dict[str, Any]:
        noise, real = data
        with tf.GradientTape() as tape:
            found, fake = self.critic(real), self.critic(self.generator(noise))
            loss = self.criterion(tf.ones_like(found), found)
            loss += self.criterion(tf.zeros_like(fake), fake)
        weights = self.critic.trainable_weights
        self.of_critic.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            fake = self.critic(self.generator(noise))
            deceit = self.criterion(tf.ones_like(fake), fake)
        weights = self.generator.trainable_weights
        self.of_generator.apply(tape.gradient(deceit, weights), weights)
        return {"critic": loss, "generator": deceit}


OPTIMIZERS = {
    "plain": lambda: keras.optimizers.Adam(0.01, clipnorm=0.5),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01, momentum=0.9), initial_scale=1.0
    ),
}


def trained(strategy: tf.distribute.Strategy, kind: str, run_eagerly: bool) -> Adversaries:
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0)
    noise, real = draw.normal(size=(22, 3)), draw.normal(size=(22, 5))
    with strategy.scope():
        model = Adversaries()
        model.use(OPTIMIZERS[kind](), OPTIMIZERS[kind]())
        model.run_eagerly = run_eagerly
    assert not model.of_critic.built
    model.fit(noise, real, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    ("kind", "run_eagerly"),
    [
        ("plain", False),
        pytest.param("scaled", False, marks=pytest.mark.thorough),
        pytest.param("plain", True, marks=pytest.mark.thorough),
    ],
)
def test_two_optimizers_built_in_the_first_step_match_one_device(
    kind: str, run_eagerly: bool
) -> None:
    model = trained(strategies.mirrored_strategy(2), kind, run_eagerly)
    expected = trained(tf.distribute.get_strategy(), kind, run_eagerly)
    for own, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-12)
    for optimizer, reference in (
        (model.of_critic, expected.of_critic),
        (model.of_generator, expected.of_generator),
    ):
        assert optimizer.iterations.numpy() == reference.iterations.numpy() == 9
