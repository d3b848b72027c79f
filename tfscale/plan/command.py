"""`tfscale plan`: the memory, the speed or the whole job, before the devices are there."""

from __future__ import annotations

import argparse
import importlib

from tfscale.cli.arguments import add_json_flag, add_model_argument, count
from tfscale.cli.errors import complain

SUMMARY = "plan memory, speed or the whole job of training your model, before you have the devices"

KINDS = {
    "memory": "tfscale.plan.memory.command",
    "speed": "tfscale.plan.speed.command",
    "job": "tfscale.plan.simulation.command",
}
"""Modules with the flags of one kind of plan: `add_arguments(parser)`, `run(arguments) -> int`, and
`DEFAULTS`, the values of those flags that are left out. `SHARED` are flags of other kinds that it
takes too, if there are any."""

_DESCRIPTION = """\
--what=memory computes how much memory each device needs to train your model: parameters, optimizer
slots, gradients, activations, and buffers of what travels between replicas. No device is needed,
and the model may be larger than this host: large variables get a shape and no memory. Parameters
and slots are exact. Activations are found by tracing a step of one replica, as TensorFlow's CPU
executor would run it; workspaces of kernels come on top. Without --shard, --microbatches and
--recompute all combinations are computed, and the cheapest that fits is marked. With
--pipeline_stages or --tensor_parallel each replica has several devices, and a row is the one that
needs most.

--what=speed measures short steps of one replica and of two, and under tfscale launch the all-reduce
between workers. It predicts time, efficiency and cost of a step on 1 to 4,096 workers for each
strategy, names the bottleneck, and marks what is extrapolated.

--what=job predicts the same and simulates each whole job, with stragglers, saves, failures and
restarts. It chooses the best one under a deadline, a budget or an energy limit, and writes the
command of tfscale launch that runs it on each engine. With --memory_per_device it must fit, too.

FUNCTION takes no arguments and returns (model, data): a compiled model, and arrays (x, y), a
batched tf.data.Dataset, a keras.utils.PyDataset or a Pipeline. For memory only shapes and dtypes of
the data count.
"""
_EPILOG = """\
examples:
  tfscale plan mine:build --replicas=8 --memory_per_device=16GiB
  tfscale plan mine:build --replicas=8 --shard=1 --microbatches=4 --global_batch_size=256 --json
  tfscale plan mine:build --replicas=2 --pipeline_stages=1,2,4 --memory_per_device=16GiB
  tfscale plan mine:build --what=speed --write_measured=here.json
  tfscale launch --num_workers=2 -- tfscale plan mine:build --what=speed --write_measured=two.json
  tfscale plan mine:build --what=speed --measured=two.json --examples=60000 --cost_per_hour=2.5
  tfscale plan mine:build --what=job --measured=two.json --examples=60000 --epochs=90 --mtbf=30d \\
      --deadline=12h --cost_per_hour=2.5 --engine=slurm --option=slurm.partition=gpu

exit status: 0 a combination or a job fits, or steps are predicted; 1 none fits, or a step cannot be
measured; 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale plan`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_model_argument(parser)
    parser.add_argument(
        "--what", choices=tuple(KINDS), default="memory", help="what to plan (default: memory)"
    )
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="number of processes. Memory: that the devices are divided among; several send "
        "gradients in packs of 16 MiB, one all of them at once (default: 1). Speed: the only "
        "number to predict (default: several from 1 to 4096)",
    )
    parser.add_argument(
        "--global_batch_size",
        type=count,
        metavar="N",
        help="examples of a step over all replicas (default: for memory the batch size of your "
        "data, or 32 if they are arrays; for speed that of each replica)",
    )
    for module in KINDS.values():
        importlib.import_module(module).add_arguments(parser)
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Computes and prints the plan. Returns the exit status."""
    modules = {kind: importlib.import_module(name) for kind, name in KINDS.items()}
    chosen = modules[arguments.what]
    accepted: dict[str, object] = {**chosen.DEFAULTS, **getattr(chosen, "SHARED", {})}
    for kind, module in modules.items():
        for flag in module.DEFAULTS:
            value = getattr(arguments, flag)
            if flag not in accepted and value is not None:
                complain(
                    "tfscale plan",
                    f"`--{flag}` must come with --what={kind}. Received: --{flag}={value} and "
                    f"--what={arguments.what}. Leave it out.",
                )
                return 2
    for flag, default in accepted.items():
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, default)
    status: int = chosen.run(arguments)
    return status
