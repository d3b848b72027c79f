"""The model against one in NumPy, and what a position may depend on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from recipes.language.block import SwiGLU
from recipes.language.model import compile_for_training, language_model
from recipes.language.rotary import RotaryAngles, rotated
from recipes.language.sizes import ModelSize
from tests.unit.recipes.language import numpy_model

SIZE = ModelSize(layers=2, width=12, heads=2)
NUM_TOKENS = 11
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 2, 3, 0, 0], list(range(9))], np.int32)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def model(float64: None) -> keras.Model:
    """Weights are larger than at the start, so that every part changes the logits."""
    built = language_model(SIZE, num_tokens=NUM_TOKENS, seed=0)
    random = np.random.default_rng(0)
    built.set_weights([random.normal(0.3, 0.5, array.shape) for array in built.get_weights()])
    return built


def rows(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    tokens = np.random.default_rng(seed).integers(0, NUM_TOKENS, SEGMENTS.shape, np.int32)
    return {"tokens": tokens, "positions": POSITIONS, "segment_ids": SEGMENTS}


def logits_of(model: keras.Model, batch: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.asarray(model(batch))


def test_rotation_is_that_of_complex_numbers() -> None:
    random = np.random.default_rng(0)
    heads, positions = random.normal(size=(1, 6, 3, 8)), np.array([[0, 1, 2, 77, 4095, 3]])
    turned = np.asarray(rotated(heads, RotaryAngles(8)(positions)))
    for head in range(3):
        expected = numpy_model.rotated(heads[0, :, head], positions[0])
        np.testing.assert_allclose(turned[0, :, head], expected, rtol=0, atol=1e-12)


def test_products_of_rotated_vectors_depend_on_the_distance_only() -> None:
    random = np.random.default_rng(1)
    query, key = (np.tile(random.normal(size=(1, 1, 1, 8)), (1, 2, 1, 1)) for _ in range(2))
    queries = np.asarray(rotated(query, RotaryAngles(8)(np.array([[5, 105]]))))
    keys = np.asarray(rotated(key, RotaryAngles(8)(np.array([[2, 102]]))))
    near, far = (queries * keys).sum(axis=(0, 2, 3))
    assert near == pytest.approx(far, abs=1e-12)


def test_angles_are_exact_at_large_positions_in_half_precision() -> None:
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    cosine = np.asarray(RotaryAngles(2)(np.array([[2049]])), np.float32)[0, 0, 0]
    assert cosine == pytest.approx(np.cos(2049), abs=2**-8)  # bfloat16 itself has no 2049


def test_the_feed_forward_layer_is_swiglu() -> None:
    random = np.random.default_rng(2)
    layer = SwiGLU(hidden_width=5, output_stddev=0.02, seed=0)
    states = random.normal(size=(2, 3, 4))
    layer(states)
    kernels = [random.normal(size=array.shape) for array in layer.get_weights()]
    layer.set_weights(kernels)
    expected = numpy_model.swiglu(states, *kernels)
    np.testing.assert_allclose(np.asarray(layer(states)), expected, rtol=0, atol=1e-12)


def test_the_norm_is_rms() -> None:
    states, scale = np.random.default_rng(3).normal(size=(2, 5)), np.arange(1.0, 6.0)
    layer = keras.layers.RMSNormalization()
    layer(states)
    layer.set_weights([scale])
    expected = numpy_model.rms_norm(states, scale)
    np.testing.assert_allclose(np.asarray(layer(states)), expected, rtol=0, atol=1e-12)


def test_logits_are_those_of_numpy(model: keras.Model) -> None:
    batch = rows()
    found = logits_of(model, batch)
    weights = {variable.path: np.asarray(variable) for variable in model.weights}
    for row in range(2):
        of_row = {name: array[row] for name, array in batch.items()}
        expected = numpy_model.logits(weights, SIZE.layers, SIZE.heads, of_row)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("place", range(9))
def test_a_later_token_never_changes_earlier_logits(model: keras.Model, place: int) -> None:
    batch = rows()
    changed = {**batch, "tokens": batch["tokens"].copy()}
    changed["tokens"][:, place] = (changed["tokens"][:, place] + 1) % NUM_TOKENS
    before, after = logits_of(model, batch), logits_of(model, changed)
    np.testing.assert_array_equal(after[:, :place], before[:, :place])
    assert np.abs(after[:, place:] - before[:, place:]).max() > 1e-3


def test_a_document_has_the_same_logits_alone_and_packed(model: keras.Model) -> None:
    batch = rows()
    packed = logits_of(model, batch)[0, 3:7]
    alone = logits_of(
        model,
        {
            "tokens": batch["tokens"][:1, 3:7],
            "positions": np.arange(4, dtype=np.int32)[None],
            "segment_ids": np.ones((1, 4), np.int32),
        },
    )[0]
    np.testing.assert_allclose(packed, alone, rtol=0, atol=1e-12)


def test_parameters_are_those_counted_by_hand() -> None:
    model = language_model(ModelSize(layers=3, width=64, heads=4), num_tokens=256, seed=0)
    # 8 * 64 / 3 is 170.7; the next multiple of 32 is 192.
    block = 4 * 64 * 64 + 3 * 64 * 192 + 2 * 64
    assert model.count_params() == 256 * 64 + 3 * block + 64


def test_weights_are_decayed_but_norms_and_embeddings_are_not() -> None:
    model = language_model(SIZE, num_tokens=NUM_TOKENS, seed=0)
    compile_for_training(model, keras.optimizers.AdamW(0.5, weight_decay=0.5), [1] * NUM_TOKENS)
    before = {variable.path: np.array(variable) for variable in model.weights}
    model.optimizer.apply([np.zeros(array.shape) for array in before.values()], model.weights)
    for variable in model.weights:
        is_matrix = "kernel" in variable.path
        share = 0.75 if is_matrix else 1.0
        expected = share * before[variable.path]
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=1e-12, atol=0)


def test_an_untrained_model_is_nearly_uniform() -> None:
    keras.utils.set_random_seed(0)
    model = language_model(ModelSize(layers=2, width=64, heads=2), num_tokens=256, seed=0)
    targets = rows(1)["tokens"]
    losses = keras.losses.sparse_categorical_crossentropy(targets, logits_of(model, rows()), True)
    assert np.asarray(losses).mean() / np.log(2) == pytest.approx(8, abs=0.3)


def test_a_saved_model_gives_the_same_logits(model: keras.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits_of(loaded, rows()), logits_of(model, rows()))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 8, 2), "`--layers` must be at least 1"),
        ((1, 9, 2), "`--width` must be an even multiple of --heads.*Use --width=8"),
        ((1, 6, 2), "`--width` must be an even multiple of --heads.*Use --width=8"),
    ],
)
def test_impossible_sizes_are_refused(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSize(*size)
