"""`tfscale verify`: compares a model's training under a strategy with one device."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from tfscale.cli.arguments import (
    add_json_flag,
    add_model_argument,
    add_seed_flag,
    count,
    function_name,
    seconds,
)
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.verify.parallel_model import MICROBATCHES, Parallel, parallel, rules_of

SUMMARY = "check that your model trains under a strategy as on one device"

STRATEGIES = ("mirrored", "multi_worker_mirrored", "one_device", "parameter_server", "tpu", "auto")
PRECISIONS = ("auto", "float64", "as_is")
_DESCRIPTION = """\
Trains your model on one device with stock Keras, and under a strategy, with the same initial
weights and the same batches in the same order. Compares the loss of each step, the gradients of the
first step, weights, optimizer slots, metrics, evaluate, predictions, and the saved file reloaded in
stock Keras. The effect of rounding on your model is measured first, by permuting the rows inside
each batch. A difference of up to ten times this effect counts as equal.

If the results differ, steps on parts of a batch are run on one device to find the cause, such as a
sum that is averaged like a mean, a loss that divides by its own count or compares examples, or a
layer whose rows depend on each other. The report names the cause and the cure.

FUNCTION takes no arguments and returns (model, data): a compiled model, which must be a new one at
each of several calls, and arrays (x, (x, y) or (x, y, sample_weight)), a batched tf.data.Dataset, a
keras.utils.PyDataset, or a generator of batches. Training uses the first batches, in order and
repeatedly. Dropout and noise are set to 0, because replicas draw random numbers independently.
"""
_EPILOG = """\
examples:
  tfscale verify mine:build --num_replicas=2           build() in mine.py, on two replicas
  tfscale verify mine:build --shard=3                  each keeps its part of the weights
  tfscale verify mine:build --parallel=pipeline:2      each replica in two stages
  tfscale verify mine:build --steps=5 --precision=as_is --json
  tfscale launch --num_workers=2 -- tfscale verify mine:build --strategy=multi_worker_mirrored

exit status: 0 equal, 1 a mismatch, or an error under the strategy only, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale verify`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_model_argument(parser)
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="mirrored",
        help="strategy to compare with one device (default: mirrored)",
    )
    parser.add_argument(
        "--num_replicas",
        type=count,
        metavar="N",
        help="number of replicas (default: 2 for mirrored)",
    )
    parser.add_argument(
        "--shard",
        type=int,
        choices=range(4),
        default=0,
        help="what the replicas keep parts of: 1 optimizer slots, 2 also gradients, 3 also weights "
        "(default: 0)",
    )
    parser.add_argument(
        "--parallel",
        type=parallel,
        metavar="KIND:N",
        help="share the model among N devices of each replica of a mirrored strategy: pipeline:2 "
        "cuts it into two stages, tensor:2 divides its matrices (default: one device each)",
    )
    parser.add_argument(
        "--microbatches",
        type=count,
        metavar="N",
        help=f"parts of a replica batch in a pipeline (default: {MICROBATCHES})",
    )
    parser.add_argument(
        "--tensor_rules",
        type=function_name,
        metavar="MODULE:NAME",
        help="your list of tfscale.parallel.TensorRule (default: for the language recipe's model)",
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=20,
        metavar="N",
        help="optimizer steps of training (default: 20)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        default=32,
        metavar="N",
        help="rows of a batch if your data are arrays (default: 32)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="float64: make it Keras's default before FUNCTION is called; as_is: do not change it; "
        "auto: float64 if the model runs in it (default: auto)",
    )
    add_seed_flag(parser)
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=600.0,
        metavar="S",
        help="seconds allowed for each training (default: 600)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the comparison. Prints the report on the chief, and failures on every worker."""
    # Imported here, because these need NumPy and the help does not.
    from tfscale.verify.messages import Request
    from tfscale.verify.report import as_json, as_text, verdict_sentence
    from tfscale.verify.user_model import WrongUsage
    from tfscale.verify.verification import Verification, verify
    from tfscale.verify.worker_rpc import Failed

    try:
        shared = _shared(arguments)
        if arguments.tensor_rules is not None:
            rules_of(arguments.tensor_rules)  # each run imports them itself
    except (ValueError, WrongUsage) as error:
        _complain(str(error))
        return 2
    num_replicas = arguments.num_replicas
    if num_replicas is None and arguments.strategy == "mirrored":
        num_replicas = 2
    request = Request(
        target=arguments.target,
        strategy=arguments.strategy,
        num_replicas=num_replicas,
        shard=arguments.shard,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        seed=arguments.seed,
        timeout_seconds=arguments.timeout_seconds,
        parallel=shared,
    )

    shown = contextlib.ExitStack()

    def report(result: Verification) -> None:
        shown.close()
        if is_chief:
            print(json.dumps(as_json(result)) if arguments.json else as_text(result), flush=True)
        elif result.text:  # the first failure ends the job, perhaps before the chief can report it
            _complain(verdict_sentence(result))

    try:
        is_chief = _is_chief(arguments.strategy)
        with tempfile.TemporaryDirectory(prefix="tfscale-verify-") as folder, shown:
            say = shown.enter_context(progress("tfscale verify")) if is_chief else _keep_quiet
            result = verify(
                request,
                Path(folder),
                is_chief=is_chief,
                say=say,
                report=report,
            )
    except (Failed, ValueError, RuntimeError) as error:
        _complain(str(error))
        return 2
    return 0 if result.is_equal else 1


def _shared(arguments: argparse.Namespace) -> Parallel | None:
    """Returns how the devices of a replica share the model.

    Raises:
        ValueError: If flags contradict each other.
    """
    found: Parallel | None = arguments.parallel
    kind = None if found is None else found.kind
    for name, needed in (("microbatches", "pipeline"), ("tensor_rules", "tensor")):
        value = getattr(arguments, name)
        if value is not None and kind != needed:
            raise ValueError(
                f"`--{name}` must not be set without --parallel={needed}:N. Received: "
                f"--{name}={value}. Add --parallel={needed}:2, or leave it out."
            )
    if found is None:
        return None
    if arguments.strategy != "mirrored":
        raise ValueError(
            "`--parallel` must not be set with another strategy than mirrored, whose replicas have "
            f"one device each. Received: --parallel={found.kind}:{found.devices} with "
            f"--strategy={arguments.strategy}. Leave one of them out."
        )
    parts = (arguments.microbatches or MICROBATCHES) if kind == "pipeline" else 1
    return replace(found, microbatches=parts, rules=arguments.tensor_rules)


def _is_chief(strategy: str) -> bool:
    """Returns whether this process prints for all, before a strategy exists."""
    if strategy not in ("auto", "multi_worker_mirrored"):
        return True
    from strategies.extension import cluster_from_environment

    cluster = cluster_from_environment()
    return cluster is None or cluster.is_chief


def _complain(line: str) -> None:
    complain("tfscale verify", line)


def _keep_quiet(line: str) -> None:
    """Prints nothing, because the chief prints progress."""
