"""Compresses the model of a run: by the chain of the flags, or by one that is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags

import tfscale
from recipes.compression.halves import halves
from recipes.compression.tasks import Task
from tfscale.shrink import Chain, Compressed, chain_ladder, compress, search_chain

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Outcome:
    """What was tried, and what was taken.

    Attributes:
        best: The result; None if no chain meets the limits.
        tried: All results, in their order.
        lost: By result of `tried`, how much worse the metric became; empty without a search.
        before: The metric of the model before; None without a result.
        after: The metric of the smaller model, the same.
        rows: What these two are of.
    """

    best: Compressed | None
    tried: Sequence[Compressed]
    lost: Sequence[float]
    before: float | None
    after: float | None
    rows: str

    @property
    def note(self) -> str:
        """How it was measured, for the reader."""
        if self.lost or self.best is None:
            return "A chain is chosen with one half of the test data, and measured with the other."
        return "Measured on the test data, which were used for nothing else."


def by_chain(task: Task, chain: Chain, stages_dir: str) -> Outcome:
    """Applies a chain, and measures on the test data.

    Args:
        task: The model and the data.
        chain: The chain.
        stages_dir: See `compress`.
    """
    result = _compressed(task, chain, task.test, stages_dir)
    before, after = (result.stages[k].metrics[task.metric] for k in (0, -1))
    return Outcome(result, [result], [], before, after, "the test data")


def by_search(task: Task) -> Outcome:
    """Searches a chain with one half of the test data, and measures with the other.

    Raises:
        ValueError: If the test data cannot be divided.
    """
    choosing, measuring = halves(task.test, FLAGS.seed)
    ladder = chain_ladder(
        quantize=flagged_way() or "aware",
        epochs=FLAGS.stage_epochs,
        cuts=_has_channels(task),
        keep=FLAGS.keep,
    )
    found = search_chain(
        lambda chain: _compressed(task, chain, choosing),
        ladder,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        target_size=FLAGS.target_size,
        max_accuracy_loss=FLAGS.max_accuracy_loss,
    )
    before = after = None
    if found.best is not None:
        before = task.measured(task.model, measuring)
        after = task.measured(found.best.model, measuring)
    rows = "the half of the test data that chose nothing"
    return Outcome(found.best, found.tried, found.lost, before, after, rows)


def flagged_way() -> str | None:
    """Returns how the flags quantize."""
    return None if FLAGS.quantize == "none" else str(FLAGS.quantize)


def _compressed(
    task: Task, chain: Chain, validation: Any, stages_dir: str | None = None
) -> Compressed:
    return compress(
        task.model,
        chain,
        task.train,
        validation=validation,
        learning_rate=FLAGS.stage_learning_rate or FLAGS.learning_rate,
        steps_per_epoch=FLAGS.epoch_steps or task.epoch_steps,
        file_format=FLAGS.file_format,
        stages_dir=stages_dir,
    )


def _has_channels(task: Task) -> bool:
    try:
        return bool(tfscale.shrink.channel_groups(task.model).groups)
    except ValueError:  # the graph of a subclass is not known
        return False
