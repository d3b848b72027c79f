"""`--checkpoint_every`: an interrupted run resumes where it stopped.

checkpoint_flag.define()
checkpoint = checkpoint_flag.callback(model_dir, steps_per_epoch=15, num_steps=600)
"""

from __future__ import annotations

from absl import flags

import tfscale
from tfscale.cli import COUNT

FLAGS = flags.FLAGS


def define() -> None:
    """Defines the flag."""
    flags.DEFINE_string(
        "checkpoint_every",
        "none",
        "When to save a checkpoint to checkpoints/ of --model_dir: none, epoch, or every so many "
        "steps. Started again with the same flags, an interrupted run resumes from the newest. A "
        "finished run removes its checkpoints, so the next one trains from the start.",
    )
    flags.register_validator(
        "checkpoint_every",
        lambda every: every in ("none", "epoch") or COUNT.value(every) is not None,
        "must be none, epoch or a positive number of steps.",
    )


def callback(
    model_dir: str, *, steps_per_epoch: int, num_steps: int
) -> tfscale.callbacks.Checkpoint | None:
    """Builds the checkpoint callback, or returns None if the flags ask for none.

    Args:
        model_dir: The run's folder.
        steps_per_epoch: Global batches an epoch. Positive.
        num_steps: Optimizer updates of the whole training. Positive.

    Raises:
        ValueError: If a run with the other flags cannot be resumed.
    """
    every = FLAGS.checkpoint_every
    if every == "none":
        return None
    if num_steps % steps_per_epoch:
        raise ValueError(
            "`--checkpoint_every` must be none if --train_steps is not a multiple of the "
            f"{steps_per_epoch} steps of an epoch. Received: --checkpoint_every={every}, "
            f"--train_steps={num_steps}. Leave it out."
        )
    return tfscale.callbacks.Checkpoint(
        f"{model_dir}/checkpoints", every=every if every == "epoch" else int(every)
    )
