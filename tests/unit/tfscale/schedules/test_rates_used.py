"""The learning rate of every step equals the closed form, under each strategy."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import forked, run_program

PROGRAM = Path(__file__).with_name("rates_used.py")
STEPS = np.arange(24)
DEADLINE_S = 480


def cosine(step: int) -> float:
    share = min(step / 20, 1)
    return 0.1 * (0.9 * 0.5 * (1 + math.cos(math.pi * share)) + 0.1)


def warmup(step: int) -> float:
    return 0.1 * step / 4 if step < 4 else cosine(step - 4)


def join(step: int) -> float:
    t = step - 7 + 1
    return 0.3 if step < 7 else 0.1 * min(t / 5, math.sqrt(5 / t))


# No epoch after the first improves, patience is 2, cooldown 1, and a quarter is the least: epoch 0
# is the best; 1 and 2 wait; 3 cools down; 4 and 5 wait; 6 cools down; 7 waits.
FACTORS = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def adjustable(step: int) -> float:
    return FACTORS[step // 3] * cosine(step)


CLOSED_FORMS: dict[str, Callable[[int], float]] = {
    "warmup": warmup,
    "join": join,
    "adjustable": adjustable,
    "adjustable outside": adjustable,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen on 2 mirrored replicas, without a strategy, and by each of 2 workers."""
    folder = tmp_path_factory.mktemp("rates")
    run_program(*forked(str(PROGRAM), "mirrored", str(folder / "alone")), timeout=DEADLINE_S)
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable]
    program = forked(str(PROGRAM), "workers", str(folder / "worker"))
    run_program(*launch, *program, timeout=DEADLINE_S)
    found: dict[str, Any] = json.loads((folder / "alone").read_text())
    for index in range(2):
        found[f"worker {index}"] = json.loads((folder / f"worker.{index}").read_text())["workers"]
    return found


@pytest.mark.parametrize("schedule", CLOSED_FORMS)
@pytest.mark.parametrize("kind", ["mirrored", "plain", "worker 0", "worker 1"])
def test_logged_and_used_rates_are_the_closed_forms_at_every_step(
    seen: dict[str, Any], kind: str, schedule: str
) -> None:
    wanted = [CLOSED_FORMS[schedule](int(step)) for step in STEPS]
    found = seen[kind][schedule]
    np.testing.assert_allclose(found["logged"], wanted, rtol=1e-12, atol=1e-16)
    # The weight, whose differences these are, has lost digits of its own.
    np.testing.assert_allclose(found["used"], wanted, atol=1e-14)


def test_workers_use_the_same_rates_to_the_bit(seen: dict[str, Any]) -> None:
    assert seen["worker 0"] == seen["worker 1"]


@pytest.mark.parametrize("kind", ["mirrored", "plain", "worker 0", "worker 1"])
def test_a_plateau_reduces_a_running_schedule(seen: dict[str, Any], kind: str) -> None:
    assert seen[kind]["adjustable"]["factors"] == FACTORS
    assert seen[kind]["adjustable outside"]["factors"] == FACTORS
    assert seen[kind]["warmup"]["factors"] is None
