"""A forged checkpoint can contain other weights, but cannot do anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from recipes.images.training_log import TrainingLog
from tests.checkpoint_damage.made import signed
from tfscale.callbacks import Checkpoint, ReduceOnPlateau, Stability
from tfscale.checkpoints.callback_state import restore_callbacks
from tfscale.checkpoints.state import restore, training_variables
from tfscale.checkpoints.tensors import Values
from tfscale.schedules import adjustable

ROWS = np.arange(12.0, dtype=np.float32).reshape(12, 1) / 12


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.one_device_strategy("CPU:0")


def fit(strategy: tf.distribute.Strategy, *callbacks: Any, epochs: int = 2) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        rate = adjustable(keras.optimizers.schedules.CosineDecay(0.1, 100))
        model.compile(keras.optimizers.SGD(rate), "mse")
    given: dict[str, Any] = {"batch_size": 4, "shuffle": False, "epochs": epochs, "verbose": 0}
    model.fit(ROWS, ROWS, callbacks=list(callbacks), **given)


def forge(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the newest manifest and makes its checksum right."""
    path = max(folder.glob("step-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(signed(manifest))


def test_a_forged_state_overwrites_no_file_and_the_one_before_is_used(
    strategy: tf.distribute.Strategy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious.keras"
    precious.write_text("of the person who resumes")

    def callbacks() -> list[Any]:
        best = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), "loss")
        return [Checkpoint(tmp_path / "run"), best]

    fit(strategy, *callbacks())
    forge(
        tmp_path / "run",
        lambda manifest: manifest["callbacks"]["ModelCheckpoint"].update(filepath=str(precious)),
    )
    checkpoint, best = callbacks()
    fit(strategy, checkpoint, best, epochs=3)
    assert checkpoint.resumed_from.epoch == 1
    assert precious.read_text() == "of the person who resumes"
    assert best.filepath == str(tmp_path / "best.keras")
    assert (
        "malformed: `callbacks.ModelCheckpoint` must be an object of best" in capfd.readouterr().err
    )


@pytest.mark.parametrize("best", ["0.5", [0.5], {"x": 1}, True, 2**70], ids=str)
def test_a_state_of_another_type_is_damage(
    strategy: tf.distribute.Strategy, tmp_path: Path, best: Any
) -> None:
    fit(strategy, Checkpoint(tmp_path), keras.callbacks.EarlyStopping("loss"))
    forge(tmp_path, lambda manifest: manifest["callbacks"]["EarlyStopping"].update(best=best))
    checkpoint = Checkpoint(tmp_path)
    fit(strategy, checkpoint, keras.callbacks.EarlyStopping("loss"), epochs=3)
    assert checkpoint.resumed_from is not None
    assert checkpoint.resumed_from.epoch == 1


def test_one_value_for_all_replicas_cannot_become_one_a_replica(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    fit(strategy, Checkpoint(tmp_path))

    def split(manifest: dict[str, Any]) -> None:
        kernel = next(v for k, v in manifest["tensors"].items() if k.endswith("/bias"))
        kernel.update(shape=[1, 1], is_per_replica=True)
        kernel["slices"][0].update(start=[0, 0], shape=[1, 1])

    forge(tmp_path, split)
    with pytest.raises(ValueError, match="with one value for all replicas"):
        fit(strategy, Checkpoint(tmp_path), epochs=3)


def test_a_model_that_is_not_the_checkpoints_stays_as_it_was(
    strategy: tf.distribute.Strategy,
) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    wanted = [variable.numpy() for variable in model.variables]
    state = {
        key: Values(np.ones(variable.shape, variable.dtype))
        for key, variable in training_variables(model).items()
    }
    last = list(state)[-1]
    state[last] = Values(np.ones([9, 9]))
    with pytest.raises(ValueError, match=r"in the checkpoint float64 \(9, 9\)"):
        restore(model, state)
    for variable, array in zip(model.variables, wanted, strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)


def test_a_position_outside_of_its_epoch_is_refused(
    strategy: tf.distribute.Strategy, tmp_path: Path
) -> None:
    fit(strategy, Checkpoint(tmp_path))
    forge(tmp_path, lambda manifest: manifest["position"].update(step=3))
    with pytest.raises(ValueError, match=r"within an epoch of 3 steps\. Received: step 3"):
        fit(strategy, Checkpoint(tmp_path), epochs=3)


def test_best_weights_of_another_model_are_refused_before_they_are_kept() -> None:
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    stopping.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    stopping.on_train_begin()
    state = {"wait": 0, "stopped_epoch": 0, "best": None, "best_epoch": 0}
    kept = {"callbacks/EarlyStopping/best_weights/0": Values(np.zeros([9, 9]))}
    with pytest.raises(ValueError, match=r"must be of the shapes \[\(1, 1\), \(1,\)\]"):
        restore_callbacks([stopping], {"EarlyStopping": state}, kept)
    assert stopping.best_weights is None


def some(*values: Any) -> tuple[Any, ...]:
    """Returns values of any types."""
    return values


PLATEAU = {"best": 0.5, "wait": 1, "cooldown_left": 0, "factors": [0.5]}
EVENT = {"step": 3, "kind": "loss_spike", "norm": 1.0, "loss": 2.0, "limit": 1.5, "action": "skip"}
WATCH = {"steps": 3, "events": [EVENT], "factors": [0.5], "memory": [[0.0] * 4, [0.0] * 4, 0, 3]}
ROW = {"epoch": 1.0, "step": 3.0, "learning_rate": 0.1, "seconds": 1.0, "loss": 0.5}
HOSTILE: list[tuple[Any, dict[str, Any], list[Any]]] = [
    (
        lambda: ReduceOnPlateau("loss"),
        PLATEAU,
        [
            *(None, [], {}, {**PLATEAU, "monitor": "x"}),
            *({**PLATEAU, "wait": v} for v in some(-1, 1.5, "1", None, True, 2**64, [1])),
            *({**PLATEAU, "best": v} for v in some("0.5", [0.5], {}, False, 10**400)),
            *({**PLATEAU, "factors": v} for v in some(None, [], [1.0, 1.0], "1", {"0": 1.0})),
            *(
                {**PLATEAU, "factors": [v]}
                for v in some(-1.0, math.nan, math.inf, "1", 10**400, [])
            ),
        ],
    ),
    (
        lambda: Stability(window=4),
        WATCH,
        [
            *(None, 3, {}, {**WATCH, "model": 1}),
            *({**WATCH, "steps": v} for v in some(-1, 1.5, "1", None, 2**64)),
            *({**WATCH, "events": v} for v in some(None, {}, [1], [{}], [{**EVENT, "x": 1}])),
            *({**WATCH, "events": [{**EVENT, "action": v}]} for v in some("exec", 1, [], None)),
            *(
                {**WATCH, "memory": v}
                for v in some(None, [], [0, 0, 0, 0], [[0.0] * 9] * 4, ["x"] * 4)
            ),
            *(
                {**WATCH, "memory": [[[0.0]] * 4, [0.0] * 4, 0, v]}
                for v in some(3, -1, "x", math.nan)
            ),
            {**WATCH, "factors": [math.nan]},
        ],
    ),
    (
        lambda: TrainingLog(lambda step: 0.1),
        {"rows": [ROW]},
        [
            *(None, [], {}, {"rows": {}}, {"rows": [1]}, {"rows": [{}]}, {"rows": [ROW], "x": 1}),
            *({"rows": [{**ROW, "epoch": v}]} for v in some(math.nan, math.inf, "1", None, [])),
            *({"rows": [{**ROW, "loss": v}]} for v in some("=cmd()", None, {}, True)),
        ],
    ),
]


@pytest.mark.parametrize(("made", "right", "wrong"), HOSTILE, ids=["plateau", "stability", "log"])
def test_our_callbacks_take_back_what_they_returned_and_refuse_all_else(
    strategy: tf.distribute.Strategy, made: Any, right: Any, wrong: list[Any]
) -> None:
    callback = made()
    fit(strategy, callback, epochs=1)
    callback.restore(json.loads(json.dumps(right)))
    kept = json.dumps(callback.state())
    for state in wrong:
        with pytest.raises(ValueError, match="must be"):
            callback.restore(state)
        assert json.dumps(callback.state()) == kept
