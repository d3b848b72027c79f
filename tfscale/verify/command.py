"""`tfscale verify`: does the user's own model train under a strategy what one device trains?"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path

from strategies.extension import integers
from tfscale.cli.arguments import add_json_flag, count, function_name, number_type, seconds
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress

SUMMARY = "does your own model train under a strategy what one device trains?"

STRATEGIES = ("mirrored", "multi_worker_mirrored", "one_device", "parameter_server", "tpu", "auto")
PRECISIONS = ("auto", "float64", "as_is")
_DESCRIPTION = """\
Trains your model on one device with stock Keras, and again under a strategy: the same initial
weights, the same batches in the same order. Compares the loss of each step, the gradients of the
first, weights, optimizer slots, metrics, evaluate, predictions and the saved file reloaded in plain
Keras. What rounding alone does to your model is measured first, by permuting the rows inside each
batch; a difference up to ten times that is equal.

Where they differ, steps on parts of a batch are taken on one device to measure why: a sum that
looks like a mean, a loss that counts for itself or compares examples, a layer whose rows depend on
each other. The report names it, and the cure.

FUNCTION takes nothing and returns (model, data): a compiled model, a new one at each call (it is
called several times), and arrays (x, (x, y) or (x, y, sample_weight)), a batched tf.data.Dataset,
a keras.utils.PyDataset, or a generator of batches. The first batches of data are kept and trained
on in order, again and again. Dropout and noise are set to 0, since replicas draw independently.
"""
_EPILOG = """\
examples:
  tfscale verify mine:build --num_replicas=2
  tfscale verify mine:build --steps=5 --precision=as_is --json
  tfscale launch --num_workers=2 -- tfscale verify mine:build --strategy=multi_worker_mirrored

exit status: 0 equal; 1 a mismatch, a refusal or a failure under the strategy; 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale verify`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "target",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="where the model comes from; the current directory is importable",
    )
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
        help="replicas of the strategy mirrored (default: 2)",
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
        help="rows of a batch where the data are arrays (default: 32)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="float64: set as Keras's default before FUNCTION is called; as_is: left alone; auto: "
        "float64 where the model runs in it (default: auto)",
    )
    parser.add_argument(
        "--seed",
        type=number_type(integers(0, below=2**32)),
        default=0,
        metavar="N",
        help="seed of Keras, NumPy and Python before FUNCTION is called (default: 0)",
    )
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=600.0,
        metavar="S",
        help="deadline of each training (default: 600)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verifies; prints the report on the chief, and a failure on every worker."""
    # Here: these import numpy, which the help does not need.
    from tfscale.verify.messages import Request
    from tfscale.verify.process import Failed
    from tfscale.verify.report import as_json, as_text, verdict_sentence
    from tfscale.verify.verification import Verification, verify

    num_replicas = arguments.num_replicas
    if num_replicas is None and arguments.strategy == "mirrored":
        num_replicas = 2
    request = Request(
        target=arguments.target,
        strategy=arguments.strategy,
        num_replicas=num_replicas,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        seed=arguments.seed,
        timeout_seconds=arguments.timeout_seconds,
    )

    shown = contextlib.ExitStack()

    def report(result: Verification) -> None:
        shown.close()
        if is_chief:
            print(json.dumps(as_json(result)) if arguments.json else as_text(result), flush=True)
        elif result.text:  # whoever fails first ends the job: the chief may not come to speak
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


def _is_chief(strategy: str) -> bool:
    """Tells whether this process speaks for all, before there is a strategy to ask."""
    if strategy not in ("auto", "multi_worker_mirrored"):
        return True
    from strategies.extension import cluster_from_environment

    cluster = cluster_from_environment()
    return cluster is None or cluster.is_chief


def _complain(line: str) -> None:
    complain("tfscale verify", line)


def _keep_quiet(line: str) -> None:
    """The chief shows progress."""
