from __future__ import annotations

from collections.abc import Iterator

import keras
import pytest
import tensorflow as tf

from tfscale.precision import choose_precision, set_precision
from tfscale.precision_choice import PrecisionChoice


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("precision", "computes_in", "keeps_in"),
    [
        ("float64", "float64", "float64"),
        ("float32", "float32", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
    ],
)
def test_layers_made_afterwards_compute_and_keep_weights_as_asked(
    precision: str, computes_in: str, keeps_in: str
) -> None:
    policy = set_precision(precision)
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    assert policy == keras.config.dtype_policy()
    assert (layer.compute_dtype, layer.kernel.dtype) == (computes_in, keeps_in)
    assert layer(tf.ones([1, 2])).dtype == computes_in


def test_losses_and_metrics_follow_float64_and_return_to_float32() -> None:
    set_precision("float64")
    assert keras.losses.MeanSquaredError()(tf.zeros([1]), tf.ones([1])).dtype == tf.float64
    assert keras.metrics.Mean().total.dtype == "float64"
    set_precision("mixed_bfloat16")
    assert keras.config.floatx() == "float32"


def test_auto_chooses_float32_on_a_cpu_and_prints_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    assert set_precision("auto", strategy).name == "float32"
    assert "tfscale: precision float32 (no GPU or TPU)." in capsys.readouterr().err


def test_choose_precision_returns_the_reason_and_sets_nothing() -> None:
    set_precision("mixed_bfloat16")
    assert choose_precision("auto") == PrecisionChoice("float32", "no GPU or TPU")
    assert choose_precision("float64") == PrecisionChoice("float64", "as asked")
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_a_named_precision_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    set_precision("float32")
    assert capsys.readouterr().err == ""


def test_float16_trains_with_a_loss_scale() -> None:
    set_precision("mixed_float16")
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("precision", ["float7", "", "bfloat16", "AUTO", None, 32])
def test_an_unknown_precision_raises_and_changes_nothing(precision: object) -> None:
    set_precision("mixed_bfloat16")
    with pytest.raises(ValueError, match=r"`precision` must be one of auto, .* Received: precis"):
        set_precision(precision)  # type: ignore[arg-type]
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
