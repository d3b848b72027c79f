from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from recipes.language.bits_per_byte import BitsPerByte
from recipes.language.model import compile_for_training


def test_a_uniform_model_of_bytes_needs_8_bits() -> None:
    metric = BitsPerByte([1] * 256)
    metric.update_state(np.arange(256)[None], np.zeros((1, 256, 256), np.float64))
    assert float(metric.result()) == 8.0


def test_a_uniform_model_needs_fewer_bits_where_tokens_have_more_bytes() -> None:
    metric = BitsPerByte([1, 3])  # one bit for each token; 4 tokens of 1 byte and 2 of 3
    metric.update_state(np.array([[0, 0, 0, 0, 1, 1]]), np.zeros((1, 6, 2), np.float64))
    # Keras computes the nats in float32.
    assert float(metric.result()) == pytest.approx(6 / 10, rel=1e-7)


def test_it_is_the_total_of_all_batches_by_hand() -> None:
    metric = BitsPerByte([1, 2, 5])
    # Probabilities 1/2, 1/4, 1/4: 1 or 2 bits.
    logits = np.log([[[0.5, 0.25, 0.25]] * 3])
    metric.update_state(np.array([[0, 1, 2]]), logits, np.array([[1.0, 1.0, 0.0]]))  # 3 bits, 3 B
    metric.update_state(np.array([[2, 2, 0]]), logits, np.array([[1.0, 0.0, 0.0]]))  # 2 bits, 5 B
    assert float(metric.result()) == pytest.approx(5 / 8, rel=1e-7)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_bytes_are_counted_beyond_what_float32_can() -> None:
    metric = BitsPerByte([2**24, 1])
    metric.update_state(np.array([[0], [1]]), np.zeros((2, 1, 2), np.float32))
    assert float(metric.bytes) == 2**24 + 1


def test_the_config_makes_the_same_metric() -> None:
    metric = BitsPerByte([1, 2, 5])
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert copy.get_config() == metric.get_config()


def test_the_loss_is_the_mean_over_the_tokens_that_count() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 4, 3)).astype(np.float32)
    tokens = random.integers(0, 3, (2, 4))
    weights = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], np.float32)
    model: Any = keras.Sequential([keras.Input((4, 3)), keras.layers.Activation("linear")])
    compile_for_training(model, keras.optimizers.SGD(0.0), [1, 1, 1])
    loss, bits = model.evaluate(logits, tokens, sample_weight=weights, batch_size=2, verbose=0)
    wide = logits.astype(np.float64)
    chosen = np.take_along_axis(wide, tokens[..., None], axis=-1)[..., 0]
    nats = np.log(np.exp(wide).sum(-1)) - chosen
    expected = (nats * weights).sum() / 4
    assert loss == pytest.approx(expected, rel=1e-6)
    assert bits == pytest.approx(expected / math.log(2), rel=1e-6)
