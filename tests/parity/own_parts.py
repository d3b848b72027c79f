"""Models with a `train_step` and no `call()`: the step combines several parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity.compiling import build_optimizer
from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES

layers, ops = keras.layers, keras.ops
LATENT = 3


def _net(*sizes: int, has_last_bias: bool = True) -> keras.Sequential:
    first, *others, last = sizes
    hidden = [layers.Dense(size, activation="tanh") for size in others]
    return keras.Sequential(
        [keras.Input((first,)), *hidden, layers.Dense(last, use_bias=has_last_bias)]
    )


class Autoencoder(keras.Model):
    """Trained on bare `x`; its parts are built by their first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(LATENT, activation="tanh")])
        self.decoder = keras.Sequential([layers.Dense(FEATURES)])
        self.seen = keras.metrics.Mean(name="reconstruction")

    def train_step(self, x: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(x - self.decoder(self.encoder(x))))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        self.seen.update_state(loss)
        return {"reconstruction": self.seen.result()}


class Variational(keras.Model):
    """A VAE whose noise comes from the targets, because random numbers differ on replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = _net(FEATURES, 5, 2 * LATENT), _net(LATENT, 5, FEATURES)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("total", "divergence")]

    @property
    def metrics(self) -> list[Any]:
        return self.trackers

    def train_step(self, data: Any) -> dict[str, Any]:
        x, noise = data
        with tf.GradientTape() as tape:
            mean, log_variance = ops.split(self.encoder(x, training=True), 2, axis=-1)
            drawn = mean + ops.exp(0.5 * log_variance) * noise
            apart = ops.sum(ops.square(x - self.decoder(drawn, training=True)), axis=-1)
            divergence = -0.5 * ops.sum(
                1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=-1
            )
            loss = ops.mean(apart) + 0.1 * ops.mean(divergence)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        rows = tf.shape(x)[0]
        self.trackers[0].update_state(loss, sample_weight=rows)
        self.trackers[1].update_state(divergence)
        return {metric.name: metric.result() for metric in self.metrics}


class Siamese(keras.Model):
    """Embeds three parts of a row by one network, in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        # A last bias cancels when outputs are subtracted: its gradient would be only rounding.
        self.embed = _net(FEATURES // 3, 5, 3, has_last_bias=False)
        self.seen = keras.metrics.Mean(name="triplet")

    @property
    def metrics(self) -> list[Any]:
        return [self.seen]

    def triplet(self, x: Any) -> Any:
        """Returns a mean over rows."""
        anchor, near, far = (self.embed(part) for part in ops.split(x, 3, axis=1))
        apart = [ops.sum(ops.square(anchor - other), axis=-1) for other in (near, far)]
        return ops.mean(ops.maximum(apart[0] - apart[1] + 0.5, 0.0))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        with tf.GradientTape() as tape:
            loss = self.triplet(x)
        gradients = tape.gradient(loss, self.embed.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.embed.trainable_weights, strict=True))
        self.seen.update_state(loss)
        return {"triplet": self.seen.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        self.seen.update_state(self.triplet(x))
        return {"triplet": self.seen.result()}


class Adversaries(keras.Model):
    """A generator and a critic, each with its optimizer."""

    def __init__(self, other: Any) -> None:
        super().__init__()
        self.generator = _net(LATENT, 5, FEATURES)
        self.critic = _net(FEATURES, 5, 1, has_last_bias=False)
        self.other = other

    def compile(self, optimizer: Any, **options: Any) -> None:
        super().compile(optimizer, **options)
        optimizer.build(self.critic.trainable_variables)
        self.other.build(self.generator.trainable_variables)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, latent = data
        critical = self.train_critic(x, latent)
        with tf.GradientTape() as tape:
            logits = self.critic(self.generator(latent, training=True))
            loss = self.deceived(logits)
        variables = self.generator.trainable_variables
        self.other.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"generator_loss": loss, "critic_loss": critical}

    def deceived(self, logits: Any) -> Any:
        """Returns the generator's loss."""
        return ops.mean(ops.softplus(-logits))

    def train_critic(self, x: Any, latent: Any) -> Any:
        """Trains the critic; returns its loss."""
        made = self.generator(latent, training=True)
        both = ops.concatenate([made, x], axis=0)
        labels = ops.concatenate([-ops.ones_like(x[:, :1]), ops.ones_like(x[:, :1])], axis=0)
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.softplus(-labels * self.critic(both)))
        self.apply_to_critic(tape.gradient(loss, self.critic.trainable_variables))
        return loss

    def apply_to_critic(self, gradients: Any) -> None:
        """Applies gradients of the critic."""
        variables = self.critic.trainable_variables
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


class Wasserstein(Adversaries):
    """WGAN-GP: several critic steps per step, and a penalty on the gradient of the inputs."""

    def deceived(self, logits: Any) -> Any:
        return -ops.mean(logits)

    def train_critic(self, x: Any, latent: Any) -> Any:
        part = ops.sigmoid(x[:, :1])
        for _ in range(2):
            with tf.GradientTape() as tape:
                made = self.generator(latent, training=True)
                mixed = part * x + (1 - part) * made
                with tf.GradientTape() as inner:
                    inner.watch(mixed)
                    judged = self.critic(mixed, training=True)
                slope = inner.gradient(judged, mixed)
                norm = tf.sqrt(tf.reduce_sum(tf.square(slope), axis=1) + 1e-12)
                loss = ops.mean(self.critic(made)) - ops.mean(self.critic(x))
                loss += ops.mean(ops.square(norm - 1.0))
            self.apply_to_critic(tape.gradient(loss, self.critic.trainable_variables))
        return loss


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "autoencoder": lambda _: Autoencoder(),
    "variational": lambda _: Variational(),
    "siamese": lambda _: Siamese(),
    "adversaries": lambda configuration: Adversaries(build_optimizer(configuration)),
    "wasserstein": lambda configuration: Wasserstein(build_optimizer(configuration)),
}
