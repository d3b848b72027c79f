"""Program: prepares models during training and prints their distance from stock Keras.

python prepared_training.py           mirrored on two logical CPUs
python prepared_training.py FOLDER    one worker of a job; leaves FOLDER/INDEX.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.precision import choose_precision

sys.path.insert(0, str(Path(__file__).parent))
from prepared_models import (  # type: ignore[import-not-found]  # found beside this program
    MODELS,
    functional,
    sequential,
)

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=[15, 4]), DRAW.normal(size=[15, 1])
# Powers of two: exact in any float. Keras computes a cosine in float32.
SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay([6], [2.0**-6, 2.0**-8])


def train(model: Any, epochs: int = 1) -> dict[str, list[float]]:
    """Takes 5 steps an epoch, of 3 rows each, which two replicas cannot share evenly."""
    y = [Y, Y] if len(getattr(model, "outputs", None) or [0]) > 1 else Y
    return dict(model.fit(X, y, batch_size=3, epochs=epochs, shuffle=False, verbose=0).history)


def farthest(first: Any, second: Any) -> float:
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return max(float(np.abs(np.asarray(a, "float64") - np.asarray(b)).max()) for a, b in pairs)


def continued(build: Any, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """5 steps in stock Keras, 5 after `prepare`, against 10 in stock Keras."""
    tfscale.set_precision("float64")
    keras.utils.set_random_seed(0)
    model = build()
    train(model)
    before = model.get_weights()
    prepared = tfscale.prepare(model, strategy, precision="float64")
    found = {
        "apart_before": farthest(model(X), prepared(X)),
        "original_touched": farthest(before, model.get_weights()),
        "steps_before": int(prepared.optimizer.iterations.numpy()),
        "class": type(prepared).__name__,
        "per_execution": [model.steps_per_execution, prepared.steps_per_execution],
    }
    wanted, history = train(model), train(prepared)
    return {
        **found,
        "names": [sorted(wanted), sorted(history)],
        "history_apart": farthest(
            [wanted[name] for name in sorted(wanted)], [history[name] for name in sorted(wanted)]
        ),
        "moved": farthest(before, prepared.get_weights()),
        "apart": farthest(model.get_weights(), prepared.get_weights()),
        "slots_apart": farthest(
            [v.numpy() for v in model.optimizer.variables],
            [v.numpy() for v in prepared.optimizer.variables],
        ),
    }


def widened(strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """A float32 model made a float64 one with a schedule, against one built so from the start."""
    tfscale.set_precision("float32")
    keras.utils.set_random_seed(0)
    model = functional()
    prepared = tfscale.prepare(model, strategy, precision="float64", learning_rate=SCHEDULE)
    built = functional()
    built.optimizer.learning_rate = SCHEDULE
    built.set_weights(model.get_weights())
    wanted, history = train(built, 2), train(prepared, 2)
    return {
        "dtypes": sorted({v.dtype for v in prepared.variables} | {prepared.inputs[0].dtype}),
        "history_apart": farthest(
            [wanted[name] for name in sorted(wanted)], [history[name] for name in sorted(wanted)]
        ),
        "apart": farthest(built.get_weights(), prepared.get_weights()),
    }


def scheduled(strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """A schedule taken up at step 5, against NumPy's SGD; float16 with the scale that it had."""
    tfscale.set_precision("float64")
    layers = [keras.Input([4]), keras.layers.Dense(1, use_bias=False)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    train(model)
    weights = model.get_weights()[0]
    prepared = tfscale.prepare(model, strategy, precision="float64", learning_rate=SCHEDULE)
    train(prepared)
    for step in range(5):
        x, y = X[3 * step : 3 * step + 3], Y[3 * step : 3 * step + 3]
        rate = 2.0**-6 if 5 + step <= 6 else 2.0**-8
        weights = weights - rate * 2 / 3 * x.T @ (x @ weights - y)
    return {"apart": farthest(weights, prepared.get_weights()[0])}


def scaled(strategy: tf.distribute.Strategy) -> dict[str, Any]:
    tfscale.set_precision("mixed_float16")
    model = sequential()
    train(model)
    model.optimizer.dynamic_scale.assign(64.0)
    prepared = tfscale.prepare(model, strategy, precision="mixed_float16")
    moments = farthest(
        [v.numpy() for v in model.optimizer.inner_optimizer.variables],
        [v.numpy() for v in prepared.optimizer.inner_optimizer.variables],
    )
    counted = [int(o.step_counter.numpy()) for o in (model.optimizer, prepared.optimizer)]
    train(prepared)
    unscaled = tfscale.prepare(model, strategy, precision="float32")
    return {
        "scale": float(prepared.optimizer.dynamic_scale.numpy()),
        "counted": counted,
        "moments_apart": moments,
        "finite": bool(all(np.isfinite(w).all() for w in prepared.get_weights())),
        "unscaled": type(unscaled.optimizer).__name__,
    }


def of_a_worker(strategy: tf.distribute.Strategy, index: int) -> dict[str, Any]:
    """What two workers agree on, and what they refuse together."""

    def refused(call: Any) -> str:
        try:
            call()
        except ValueError as error:
            return str(error)
        return "not refused"

    asked = ("float32", "mixed_bfloat16")[index]
    keras.config.set_dtype_policy("float64")
    choice = choose_precision("auto", strategy)
    different = refused(lambda: tfscale.set_precision(asked, strategy))
    one_auto = refused(lambda: tfscale.set_precision(("auto", "float32")[index], strategy))
    kept = keras.config.dtype_policy().name
    keras.utils.set_random_seed(index)
    other_weights = refused(lambda: tfscale.prepare(sequential(), strategy))
    found = continued(sequential, strategy)
    tfscale.set_precision("auto", strategy)
    keras.utils.set_random_seed(index)  # a function's model has the first worker's weights
    built = tfscale.prepare(sequential, strategy, learning_rate=SCHEDULE)
    train(built)
    return {
        "policy": choice.policy,
        "reason": choice.reason,
        "different": different,
        "one_auto": one_auto,
        "kept": kept,
        "other_weights": other_weights,
        "continued": found,
        "weights": np.concatenate([w.ravel() for w in built.get_weights()]).tolist(),
    }


def main() -> None:
    if len(sys.argv) > 1:
        strategy = strategies.multi_worker_mirrored_strategy()
        index = strategy.cluster_resolver.task_id
        report = json.dumps(of_a_worker(strategy, index))
        path = Path(sys.argv[1], f"{index}.json")
        path.with_suffix(".part").write_text(report, "utf-8")
        path.with_suffix(".part").rename(path)
        return
    strategy = strategies.mirrored_strategy(2)
    found: dict[str, Any] = {build.__name__: continued(build, strategy) for build in MODELS}
    found |= {case.__name__: case(strategy) for case in (widened, scheduled, scaled)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
