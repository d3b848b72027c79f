"""What a sweep over `fit` does not cover: other methods of a model, and planted accidents.

The text of a scenario is `scenario NAME on=STRATEGY`. Like a configuration, it runs with stock
Keras and under a strategy, in float64 unless it says otherwise, and returns its results.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.parity.examples import OVERFLOWING
from tests.parity.training import Findings, Run, state_of

_WORD = "scenario"
_DRAW = np.random.default_rng(5)
X = _DRAW.normal(size=(29, 4))
Y = _DRAW.normal(size=(29, 3))
LABELS = _DRAW.integers(0, 3, size=29)
OPTIONS: dict[str, Any] = {"batch_size": 6, "shuffle": False, "verbose": 0}
"""29 rows in batches of 6: the last one has 5, which 2 or 3 replicas do not divide."""

Scenario = Callable[[Run], Findings]
SCENARIOS: dict[str, Scenario] = {}


def is_scenario(text: str) -> bool:
    """Returns whether the text of a case names a scenario."""
    return text.startswith(f"{_WORD} ")


def play(text: str, run: Run) -> Findings:
    """Runs the scenario that `text` names."""
    keras.backend.clear_session()
    gc.collect()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(3)
    return SCENARIOS[text.split()[1]](run)


def _named(scenario: Scenario) -> Scenario:
    SCENARIOS[scenario.__name__] = scenario
    return scenario


def _model(run: Run, optimizer: str = "adam", loss: str = "mse") -> keras.Model:
    with (run.strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(3)]
        )
        _compile(model, optimizer, loss)
    return model


def _compile(model: keras.Model, optimizer: str, loss: str) -> None:
    losses = {
        "mse": "mse",
        "sparse": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "huber": "huber",
    }
    built = keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 0.01}})
    model.compile(built, losses[loss], metrics=["accuracy" if loss == "sparse" else "mae"])


def _found(model: keras.Model, *histories: Any, **more: Any) -> Findings:
    found = state_of(model)
    for i, history in enumerate(histories):
        found |= {f"history/{i} {k}": np.array(v) for k, v in history.history.items()}
        found[f"epochs/{i}"] = np.array(history.epoch)
    return found | {f"more/{name}": np.array(value) for name, value in more.items()}


@_named
def initial_epoch(run: Run) -> Findings:
    model = _model(run)
    return _found(model, model.fit(X, Y, initial_epoch=2, epochs=5, **OPTIONS))


@_named
def class_weight(run: Run) -> Findings:
    model = _model(run, loss="sparse")
    weights = {0: 0.2, 1: 1.0, 2: 3.0}
    return _found(model, model.fit(X, LABELS, epochs=3, class_weight=weights, **OPTIONS))


@_named
def validation_split(run: Run) -> Findings:
    model = _model(run)
    return _found(model, model.fit(X, Y, epochs=3, validation_split=0.3, **OPTIONS))


@_named
def validation_steps_and_frequency(run: Run) -> Findings:
    model = _model(run)
    history = model.fit(
        X, Y, epochs=4, validation_data=(X, Y), validation_steps=2, validation_freq=2, **OPTIONS
    )
    return _found(model, history)


@_named
def second_fit(run: Run) -> Findings:
    model = _model(run)
    first = model.fit(X, Y, epochs=2, **OPTIONS)
    return _found(model, first, model.fit(X[:17], Y[:17], epochs=2, **OPTIONS))


@_named
def recompile(run: Run) -> Findings:
    model = _model(run)
    first = model.fit(X, Y, epochs=2, **OPTIONS)
    with (run.strategy or tf.distribute.get_strategy()).scope():
        _compile(model, "rmsprop", "huber")
    return _found(model, first, model.fit(X, Y, epochs=2, **OPTIONS))


@_named
def freeze_and_recompile(run: Run) -> Findings:
    model = _model(run)
    first = model.fit(X, Y, epochs=2, **OPTIONS)
    frozen = model.layers[0].get_weights()
    model.layers[0].trainable = False
    with (run.strategy or tf.distribute.get_strategy()).scope():
        _compile(model, "adam", "mse")
    second = model.fit(X, Y, epochs=2, **OPTIONS)
    moved = [
        np.abs(a - b).max() for a, b in zip(frozen, model.layers[0].get_weights(), strict=True)
    ]
    return _found(model, first, second, moved=moved)


@_named
def batch_methods(run: Run) -> Findings:
    """Also on one row, fewer than replicas."""
    model = _model(run)
    trained = [
        list(model.train_on_batch(X[rows], Y[rows], return_dict=True).values())
        for rows in (slice(6), slice(6, 13), slice(13, 14), slice(14, 29))
    ]
    weighted = model.train_on_batch(X[:5], Y[:5], sample_weight=np.arange(5.0))
    tested = model.test_on_batch(X[:7], Y[:7], return_dict=True)
    tested_one = model.test_on_batch(X[:1], Y[:1])
    return _found(
        model,
        trained=trained,
        weighted=weighted,
        tested=list(tested.values()),
        tested_one=tested_one,
        predicted=model.predict_on_batch(X[:7]),
        predicted_one=model.predict_on_batch(X[:1]),
    )


@_named
def evaluate_and_predict_first(run: Run) -> Findings:
    model = _model(run)
    evaluated = model.evaluate(X, Y, batch_size=6, verbose=0)
    predicted = model.predict(X, batch_size=6, verbose=0)
    history = model.fit(X, Y, epochs=1, **OPTIONS)
    return _found(model, history, evaluated=evaluated, predicted=predicted)


@_named
def early_stopping(run: Run) -> Findings:
    model = _model(run)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1)
    # The targets differ, so validation soon gets worse.
    history = model.fit(
        X, Y, epochs=30, validation_data=(X, -Y), callbacks=[plateau, stop], **OPTIONS
    )
    return _found(model, history)


@_named
def dict_inputs(run: Run) -> Findings:
    with (run.strategy or tf.distribute.get_strategy()).scope():
        a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
        hidden = keras.layers.Concatenate()([a, keras.layers.Dense(3)(b)])
        model = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(hidden))
        model.compile("adam", "mse")
    inputs = {"a": X[:, :2], "b": X[:, 2:]}
    history = model.fit(inputs, Y, epochs=3, **OPTIONS)
    return _found(model, history, predicted=model.predict(inputs, batch_size=6, verbose=0))


@_named
def generator_trains_each_example_once(run: Run) -> Findings:
    """Weight i decreases by 1/16 when example i is in a batch of 16: weights count visits."""

    rows, zeros = np.arange(160).reshape(160, 1), np.zeros((160, 1))

    def batches() -> Iterator[tuple[Any, Any]]:
        for first in range(0, 160, 16):
            yield rows[first : first + 16], zeros[first : first + 16]

    with (run.strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [keras.layers.Embedding(160, 1, embeddings_initializer="zeros"), keras.layers.Flatten()]
        )
        model.compile(keras.optimizers.SGD(1.0), lambda y, predicted: predicted)
    # Stock Keras counts a step too many for data of unknown length (S7).
    data = {"x": batches()} if run.strategy else {"x": rows, "y": zeros, "batch_size": 16}
    history = model.fit(**data, shuffle=False, verbose=0)
    return _found(model, history, visits=-16 * model.get_weights()[0].reshape(-1))


@_named
def overflow_on_the_last_replica(run: Run) -> Findings:
    """mixed_float16: three normal steps, one whose last row overflows, and a normal one."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("mixed_float16")
    model = _model(run)
    rows, good, bad = (array[:6].astype("float32") for array in (X, Y, Y))
    bad[5] = OVERFLOWING
    model.fit(rows, good, epochs=3, **OPTIONS)
    before, scale_before = model.get_weights(), float(model.optimizer.dynamic_scale.numpy())
    model.fit(rows, bad, epochs=1, **OPTIONS)
    after, scale_after = model.get_weights(), float(model.optimizer.dynamic_scale.numpy())
    model.fit(rows, good, epochs=1, **OPTIONS)
    return _found(
        model,
        moved=[np.abs(a - b).max() for a, b in zip(after, before, strict=True)],
        scales=[scale_before, scale_after],
        moved_again=[np.abs(a - b).max() for a, b in zip(model.get_weights(), after, strict=True)],
    )


@_named
def dropout_differs_between_replicas(run: Run) -> Findings:
    """Weight row i changes where example i was not dropped: weights show each mask."""
    with (run.strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [
                keras.layers.Embedding(8, 64, embeddings_initializer="ones"),
                keras.layers.Dropout(0.5, seed=1),
                keras.layers.Flatten(),
            ]
        )
        model.compile(keras.optimizers.SGD(1.0), lambda y, predicted: predicted)
    rows = np.arange(8).reshape(8, 1)
    model.fit(rows, np.zeros((8, 1)), batch_size=8, shuffle=False, verbose=0)
    masks = model.get_weights()[0] != 1.0
    return {"more/is_different": np.array((masks[:4] != masks[4:]).any(axis=1))}
