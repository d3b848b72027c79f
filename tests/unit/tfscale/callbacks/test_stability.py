"""A planted NaN and a planted spike: each policy acts as documented, equally on all workers."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strategies.keras_support.patching import ownership
from tests.programs import forked, run_program
from tfscale.callbacks import Stability
from tfscale.callbacks.stability import adjustable_rates

PROGRAM = Path(__file__).with_name("stability_training.py")
DEADLINE_S = 480
WORKERS = ["worker 0", "worker 1"]
RATE = 0.05

MIXED = [(0, "loss_not_finite"), (5, "loss_not_finite"), (7, "loss_spike")]
EVENTS = {
    "skip": MIXED,
    "skip in execution": MIXED,
    "accumulating": [(4, "loss_not_finite"), (7, "loss_not_finite")],
    "stop": [(7, "loss_spike")],
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each case, by kind of strategy; and what the two workers printed."""
    folder = tmp_path_factory.mktemp("stability")
    run_program(*forked(str(PROGRAM), "mirrored", str(folder / "alone")), timeout=DEADLINE_S)
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable]
    program = forked(str(PROGRAM), "workers", str(folder / "worker"))
    printed = run_program(*launch, *program, timeout=DEADLINE_S)
    found: dict[str, Any] = json.loads((folder / "alone").read_text())
    for index in range(2):
        found[f"worker {index}"] = json.loads((folder / f"worker.{index}").read_text())
    return {**found, "printed": printed}


def steps_and_kinds(case: dict[str, Any]) -> list[tuple[int, str]]:
    return [(step, kind) for step, kind, *_ in case["events"]]


def actions(case: dict[str, Any]) -> list[str]:
    return [event[-1] for event in case["events"]]


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("skip", "alone"),
        ("skip in execution", "mirrored"),
        ("accumulating", "mirrored"),
        *(("stop", kind) for kind in ("alone", *WORKERS)),
    ],
)
def test_training_is_that_of_stock_keras_without_the_bad_batches(
    seen: dict[str, Any], case: str, kind: str
) -> None:
    found, wanted = seen[kind][case], seen["stock"][case]
    assert steps_and_kinds(found) == EVENTS[case]
    for ours, theirs in zip(found["variables"], wanted["variables"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert found["history"] == pytest.approx(wanted["history"], rel=1e-12)


def test_an_event_tells_the_loss_and_the_norm_of_the_whole_batch(seen: dict[str, Any]) -> None:
    for case, kinds in (("skip", ["mirrored"]), ("stop", WORKERS)):
        _, _, norm, loss, limit, _ = seen["alone"][case]["events"][-1]
        # One residual of about 1e6 among the 4 rows: (1e6)^2 / 4, up to what the model predicts.
        assert loss == pytest.approx(2.5e11, rel=1e-4)
        assert norm > 1e5
        assert limit < 1e3
        for kind in kinds:
            found = seen[kind]["skip in execution" if case == "skip" else case]
            _, _, *numbers, _ = found["events"][-1]
            assert numbers == pytest.approx([norm, loss, limit], rel=1e-9)


@pytest.mark.parametrize("kind", ["mirrored", *WORKERS])
def test_rolling_back_returns_to_the_kept_state_to_the_bit(seen: dict[str, Any], kind: str) -> None:
    # States are kept before steps 0, 3, 6; trouble in step 7. Kept again before step 9; in step 10
    # the one roll-back is used up.
    found = seen[kind]["roll back"]
    assert actions(found) == ["roll_back", "stop"]
    assert steps_and_kinds(found) == [(7, "loss_not_finite"), (10, "loss_not_finite")]
    states = found["states"]
    assert states[7] == states[5]
    assert states[6] != states[5]
    assert states[8] != states[7]
    assert states[10] == states[9]
    np.testing.assert_allclose(found["rates"][:10], [RATE] * 7 + [RATE / 2] * 3, rtol=1e-7)


def test_each_roll_back_lowers_a_running_schedule_further(seen: dict[str, Any]) -> None:
    found = seen["mirrored"]["twice"]
    assert actions(found) == ["roll_back", "roll_back"]
    states = found["states"]
    assert states[10] == states[7]  # both the state before step 0

    def rate(iterations: int, factor: float) -> float:
        return factor * RATE * 0.5 * (1 + math.cos(math.pi * iterations / 40))

    wanted = [rate(i + 1, 1.0) for i in range(7)]
    wanted += [rate(i, 0.5) for i in range(3)] + [rate(i, 0.25) for i in range(2)]
    np.testing.assert_allclose(found["rates"], wanted, rtol=1e-12)


def test_roll_backs_undo_whole_executions_and_lower_a_constant_rate_further(
    seen: dict[str, Any],
) -> None:
    # Executions of 3; steps 4 and 7 are in the middle of the second and the third.
    found = seen["mirrored"]["roll back in execution"]
    assert steps_and_kinds(found) == [(4, "loss_not_finite"), (7, "loss_not_finite")]
    assert actions(found) == ["roll_back", "roll_back"]
    states = found["states"]
    assert states[1] == states[2]  # both the state before step 0
    assert states[0] != states[1]
    np.testing.assert_allclose(found["rates"], [RATE, RATE / 2, RATE / 4, RATE / 4], rtol=1e-7)


def test_workers_come_to_the_same_state_to_the_bit(seen: dict[str, Any]) -> None:
    for case, found in seen["worker 0"].items():
        assert found["states"] == seen["worker 1"][case]["states"]
        assert repr(found["events"]) == repr(seen["worker 1"][case]["events"])


def test_the_chief_prints_one_line_for_each_event_and_others_none(seen: dict[str, Any]) -> None:
    lines = [line for line in seen["printed"].splitlines() if "tfscale: step " in line]
    assert len(lines) == sum(len(case["events"]) for case in seen["worker 0"].values())
    assert any(
        "Rolled back to the state before step 6; rate multiplied by 0.5." in x for x in lines
    )
    assert any("Already rolled back 1 times (max_rollbacks). Training stops" in x for x in lines)


def test_a_model_under_no_strategy_of_ours_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    rows = np.ones([4, 1])
    monkeypatch.setattr(ownership, "_BUILT", set())  # whatever ran in this process before
    with pytest.raises(ValueError, match=r"strategies\.one_device_strategy\(\)\.scope\(\)"):
        plain.fit(rows, rows, callbacks=[Stability()], verbose=0)


def test_a_rate_that_cannot_be_lowered_is_refused_with_the_cure() -> None:
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ValueError, match=r"tfscale\.schedules\.adjustable\(schedule\), or pass"):
        adjustable_rates(keras.optimizers.SGD(rate))
    assert adjustable_rates(keras.optimizers.SGD(0.1)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_trouble": "ignore"}, "`on_trouble` must be one of skip, roll_back, stop. Received"),
        ({"factor": 1.0}, "`factor` must be above 1, or None"),
        ({"window": 0}, "`window` must be a positive integer. Received: window=0"),
        ({"warmup_steps": 0}, "`warmup_steps` must be a positive integer"),
        ({"keep_every": 2.5}, "`keep_every` must be a positive integer"),
        ({"rate_factor": 0.0}, "`rate_factor` must be above 0 and at most 1"),
        ({"max_rollbacks": 0}, "`max_rollbacks` must be a positive integer"),
    ],
)
def test_the_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stability(**arguments)
