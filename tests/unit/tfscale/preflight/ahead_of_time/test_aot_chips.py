"""Real compilations for chips that this host does not have: `make preflight`.

Skipped unless TFSCALE_PREFLIGHT is set: they take minutes, and an environment of 1.1 GB. Answers
are kept in the user's cache, so a second run takes seconds.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.programs import completed

MODELS = "tests.unit.tfscale.preflight.ahead_of_time.aot_models"
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not os.environ.get("TFSCALE_PREFLIGHT"),
    reason="TFSCALE_PREFLIGHT is not set; `make preflight` makes the environment and runs this",
)


def preflight(
    user_model: str, target: str, *flags: str, status: int = 0
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was found by TensorFlow alone, and what the chip's compiler said."""
    command = ("-m", "tfscale", "preflight", user_model, f"--target={target}", "--aot", "--json")
    done = completed(*command, *flags, timeout=3600)
    assert done.returncode == status, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return found["findings"], found["ahead_of_time"]


@pytest.mark.parametrize("target", ["v5e:1x1", "v5e:2x2", "v6e:1x1"])
def test_a_dense_network_compiles_for_each_chip(target: str) -> None:
    _, found = preflight(f"{MODELS}:tiny", target, "--batch_size=8")
    assert found["fits"]
    assert 0 < found["memory"]["total"] < 8 * MIB


@pytest.mark.parametrize(
    ("recipe", "flags", "target", "kinds", "most"),
    [
        # 1,437 digits in batches of 96: the last has 93. The rows of the regression end alike.
        ("image_classification", "--dataset=digits", "v5e:2x2", ["last batch"], 16),
        ("linear_regression", "--precision=float32", "v5e:2x2", ["last batch"], 8),
        ("recommendation", "--num_shards=1", "v5e:2x2", [], 8),
        # Its sums by row are the SparseCores', which JAX cannot read back.
        ("recommendation", "--num_shards=1", "v6e:1x1", [], 8),
    ],
)
def test_recipes_compile_without_a_false_alarm(
    recipe: str, flags: str, target: str, kinds: list[str], most: int
) -> None:
    findings, found = preflight(f"recipes.{recipe}", target, f"--flags={flags}")
    assert [finding["kind"] for finding in findings] == kinds
    assert 0 < found["memory"]["total"] < most * MIB


def test_an_embedding_is_a_matrix_on_the_chip() -> None:
    _, found = preflight(f"{MODELS}:embedding", "v5e:2x2", "--batch_size=32")
    # Columns are padded from 64 to 128, or the table is laid out the other way round.
    table = 20_000 * 64 * 4
    assert table <= found["memory"]["parameters"] < 2.1 * table
    # Its gradient is one too, all-reduced in the chip's own memory (VMEM), where it has room.
    assert found["memory"]["temporaries"] < table


@pytest.mark.parametrize(
    ("function", "least", "most"),
    # Measured: 2,636 and 1,866 MiB.
    [("transformer", 2600, 2680), ("transformer_bfloat16", 1840, 1890)],
)
def test_a_transformer_of_45_million_parameters_fits(function: str, least: int, most: int) -> None:
    _, found = preflight(f"{MODELS}:{function}", "v5e:1x1", "--batch_size=8")
    memory = found["memory"]
    # float32 weights and two slots of AdamW, whose sizes are whole tiles but for vectors.
    weights = 45_719_072 * 4
    assert weights <= memory["parameters"] < 1.01 * weights
    assert 2 * weights <= memory["optimizer"] < 1.01 * 2 * weights
    assert least * MIB < memory["total"] < most * MIB


def test_a_batch_that_does_not_fit_is_refused_with_the_layer() -> None:
    user_model = f"{MODELS}:transformer_large_batch"
    _, found = preflight(user_model, "v5e:1x1", "--batch_size=512", status=1)
    short = found["out_of_memory"]
    assert short["needed_bytes"] > short["offered_bytes"] > 15 * 2**30
    # The compiler names no buffer; of the step as traced the loss makes the largest arrays.
    assert "logits" in [buffer["layer"] for buffer in short["largest"][:2]]
