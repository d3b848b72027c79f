"""The flags of a pipeline: the model in stages, one on each device of a replica."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import flags

import tfscale
from recipes import number_flags
from recipes.language.sizes import ModelSize

FLAGS = flags.FLAGS
SCHEDULES = ("gpipe", "1f1b", "interleaved")
_ROWS = 4  # with which layers are measured


def define_flags() -> None:
    """Defines the flags, in the section that is open."""
    number_flags.define_integer(
        "pipeline_stages",
        1,
        "Stages that each replica's model is cut into, each on a device of its own, with "
        "--distribution_strategy=mirrored. The --microbatches follow each other through them.",
    )
    flags.DEFINE_enum(
        "pipeline_schedule",
        "1f1b",
        list(SCHEDULES),
        "In which order stages compute. gpipe keeps the activations of all microbatches, 1f1b of "
        "at most as many as there are stages; interleaved waits less and sends more.",
    )
    number_flags.define_integer(
        "pipeline_virtual_stages",
        1,
        "Runs of layers on each device, with --pipeline_schedule=interleaved.",
    )
    flags.DEFINE_bool(
        "pipeline_timed",
        False,
        "Measure when each stage computes which microbatch, for a picture in the report. Costs "
        "some time in each step; on CPUs.",
    )


def refuse_wrong_flags() -> None:
    """Checks the flags of a pipeline.

    Raises:
        ValueError: If one has no effect, or they contradict each other or other flags.
    """
    stages, parts = FLAGS.pipeline_stages, FLAGS.microbatches
    if stages == 1:
        for name in ("pipeline_schedule", "pipeline_virtual_stages", "pipeline_timed"):
            if FLAGS[name].present:
                raise ValueError(
                    f"`--{name}` must not be set without stages. Received: --{name}="
                    f"{FLAGS[name].value} with --pipeline_stages=1. Set --pipeline_stages=2, or "
                    "leave it out."
                )
        return
    if FLAGS.distribution_strategy != "mirrored":
        raise ValueError(
            "`--pipeline_stages` must be 1 unless --distribution_strategy=mirrored. Received: "
            f"--pipeline_stages={stages} with --distribution_strategy="
            f"{FLAGS.distribution_strategy}. Set it to mirrored."
        )
    if FLAGS.tensor_parallel > 1:
        raise ValueError(
            "`--pipeline_stages` must be 1 with --tensor_parallel, which gives the devices of a "
            f"replica other work. Received: --pipeline_stages={stages} with --tensor_parallel="
            f"{FLAGS.tensor_parallel}. Choose one of the two."
        )
    is_interleaved = FLAGS.pipeline_schedule == "interleaved"
    if FLAGS.pipeline_virtual_stages > 1 and not is_interleaved:
        raise ValueError(
            "`--pipeline_virtual_stages` must be 1 unless --pipeline_schedule=interleaved. "
            f"Received: --pipeline_virtual_stages={FLAGS.pipeline_virtual_stages} with "
            f"--pipeline_schedule={FLAGS.pipeline_schedule}. Leave it out."
        )
    if is_interleaved and parts % stages:
        raise ValueError(
            "`--microbatches` must be a multiple of --pipeline_stages with "
            f"--pipeline_schedule=interleaved. Received: --microbatches={parts} with "
            f"--pipeline_stages={stages}. Use --microbatches={-(-parts // stages) * stages}, or "
            "--pipeline_schedule=1f1b."
        )


def refuse_too_many_devices(sizes: Iterable[ModelSize]) -> None:
    """Checks that models can be divided as the flags say, before any text is read.

    Args:
        sizes: Of the models that will be trained.

    Raises:
        ValueError: If one cannot.
    """
    chunks, devices = FLAGS.pipeline_stages * FLAGS.pipeline_virtual_stages, FLAGS.tensor_parallel
    for size in sizes:
        if size.heads % devices:
            raise ValueError(
                "`--tensor_parallel` must divide the heads of the attention. Received: "
                f"--tensor_parallel={devices} and {size.heads} heads. Choose another number, or "
                "another --heads."
            )
        if chunks > size.layers + 2:
            raise ValueError(
                "`--pipeline_stages` times --pipeline_virtual_stages must be at most the blocks, "
                "and two for what is before and after them. Received: --pipeline_stages="
                f"{FLAGS.pipeline_stages}, --pipeline_virtual_stages="
                f"{FLAGS.pipeline_virtual_stages} and {size.layers} blocks. Use fewer."
            )


def flagged_pipeline(model: Any) -> tfscale.parallel.Pipeline | None:
    """Makes a compiled model a pipeline if the flags say so.

    Args:
        model: A model of `language_model`, made under the strategy.
    """
    if FLAGS.pipeline_stages == 1:
        return None
    row = np.zeros((_ROWS, FLAGS.context), "int32")
    return tfscale.parallel.Pipeline(
        model,
        FLAGS.pipeline_stages,
        FLAGS.microbatches,
        virtual_stages=FLAGS.pipeline_virtual_stages,
        schedule=FLAGS.pipeline_schedule,
        example={"tokens": row, "positions": row, "segment_ids": row},
        timed=FLAGS.pipeline_timed,
    )
