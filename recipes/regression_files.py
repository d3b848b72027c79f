"""What the comparison of optimizers leaves behind: numbers for programs, a plot for people."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recipes.distance_plot import distance_plot
from recipes.regression_methods import Outcome
from recipes.results import SUMMARY_FILE

PLOT_FILE = "distances.svg"


def write(folder: str, summary: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Writes the summary and the plot; under their names only once both are there in full.

    Args:
        folder: A folder that `results.make_writable` has seen.
        summary: What was measured; JSON values.
        outcomes: What to draw.

    Raises:
        OSError: If they cannot be written. What the folder held before is still there.
    """
    plot = distance_plot(
        {outcome.method.name: outcome.distances for outcome in outcomes},
        title="Distance to the least-squares solution, in its lengths",
    )
    texts = {SUMMARY_FILE: json.dumps(summary, indent=2), PLOT_FILE: plot}
    partial = {f"{folder}/{name}": f"{folder}/{name}.partial" for name in texts}
    try:
        for place, text in zip(partial.values(), texts.values(), strict=True):
            with tf.io.gfile.GFile(place, "w") as file:
                file.write(text)
        for final, place in partial.items():
            tf.io.gfile.rename(place, final, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        for place in partial.values():
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.remove(place)
        raise OSError(
            f"The results could not be written to {folder}: {error}. Make room there and run again."
        ) from error
