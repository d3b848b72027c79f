"""`--checkpoint_every`: a run that is interrupted goes on where it was.

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
        "When to save all there is to go on from, in checkpoints/ of --model_dir: none, epoch, or "
        "a number of steps. Started again with the same flags, an interrupted run goes on from the "
        "newest; a finished one has removed them and trains anew.",
    )
    flags.register_validator(
        "checkpoint_every",
        lambda every: every in ("none", "epoch") or COUNT.value(every) is not None,
        "It must be none, epoch or a positive number of steps.",
    )


def callback(
    model_dir: str, *, steps_per_epoch: int, num_steps: int, microbatches: int = 1
) -> tfscale.callbacks.Checkpoint | None:
    """Builds what saves and resumes, or returns None where the flags ask for none.

    Args:
        model_dir: The run's folder.
        steps_per_epoch: Global batches an epoch. Positive.
        num_steps: Optimizer updates of the whole training. Positive.
        microbatches: Parts that a global batch is computed in. Positive.

    Raises:
        ValueError: If other flags make the run one that cannot be resumed.
    """
    every = FLAGS.checkpoint_every
    if every == "none":
        return None
    if microbatches > 1 or num_steps % steps_per_epoch:
        raise ValueError(
            "`--checkpoint_every` must be none with --microbatches, and where --train_steps are no "
            f"whole epochs of {steps_per_epoch} steps. Received: --checkpoint_every={every}, "
            f"--microbatches={microbatches}, --train_steps={num_steps}. Leave it out."
        )
    return tfscale.callbacks.Checkpoint(
        f"{model_dir}/checkpoints", every=every if every == "epoch" else int(every)
    )
