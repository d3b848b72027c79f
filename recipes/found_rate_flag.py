"""`--find_learning_rate`: trains at a learning rate that a range test finds first.

found_rate_flag.define()
found_rate_flag.find(make_model, train)     # sets --learning_rate; before the model is built
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from absl import flags

import strategies
import tfscale
from tfscale.data import Pipeline

FLAGS = flags.FLAGS


def define() -> None:
    """Defines the flag."""
    flags.DEFINE_bool(
        "find_learning_rate",
        False,
        "Find --learning_rate by a range test, print it, and train with it; as Lightning's "
        "auto_lr_find. The test takes up to 100 updates of a model of its own. To find only: "
        "tfscale find.",
    )


def find(make_model: Callable[[], Any], train: Pipeline) -> None:
    """Sets --learning_rate to the suggestion of a range test, in two digits, if the flag is set.

    The model that is trained afterwards is the one that --learning_rate with this value gives.

    Args:
        make_model: Builds and compiles the model; called in the strategy's scope.
        train: The training input.

    Raises:
        ValueError: If --learning_rate is given too, or no rate is found.
    """
    if not FLAGS.find_learning_rate:
        return
    if FLAGS["learning_rate"].present:
        raise ValueError(
            "`--learning_rate` must be left out with --find_learning_rate, which sets it. "
            f"Received: --learning_rate={FLAGS.learning_rate:g}. Leave one of them out."
        )
    keras.utils.set_random_seed(FLAGS.seed)
    with train.strategy.scope():
        model = make_model()
    found = tfscale.find_learning_rate(model, train)
    FLAGS.learning_rate = float(f"{found.suggestion:.2g}")
    if strategies.is_chief(train.strategy):
        print(found, flush=True)
        print(f"training with --learning_rate={FLAGS.learning_rate:g}", flush=True)
