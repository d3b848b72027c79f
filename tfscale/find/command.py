"""`tfscale find`: the learning rate or the batch size to train a model with."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from strategies.extension import cluster_from_environment
from tfscale.cli import POSITIVE
from tfscale.cli.arguments import (
    add_json_flag,
    add_model_argument,
    add_seed_flag,
    count,
    number_type,
)
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress

SUMMARY = "find the learning rate or the batch size to train your model with"

RATE, BATCH = "learning_rate", "batch_size"
STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored")
_DESCRIPTION = """\
--what=learning_rate trains your model while the rate grows from update to update, and looks where
the loss falls and where it rises. It prints the rate to train with and a picture of the losses. If
the rate of the optimizer is a schedule, the result is for its peak. Under tfscale launch all
workers take part, and the chief prints.

--what=batch_size tries sizes, each in a process of its own, which is killed if it needs too much
memory, and prints the largest that fits, the fastest, and the gradient noise scale. Under tfscale
launch, with --strategy=multi_worker_mirrored, all workers find the same, each with its part of a
batch.

FUNCTION returns (model, data): a compiled model, and arrays (x, y), a batched tf.data.Dataset or a
keras.utils.PyDataset. It takes no arguments; for a batch size it takes the size, and returns arrays
or batches of that size. Batches are global batches, but FUNCTION gets the size of a worker's part.
"""
_EPILOG = """\
examples:
  tfscale find mine:build --batch_size=64
  tfscale find mine:build --strategy=mirrored --num_replicas=2 --picture=rates.svg
  tfscale find mine:build_for --what=batch_size --largest=4096 --memory_gib=8
  tfscale launch --num_workers=2 -- tfscale find mine:build --strategy=multi_worker_mirrored

exit status: 0 found, 1 the model does not train, 2 wrong usage, no rate makes the loss fall, or not
even the smallest batch fits.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale find`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_model_argument(parser)
    parser.add_argument(
        "--what", choices=(RATE, BATCH), default=RATE, help="what to find (default: learning_rate)"
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="one_device",
        help="strategy to train under (default: one_device)",
    )
    parser.add_argument(
        "--num_replicas",
        type=count,
        metavar="N",
        help="number of replicas of --strategy=mirrored (default: every GPU, or 2 on CPUs)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="rows of a global batch if your data are arrays (default: 32)",
    )
    parser.add_argument(
        "--lowest",
        type=number_type(POSITIVE),
        metavar="X",
        help="the first learning rate (default: 1e-6)",
    )
    parser.add_argument(
        "--highest",
        type=number_type(POSITIVE),
        metavar="X",
        help="the last learning rate (default: 10)",
    )
    parser.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help="updates of the weights: for a rate at least 20 (default: 100), for a batch size at "
        "least 3 for each (default: 10)",
    )
    add_seed_flag(parser, default=None)
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="an SVG file to write the picture to",
    )
    sizes = parser.add_argument_group("with --what=batch_size")
    sizes.add_argument(
        "--smallest", type=count, metavar="N", help="first size (default: 8 for each worker)"
    )
    sizes.add_argument(
        "--largest",
        type=count,
        metavar="N",
        help="largest size to try (default: 65536 for each worker)",
    )
    sizes.add_argument(
        "--memory_gib",
        type=number_type(POSITIVE),
        metavar="X",
        help="GiB of the host for a process (default: 90 %% of what is available)",
    )
    sizes.add_argument(
        "--seconds",
        type=number_type(POSITIVE),
        metavar="S",
        help="deadline of a process (default: 300)",
    )
    add_json_flag(parser)


_OF_RATES = {"batch_size": None, "lowest": 1e-6, "highest": 10.0, "seed": 0, "picture": None}
_OF_BATCHES = {"smallest": None, "largest": None, "memory_gib": None, "seconds": 300.0}
"""Flags of one kind of search, with their defaults."""


def run(arguments: argparse.Namespace) -> int:
    """Finds and prints. Returns the exit status."""
    own, others = _OF_RATES, _OF_BATCHES
    if arguments.what == BATCH:
        own, others = others, own
    for name in others:
        if getattr(arguments, name) is not None:
            other = RATE if arguments.what == BATCH else BATCH
            return _refused(
                f"`--{name}` must come with --what={other}. Received: --{name}="
                f"{getattr(arguments, name)} and --what={arguments.what}. Leave it out."
            )
    for name, default in own.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if arguments.num_replicas is not None and arguments.strategy != "mirrored":
        return _refused(
            "`--num_replicas` must come with --strategy=mirrored. Received: "
            f"--num_replicas={arguments.num_replicas} and --strategy={arguments.strategy}."
        )
    # Before TensorFlow is imported, whose start-up lines would hide those of the command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return _find_rate(arguments) if arguments.what == RATE else _find_batch_size(arguments)


def _find_batch_size(arguments: argparse.Namespace) -> int:
    from tfscale.find.batch_size import find_batch_size
    from tfscale.find.probing import ProbeFailed

    limit = arguments.memory_gib
    try:
        with progress("tfscale find") as say:
            found = find_batch_size(
                arguments.target,
                strategy=arguments.strategy,
                num_replicas=arguments.num_replicas,
                smallest=arguments.smallest,
                largest=arguments.largest,
                steps=arguments.steps or 10,
                memory_limit=None if limit is None else int(limit * 2**30),
                seconds=arguments.seconds,
                say=say,
            )
    except (ValueError, OSError) as error:
        return _refused(error)
    except ProbeFailed as error:
        complain("tfscale find", str(error))
        return 1
    cluster = cluster_from_environment()
    if cluster is None or cluster.is_chief:
        print(json.dumps(asdict(found)) if arguments.json else found, flush=True)
    return 0


def _find_rate(arguments: argparse.Namespace) -> int:
    # Imported here, because these import TensorFlow and the help does not need it.
    import keras

    import strategies
    from tfscale.files.output_files import write_whole
    from tfscale.find.learning_rate import find_learning_rate
    from tfscale.verify.user_model import UserModel, WrongUsage, in_one_line

    replicas = {} if arguments.num_replicas is None else {"num_replicas": arguments.num_replicas}
    try:
        user_model = UserModel(arguments.target)
        strategy = strategies.strategy_by_name(arguments.strategy, **replicas)
        keras.utils.set_random_seed(arguments.seed)
        with strategy.scope():
            model, data = user_model.build()
        with progress("tfscale find") as say:
            if strategies.is_chief(strategy):
                say(f"{arguments.steps or 100} updates at rates up to {arguments.highest:g}")
            found = find_learning_rate(
                model,
                data,
                batch_size=arguments.batch_size,
                lowest=arguments.lowest,
                highest=arguments.highest,
                steps=arguments.steps or 100,
            )
        if not strategies.is_chief(strategy):
            return 0
        if arguments.picture is not None:
            write_whole(arguments.picture, found.picture())
    except (WrongUsage, ValueError, OSError) as error:
        return _refused(error)
    except Exception as error:  # of the user's model or data
        complain("tfscale find", f"training raised {in_one_line(error)[:1500]}")
        return 1
    print(json.dumps(found.as_json()) if arguments.json else found, flush=True)
    return 0


def _refused(problem: object) -> int:
    complain("tfscale find", problem)
    return 2
