"""`optimizer_by_name` builds Keras's optimizers with exactly the given arguments."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from tfscale import schedules
from tfscale.optimizers import LARS, OPTIMIZERS, optimizer_by_name

CLASSES = {
    "adadelta": keras.optimizers.Adadelta,
    "adafactor": keras.optimizers.Adafactor,
    "adagrad": keras.optimizers.Adagrad,
    "adam": keras.optimizers.Adam,
    "adamax": keras.optimizers.Adamax,
    "adamw": keras.optimizers.AdamW,
    "ftrl": keras.optimizers.Ftrl,
    "lamb": keras.optimizers.Lamb,
    "lars": LARS,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
SPECIAL = {"momentum": 0.5, "nesterov": True, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.125}


def config(optimizer: Any) -> dict[str, Any]:
    """What it was built with; Keras numbers the names."""
    return {name: value for name, value in optimizer.get_config().items() if name != "name"}


def test_the_names_are_all_tried_here() -> None:
    assert set(OPTIMIZERS) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_name_alone_gives_the_class_with_its_own_defaults(name: str) -> None:
    optimizer = optimizer_by_name(name, 0.25)
    assert type(optimizer) is CLASSES[name]
    assert config(optimizer) == config(CLASSES[name](learning_rate=0.25))


@pytest.mark.parametrize("name", CLASSES)
def test_what_every_optimizer_takes_arrives(name: str) -> None:
    optimizer = optimizer_by_name(
        name, 1, weight_decay=0, clip_norm=2, ema_momentum=0.5, gradient_accumulation_steps=4
    )
    found = config(optimizer)
    wanted = {
        "learning_rate": 1.0,
        "weight_decay": 0.0,
        "global_clipnorm": 2.0,
        "use_ema": True,
        "ema_momentum": 0.5,
        "gradient_accumulation_steps": 4,
    }
    assert {argument: found[argument] for argument in wanted} == wanted
    assert found.get("adam_weight_decay", 0.0) == 0.0


@pytest.mark.parametrize("argument", SPECIAL)
@pytest.mark.parametrize("name", CLASSES)
def test_a_special_argument_arrives_or_is_refused(name: str, argument: str) -> None:
    takes = argument in config(CLASSES[name](learning_rate=0.25))
    given: Any = {argument: SPECIAL[argument]}
    if takes:
        assert config(optimizer_by_name(name, 0.25, **given))[argument] == SPECIAL[argument]
        return
    with pytest.raises(ValueError, match=f"`{argument}` must not be passed for {name}"):
        optimizer_by_name(name, 0.25, **given)


def test_a_schedule_stays_the_rate() -> None:
    optimizer = optimizer_by_name("adamw", schedules.linear_decay(0.5, 4))
    optimizer.iterations.assign(1)
    assert float(optimizer.learning_rate) == 0.375


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adamv"}, "`name` must be one of adadelta, .*, sgd. Received: name='adamv'"),
        ({"learning_rate": -1.0}, "`learning_rate` must be at least 0 or a LearningRateSchedule"),
        ({"learning_rate": "0.1"}, "Received: learning_rate='0.1'"),
        ({"learning_rate": None}, "Received: learning_rate=None"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be at least 0 or None"),
        ({"clip_norm": 0.0}, "`clip_norm` must be positive or None"),
        ({"momentum": 1.5}, "`momentum` must be from 0 to 1"),
        ({"ema_momentum": 1.0}, "`ema_momentum` must be at least 0, below 1"),
        ({"gradient_accumulation_steps": 1}, "`gradient_accumulation_steps` must be"),
    ],
)
def test_the_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    everything: dict[str, Any] = {"name": "sgd", "learning_rate": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        optimizer_by_name(**everything)
