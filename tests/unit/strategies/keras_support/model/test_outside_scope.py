"""A model outside of every scope trains on one device, which `fit` announces."""

from __future__ import annotations

import sys

import pytest

from tests.programs import completed, forked

DEADLINE_SECONDS = 200

PLAIN = """
import keras, numpy as np, strategies, tensorflow as tf

x, y = np.ones([4, 3]), np.ones([4, 1])

def made(name):
    layers = [keras.Input((3,)), keras.layers.Dense(1)]
    model = keras.Sequential(layers, name=name)
    model.compile("sgd", "mse")
    return model
"""
SAYS = "built outside of `strategy.scope()`, so it trains on one device"
CURE = "build and compile it under `with strategy.scope():`."


def announced(code: str, *command: str) -> list[str]:
    """Runs a program and returns the announcements of models outside, as printed."""
    ended = completed(*command, *forked("-c", PLAIN + code), timeout=DEADLINE_SECONDS)
    assert ended.returncode == 0, ended.stderr[-4000:]
    lines = (ended.stdout + ended.stderr).splitlines()
    return [line for line in lines if SAYS in line]


def test_the_first_fit_of_a_process_announces_it_and_no_other_call() -> None:
    (line,) = announced(
        "strategy = strategies.mirrored_strategy(2)\n"
        "evaluated, first, second = made('evaluated'), made('first'), made('second')\n"
        "evaluated.evaluate(x, y, verbose=0)\n"
        "evaluated.predict(x, verbose=0)\n"
        "evaluated.train_on_batch(x, y)\n"
        "for model in (first, first, second):\n"
        "    model.fit(x, y, verbose=0)\n"
    )
    assert line == (f"tfscale: model 'first' was {SAYS}. To train it on all replicas, {CURE}")


def test_a_strategy_that_the_program_did_not_keep_counts() -> None:
    assert len(announced("strategies.mirrored_strategy(2)\nmade('any').fit(x, y, verbose=0)")) == 1


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "strategy = strategies.one_device_strategy()\nmade('any').fit(x, y, verbose=0)",
            id="only strategies of one replica",
        ),
        pytest.param(
            "strategy = strategies.mirrored_strategy(2)\n"
            "with tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope():\n"
            "    made('any').fit(x, y, verbose=0)\n"
            "with strategy.scope():\n"
            "    model = made('own')\n"
            "model.fit(x, y, verbose=0)\n",
            id="models of TensorFlow's strategy and of the own one",
        ),
    ],
)
def test_no_announcement(code: str) -> None:
    assert announced(code) == []


def test_each_of_several_workers_announces_it() -> None:
    launcher = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    lines = announced("strategies.auto_strategy()\nmade('any').fit(x, y, verbose=0)", *launcher)
    assert sorted(lines) == [
        f"[worker {worker}] tfscale: model 'any' was {SAYS}, separately on each worker. To train "
        f"it on all replicas, {CURE}"
        for worker in range(2)
    ]


def test_a_model_that_is_refused_is_not_announced() -> None:
    ended = completed(
        *forked(
            "-c",
            f"{PLAIN}strategy = strategies.mirrored_strategy(2)\n"
            "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])\n"
            "with strategy.scope():\n"
            "    model.compile('sgd', 'mse')\n"
            "model.fit(x, y, verbose=0)",
        ),
        timeout=DEADLINE_SECONDS,
    )
    assert "must be made inside `strategy.scope()` like its parts" in ended.stderr
    assert SAYS not in ended.stderr
