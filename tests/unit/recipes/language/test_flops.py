from __future__ import annotations

import tensorflow as tf

from recipes.language.flops import flops_per_token
from recipes.language.model import language_model
from recipes.language.sizes import SIZES, ModelSize
from strategies import one_device_strategy
from tfscale.monitor import measured_peak


def test_operations_of_a_token_are_those_counted_by_hand() -> None:
    size, num_tokens, context = ModelSize(layers=3, width=64, heads=4), 100, 50
    hidden = 192
    # Two operations for each element of a matrix, forward; twice as many backward.
    matrices = 64 * 3 * 64 + 64 * 64 + 64 * 2 * hidden + hidden * 64
    attention = 2 * 64 * context  # products with `context` keys, and sums of as many values
    by_hand = 3 * 2 * (3 * (matrices + attention) + num_tokens * 64)
    model = language_model(size, num_tokens=num_tokens, seed=0)
    norms = 6 * 7 * 64  # PaLM's formula counts them as matrices
    counted = flops_per_token(size, num_parameters=model.count_params(), context=context)
    assert counted == by_hand + norms


def test_palm_540b_needs_the_operations_of_its_paper() -> None:
    # 118 layers, 48 heads of 256, rows of 2,048 tokens: appendix B adds attention to 6 N.
    palm = ModelSize(layers=118, width=48 * 256, heads=48)
    attention = flops_per_token(palm, num_parameters=0, context=2048)
    assert attention == 12 * 118 * 48 * 256 * 2048
    # Table 3: 238.3e3 tokens a second, 46.2 % of the 275 TFLOP/s of each of 6,144 chips.
    with_attention = flops_per_token(palm, num_parameters=540_350_000_000, context=2048)
    utilization = with_attention * 238.3e3 / (6144 * 275e12)
    assert abs(utilization - 0.462) < 0.002


def test_the_peak_is_above_what_a_small_product_reaches() -> None:
    peak = measured_peak(one_device_strategy())
    assert 1e8 < peak < 1e16


def test_base_has_the_size_of_gpt2_small() -> None:
    assert (SIZES["base"].layers, SIZES["base"].width, SIZES["base"].heads) == (12, 768, 12)
    assert SIZES["base"].head_width == 64
    assert SIZES["base"].hidden_width == 2048
    assert tf.math.ceil(8 * 768 / 3) == 2048
