"""Real compilations for chips that are not there: `make preflight`.

Skipped unless TFSCALE_PREFLIGHT is set: they take minutes, and an environment of 1.1 GB. Answers
are kept in the user's cache, so a second run takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[6]
MODELS = "tests.unit.tfscale.inspect.preflight.ahead_of_time.aot_models"
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not os.environ.get("TFSCALE_PREFLIGHT"),
    reason="TFSCALE_PREFLIGHT is not set; `make preflight` makes the environment and runs this",
)


def preflight(function: str, target: str, *flags: str, status: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tfscale", "preflight", f"{MODELS}:{function}", "--aot"),
            *(f"--target={target}", "--json", *flags),
        ],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == status, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)["ahead_of_time"]
    return found


@pytest.mark.parametrize("target", ["v5e:1x1", "v5e:2x2", "v6e:1x1"])
def test_a_dense_network_compiles_for_each_chip(target: str) -> None:
    found = preflight("tiny", target, "--batch_size=8")
    assert found["fits"]
    assert 0 < found["memory"]["total"] < 8 * MIB


@pytest.mark.parametrize(
    ("function", "least", "most"),
    [("transformer", 2500, 2800), ("transformer_bfloat16", 900, 2500)],
)
def test_a_transformer_of_45_million_parameters_fits(function: str, least: int, most: int) -> None:
    found = preflight(function, "v5e:1x1", "--batch_size=8")
    memory = found["memory"]
    # float32 weights and two slots of AdamW, whose sizes are whole tiles but for vectors.
    weights = 45_719_072 * 4
    assert weights <= memory["parameters"] < 1.01 * weights
    assert 2 * weights <= memory["optimizer"] < 1.01 * 2 * weights
    assert least * MIB < memory["total"] < most * MIB


def test_a_batch_that_does_not_fit_is_refused_with_the_layer() -> None:
    found = preflight("transformer_large_batch", "v5e:1x1", "--batch_size=512", status=1)
    short = found["out_of_memory"]
    assert short["needed_bytes"] > short["offered_bytes"] > 15 * 2**30
    assert short["largest"][0]["layer"].startswith("transformer/")
