"""Rows of the split train that `--validation` holds out, to choose flags by.

train, validation = train_rows(image_set)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from recipes import number_flags
from recipes.images.sets import AnyImageSet
from recipes.number_flags import PART

FLAGS = flags.FLAGS


def define() -> None:
    """Defines the flag."""
    number_flags.define_float(
        "validation",
        0.0,
        "Fraction of the split train that is not trained on, but evaluated after each epoch, to "
        "choose flags by: the split test no longer judges what was chosen by it.",
        PART,
    )


def held_out(image_set: AnyImageSet) -> int:
    """Returns how many rows are held out.

    Raises:
        ValueError: If all would be, or so few that there is none.
    """
    fraction, rows = FLAGS.validation, image_set.num_examples("train")
    held: int = round(fraction * rows)
    if fraction and not 0 < held < rows:
        raise ValueError(
            "`--validation` must hold out at least one row, and leave one. Received: "
            f"--validation={fraction:g} of {rows} rows. Pass 0.1, for example."
        )
    return held


def train_rows(image_set: AnyImageSet) -> tuple[Any, Any]:
    """Returns the rows to train on, and those to validate with; None without --validation.

    Which rows are held out depends on their number and on --validation only, not on --seed, so runs
    of a sweep are compared on the same. A dataset that does not fit into memory gives its first
    ones.
    """
    rows, held = image_set.read("train"), held_out(image_set)
    if held == 0:
        return rows, None
    if isinstance(rows, tf.data.Dataset):
        return rows.skip(held), rows.take(held)
    order = np.random.default_rng(0).permutation(image_set.num_examples("train"))
    theirs, own = np.sort(order[:held]), np.sort(order[held:])
    if isinstance(rows, tuple):
        return tuple(part[own] for part in rows), tuple(part[theirs] for part in rows)
    return rows.subset(own), rows.subset(theirs)
