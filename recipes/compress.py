r"""Makes the model of a finished run smaller, and says what each stage cost.

    python -m recipes.image_classification --dataset=digits --model_dir=runs/digits
    python -m recipes.compress --run=runs/digits --sparsity=0.8 --clusters=16 --quantize=aware

    python -m recipes.compress --run=runs/digits --max_accuracy_loss=0.01

The stages are, in this order: --channels are cut out, weights are pruned to
--sparsity, the numbers of a kernel share --clusters values, and --quantize makes
8-bit integers of them. Each is trained for --stage_epochs, and keeps what came
before. With --target_size or --max_accuracy_loss the chain is searched: it is chosen with
one half of the test data, and measured with the other.

The run may be of image_classification, language_model or recommendation. Its
flags are taken from its folder; --flags changes some, such as the strategy.

A chain that was killed goes on after its last whole epoch when it is started
again with the same flags. A run writes to --output: the smaller model
(model.tflite or model.keras), trade_off.html with pictures, report.html,
run.json and summary.json.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence

# TensorFlow's start-up lines would hide those of the recipe. Set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import common_flags, entry_point, flag_sections, number_flags, results
from recipes.compression.outcome import Outcome, by_chain, by_search, flagged_way
from recipes.compression.run_folder import read_run_folder
from recipes.compression.tasks import Task, task_of
from recipes.number_flags import PART
from recipes.run_record import run_record
from tfscale.cli import NOT_NEGATIVE, POSITIVE, integers, shown_bytes
from tfscale.files import whole_files
from tfscale.report import REPORT_FILE, Timing
from tfscale.shrink import Chain, Compressed, trade_off_page

FLAGS = flags.FLAGS
LITERT_FILE = "model.tflite"
_PAGE = "trade_off.html"
_CHAIN_FLAGS = ("channels", "sparsity", "clusters")


def define_flags() -> None:
    """Defines this recipe's flags."""
    with flag_sections.section("what to compress"):
        flags.DEFINE_string("run", None, "The --model_dir of a finished run of another recipe.")
        flags.DEFINE_string(
            "flags",
            "",
            "Flags of that recipe to change, in quotes, such as "
            "'--distribution_strategy=mirrored --num_replicas=2'.",
        )
    with flag_sections.section("the chain"):
        number_flags.define_float(
            "channels", 0.0, "Fraction of channels, neurons and heads to cut out.", PART
        )
        number_flags.define_float("sparsity", 0.0, "Fraction of zeros in the kernels.", PART)
        flags.DEFINE_string(
            "pattern", "unstructured", "Pattern of the zeros: unstructured, n:m as 2:4, or RxC."
        )
        flags.DEFINE_enum(
            "scope",
            None,
            ["global", "layer"],
            "global prunes the lowest weights of all kernels together, layer each kernel. Default: "
            "global, and each group of n:m.",
        )
        number_flags.define_integer(
            "clusters",
            0,
            "Values that the numbers of a kernel share, besides zero; 0 for any.",
            integers(at_least=0),
        )
        flags.DEFINE_enum(
            "quantize",
            "none",
            ["none", "aware", "int8", "int4"],
            "aware trains with 8-bit integers and writes a LiteRT file; int8 and int4 are Keras's, "
            "without training, in a .keras file.",
        )
        flags.DEFINE_list(
            "keep", [], "Names of layers that are neither pruned nor clustered; expressions."
        )
        number_flags.define_integer(
            "stage_epochs", 10, "Epochs of each stage; 0 trains none.", integers(at_least=0)
        )
        number_flags.define_integer(
            "epoch_steps",
            None,
            "Steps of such an epoch. Default: a pass over the data; of a language model, the steps "
            "between two validations of the run.",
        )
        number_flags.define_float(
            "stage_learning_rate",
            None,
            "Learning rate at the begin of cutting and pruning; a tenth of it when clustering and "
            "quantizing. Default: the --learning_rate of the run.",
            POSITIVE,
        )
        flags.DEFINE_enum(
            "file_format",
            None,
            ["litert", "keras"],
            "Of the file that is measured and written. Default: litert, and keras with "
            "--quantize=int8 or int4.",
        )
    with flag_sections.section("the search"):
        number_flags.define_integer(
            "target_size",
            None,
            "Search the mildest chain whose file has at most so many bytes by gzip.",
        )
        number_flags.define_float(
            "max_accuracy_loss",
            None,
            "Search the strongest chain that does not lose more: of accuracy 0.01 is a point, of "
            "bits per byte and the loss of clicks it is what they may rise by.",
            NOT_NEGATIVE,
        )
    with flag_sections.section("results"):
        flags.DEFINE_string("output", None, "Folder of the results. Default: RUN/compressed.")
        flags.DEFINE_bool("json", False, "Print the results as JSON.")
    entry_point.define(__doc__)


def main(_: Sequence[str]) -> None:
    """Compresses according to the flags, and writes the results."""
    started = time.monotonic()
    if not FLAGS.run:
        raise ValueError(
            "`--run` must be the --model_dir of a finished run. Received: none. See --help."
        )
    is_search = FLAGS.target_size is not None or FLAGS.max_accuracy_loss is not None
    chain = None if is_search else _flagged_chain()
    _refuse_unused(is_search=is_search)
    run = read_run_folder(FLAGS.run)
    output = FLAGS.output or f"{run.path}/compressed"
    run.set_flags(shlex.split(FLAGS.flags))
    tf.get_logger().addFilter(_is_no_retracing)
    strategy = common_flags.strategy()
    is_chief = strategies.is_chief(strategy)
    if is_chief:
        results.make_writable(output, LITERT_FILE, _PAGE)
    tfscale.set_precision(FLAGS.precision, strategy)
    keras.utils.set_random_seed(FLAGS.seed)
    task = task_of(run, strategy)
    outcome = by_search(task) if chain is None else by_chain(task, chain, f"{output}/stages")
    if not is_chief:
        return
    _write_page(output, task, outcome)
    _show_tried(task, outcome)
    if outcome.best is None:
        raise RuntimeError(
            f"No chain meets {_limits()}. Allow a larger file or loss, or train longer with "
            "--stage_epochs."
        )
    _write(output, task, outcome, outcome.best, strategy, time.monotonic() - started)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Leaves out TensorFlow's warning of functions traced again: each stage has its own."""
    return "triggered tf.function retracing" not in record.getMessage()


def _flagged_chain() -> Chain:
    return Chain(
        channels=FLAGS.channels,
        sparsity=FLAGS.sparsity,
        pattern=FLAGS.pattern,
        scope=FLAGS.scope,
        clusters=FLAGS.clusters,
        quantize=flagged_way(),
        epochs=FLAGS.stage_epochs,
        keep=FLAGS.keep,
    )


def _refuse_unused(*, is_search: bool) -> None:
    """Checks that no flag of a chain is set if one is searched.

    Raises:
        ValueError: If one is.
    """
    set_flags = [name for name in (*_CHAIN_FLAGS, "pattern") if FLAGS[name].present]
    if is_search and set_flags:
        raise ValueError(
            f"`--{set_flags[0]}` must not be set with --target_size or "
            "--max_accuracy_loss, which search it. Received: "
            f"--{set_flags[0]}={FLAGS[set_flags[0]].value}. Leave one of them out."
        )


def _write_page(output: str, task: Task, outcome: Outcome) -> None:
    """Draws what was tried, the result last."""
    best = [] if outcome.best is None else [outcome.best]
    drawn = [each for each in outcome.tried if each is not outcome.best] + best
    if drawn:
        title = f"Compressing {FLAGS.run}"
        page = trade_off_page(drawn, metric=task.metric, title=title, notes=[outcome.note])
        with whole_files(f"{output}/{_PAGE}") as (file,):
            file.write(page.encode())


def _show_tried(task: Task, outcome: Outcome) -> None:
    """Prints what a search has tried."""
    out = sys.stderr if FLAGS.json else sys.stdout
    if outcome.lost:
        print(f"{task.metric} of the half of the test data to choose with:", file=out)
    for result, lost in zip(outcome.tried, outcome.lost, strict=False):
        size = shown_bytes(result.stages[-1].gzip_bytes)
        print(
            f"  {size} by gzip, {result.times_smaller:.1f} times smaller, {lost:.4f} lost: "
            f"{result.chain}",
            file=out,
        )


def _limits() -> str:
    limits = [f"--{n}={FLAGS[n].value}" for n in ("target_size", "max_accuracy_loss")]
    return " and ".join(text for text in limits if not text.endswith("=None"))


def _write(
    output: str,
    task: Task,
    outcome: Outcome,
    result: Compressed,
    strategy: tf.distribute.Strategy,
    seconds: float,
) -> None:
    """Writes and prints the results."""
    last = result.stages[-1]
    file = f"{output}/{results.MODEL_FILE if result.file_format == 'keras' else LITERT_FILE}"
    found = {
        f"{task.metric}_before": outcome.before,
        f"{task.metric}_after": outcome.after,
        "times_smaller": result.times_smaller,
        "gzip_bytes": last.gzip_bytes,
        "size_bytes": last.size_bytes,
        "zeros": last.zeros,
    }
    stages = [dataclasses.asdict(stage) for stage in result.stages]
    summary = {
        **found,
        "chain": dataclasses.asdict(result.chain),
        "stages": stages,
        "total_seconds": seconds,
        "flags": flag_sections.values(),
    }
    record = run_record(
        f"Compressing {FLAGS.run}: {result.chain}",
        strategy,
        results={name: float(value or 0) for name, value in found.items()},
        timing=Timing(total_seconds=seconds),
        notes=[outcome.note, f"Pictures of the trade-off: {_PAGE}."],
    )
    results.write(output, None, summary, record)
    result.write(file)
    if FLAGS.json:
        print(json.dumps({**found, "stages": stages, "file": file}))
        return
    print(result)
    print(f"{task.metric} of {outcome.rows}: {outcome.before:.4f} -> {outcome.after:.4f}")
    print(f"file: {file} ({shown_bytes(last.size_bytes)}; by gzip {shown_bytes(last.gzip_bytes)})")
    print(f"pictures: {output}/{_PAGE}")
    print(f"report: {output}/{REPORT_FILE}")


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
