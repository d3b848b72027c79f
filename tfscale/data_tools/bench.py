"""`tfscale data bench`: where an input spends its time, and whether it limits a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from strategies.extension import integers
from tfscale.bench.output import add_output_arguments, measured_and_printed
from tfscale.cli.arguments import count, function_name, number_type, seconds
from tfscale.data_tools.named_source import SYNTAX, image_size
from tfscale.data_tools.set_flags import traced_functions

if TYPE_CHECKING:
    from tfscale.bench.outcome import Outcome

SUMMARY = "find the slow stage of an input, and whether it limits a model"
_DESCRIPTION = f"""\
{SYNTAX}, a Pipeline, a tf.data.Dataset of batches, or (model, input)

Measures the stages of an input in turns, each as the input without what comes after it: read (bytes
only), decode, preprocess, augment, batch. What a stage adds is the difference of two of them. A
batch that is in memory already is the ceiling. With a model it also trains, with this input and
with a batch in memory: the difference is the time that is lost to the input. Training changes the
variables of the model.

It names the stage that costs most and what would help. If rounds differ too much, it says so. Files
in the system's cache are read from there: use more data than memory, or drop the cache, to measure
a disk. Run nothing else at the same time.
"""
_EPILOG = """\
examples:
  tfscale data bench mine:pipeline                     build it in pipeline() of mine.py
  tfscale data bench mine:pipeline --model=mine:model  is it the limit of model() of mine.py?
  tfscale data bench mine:model_and_pipeline           returns (model, pipeline)
  tfscale data bench photos --image_size=224 --batch_size=64
  tfscale data bench 'train-*.tfrecord' --json > before.json
  tfscale data bench mine:pipeline --html=input.html   a page with pictures

exit status: 0 measured, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the tool."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="SOURCE|MODULE:FUNCTION", help="the input; see above")
    parser.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="returns a compiled model; called under the strategy of the pipeline",
    )
    parser.add_argument(
        "--batch_size",
        metavar="N",
        type=count,
        default=256,
        help="examples of a global batch, unless a function returns batches (default: 256)",
    )
    parser.add_argument(
        "--image_size",
        metavar="SIZE",
        type=image_size,
        help="224 or 224x320: height x width of the images of a folder",
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=number_type(integers(at_least=2)),
        default=6,
        help="turns of each stage; the first is not counted (default: 6)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=seconds,
        default=0.5,
        help="wall time of a turn, if a few steps take less (default: 0.5)",
    )
    add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, and prints what was found. Returns the exit status."""
    return measured_and_printed(
        "tfscale data bench", _outcome, arguments, kind="input", subject=_subject
    )


def _subject(arguments: argparse.Namespace) -> str:
    model = f" with {arguments.model}" if arguments.model else ""
    return f"{arguments.source}{model}"


def _outcome(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    # Here: the help needs no TensorFlow.
    import tensorflow as tf

    from tfscale.bench.machine import Machine
    from tfscale.bench.turns import children, processor_seconds
    from tfscale.data.diagnosis.diagnosis import diagnosed
    from tfscale.data.diagnosis.measurement import measured
    from tfscale.data.packing.encoded_sources import unreadable
    from tfscale.data_tools.bench_outcome import input_outcome
    from tfscale.data_tools.bench_subject import subject_of

    machine = Machine.of_this_host()
    subject = subject_of(
        arguments.source,
        arguments.model,
        batch_size=arguments.batch_size,
        image_size=arguments.image_size,
    )

    def processor() -> float:
        return processor_seconds() + sum(child.processor_seconds for child in children())

    try:
        with traced_functions(arguments.source):
            measurement = measured(
                subject.data,
                subject.model,
                rounds=arguments.rounds - 1,
                seconds=arguments.seconds,
                processor_seconds=processor,
                say=say,
            )
    except tf.errors.OpError as error:
        raise unreadable(f"The input of {arguments.source}", error) from error
    return input_outcome(
        _subject(arguments),
        measurement,
        diagnosed(measurement.figures),
        machine.at_end(),
        {
            name: getattr(arguments, name)
            for name in ("batch_size", "image_size", "rounds", "seconds")
        },
    )
