"""`--find_batch_size`: trains with a batch size that is found first, in processes of their own.

found_batch_flag.define()
found = found_batch_flag.find("recipes.mine:model_and_data_of_size", largest=1000)

def model_and_data_of_size(batch_size):         # called in those processes
    found_batch_flag.parse(define_flags, batch_size)
    ...
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from absl import flags

import tfscale

FLAGS = flags.FLAGS

_VARIABLE = "TFSCALE_RECIPE_FLAGS"
_STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored")
_WITHOUT = {"microbatches": 1, "shard": None}
"""Flags with which a step needs other memory than the one that is tried, and their values."""


def define() -> None:
    """Defines the flag."""
    flags.DEFINE_enum(
        "find_batch_size",
        None,
        ["fastest", "largest"],
        "Find --global_batch_size, print it, and train with it: the largest that fits, or of those "
        "that fit the fastest. A larger batch needs another --learning_rate. To find only: tfscale "
        "find --what=batch_size.",
    )


def find(make: str, *, largest: int) -> str | None:
    """Sets --global_batch_size, if the flag is set. Call it before a device is used.

    Args:
        make: "module:function", see `tfscale.find_batch_size`. It calls `parse` first.
        largest: The last size that is tried, such as the rows of the training data. Positive.

    Returns:
        What was found, for the chief to print; None without the flag.

    Raises:
        ValueError: If another flag contradicts it, or no size fits.
    """
    if FLAGS.find_batch_size is None:
        return None
    name = FLAGS.distribution_strategy
    if name not in _STRATEGIES:
        raise ValueError(
            "`--distribution_strategy` must be given with --find_batch_size, as one_device, "
            f"mirrored or multi_worker_mirrored. Received: {name}. Choose one of them."
        )
    if FLAGS["global_batch_size"].present:
        raise ValueError(
            "`--global_batch_size` must be left out with --find_batch_size, which sets it. "
            f"Received: --global_batch_size={FLAGS.global_batch_size}. Leave one of them out."
        )
    for flag, value in _WITHOUT.items():
        if FLAGS[flag].value not in (value, 0):
            raise ValueError(
                f"`--{flag}` must be left out with --find_batch_size, which tries steps without "
                f"it. Received: --{flag}={FLAGS[flag].value}. Leave one of them out."
            )
    os.environ[_VARIABLE] = json.dumps(sys.argv)
    try:
        found = tfscale.find_batch_size(
            make,
            strategy=name,
            num_replicas=FLAGS.num_replicas,
            largest=largest,
        )
    finally:
        del os.environ[_VARIABLE]
    FLAGS.global_batch_size = getattr(found, FLAGS.find_batch_size)
    return f"{found}\ntraining with --global_batch_size={FLAGS.global_batch_size}"


def parse(define_flags: Callable[[], None], batch_size: int) -> None:
    """Parses the flags of the recipe in a process that tries a batch size.

    Args:
        define_flags: Defines them.
        batch_size: Becomes --global_batch_size.
    """
    define_flags()
    FLAGS(json.loads(os.environ[_VARIABLE]))
    FLAGS.global_batch_size = batch_size
