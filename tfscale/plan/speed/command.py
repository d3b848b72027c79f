"""`tfscale plan --what=speed`: the time of a step on 1 to 4,096 workers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tfscale.cli import POSITIVE, floats
from tfscale.cli.arguments import count, number_type, seconds
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.measured import MeasuredSpeed
from tfscale.plan.speed.predicting import COUNTS, SpeedPredictor
from tfscale.plan.speed.prediction import StepPrediction
from tfscale.plan.speed.strategies import STRATEGIES, SpeedSettings

DEFAULTS = {
    "measured": None,
    "write_measured": None,
    "measure_rows": None,
    "seconds": 180.0,
    "strategies": None,
    "rows": None,
    "replicas_per_worker": 1,
    "every": 16,
    "servers": 1,
    "stages": 4,
    "pipeline_microbatches": 8,
    "gbits": None,
    "latency_us": None,
    "examples": None,
    "epochs": None,
    "cost_per_hour": None,
    "picture": None,
}
"""Flags of this kind of plan. None, while a plan of another kind may be meant."""
_GBITS = floats("from 1e-6 to 1e6", "10", lambda value: 1e-6 <= value <= 1e6)
_MICROSECONDS = floats("from 0 to 1e9", "30", lambda value: 0 <= value <= 1e9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that only a plan of speed has."""
    flags = parser.add_argument_group("with --what=speed")
    flags.add_argument(
        "--measured",
        type=Path,
        metavar="FILE",
        help="measurements to predict from, of --write_measured (default: measure here)",
    )
    flags.add_argument(
        "--write_measured", type=Path, metavar="FILE", help="a file for what is measured"
    )
    flags.add_argument(
        "--measure_rows",
        type=_counts,
        metavar="NUMBERS",
        help="rows of a replica to measure, at least two numbers separated by commas (default: a "
        "half, all and twice of a batch of your data)",
    )
    flags.add_argument(
        "--seconds", type=seconds, metavar="S", help="deadline of measuring (default: 180)"
    )
    flags.add_argument(
        "--strategies",
        type=_names,
        metavar="NAMES",
        help=f"what to predict, separated by commas: {', '.join(STRATEGIES)} (default: all)",
    )
    flags.add_argument(
        "--rows",
        type=count,
        metavar="N",
        help="rows of each replica (default: those of a batch of your data); with "
        "--global_batch_size they are divided instead",
    )
    flags.add_argument(
        "--replicas_per_worker", type=count, metavar="N", help="devices of a worker (default: 1)"
    )
    flags.add_argument(
        "--every", type=count, metavar="H", help="steps between local updates (default: 16)"
    )
    flags.add_argument("--servers", type=count, metavar="N", help="parameter servers (default: 1)")
    flags.add_argument(
        "--stages", type=count, metavar="N", help="devices of a pipeline (default: 4)"
    )
    flags.add_argument(
        "--pipeline_microbatches",
        type=count,
        metavar="N",
        help="parts of a batch in a pipeline (default: 8)",
    )
    flags.add_argument(
        "--gbits",
        type=number_type(_GBITS),
        metavar="X",
        help="bandwidth of another link than the measured one, in 10^9 bits a second",
    )
    flags.add_argument(
        "--latency_us",
        type=number_type(_MICROSECONDS),
        metavar="X",
        help="latency of that link in microseconds",
    )
    flags.add_argument(
        "--examples", type=count, metavar="N", help="examples of an epoch, for time and cost"
    )
    flags.add_argument("--epochs", type=count, metavar="N", help="epochs (default: 1)")
    flags.add_argument(
        "--cost_per_hour",
        type=number_type(POSITIVE),
        metavar="X",
        help="price of a worker for an hour, in any unit",
    )
    flags.add_argument(
        "--picture", type=Path, metavar="FILE", help="an SVG file to write the picture to"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures, predicts and prints. Returns the exit status."""
    from tfscale.files.output_files import write_whole
    from tfscale.plan.speed.child import MeasurementFailed
    from tfscale.plan.speed.picture import svg_picture
    from tfscale.plan.speed.table import as_text
    from tfscale.plan.speed.training_cost import training_cost
    from tfscale.verify.user_model import WrongUsage

    try:
        found = predicted(arguments)
        if found is None:  # another worker prints
            return 0
        measured, predictions = found
        if arguments.picture is not None:
            write_whole(arguments.picture, svg_picture(measured.model, predictions))
    except (WrongUsage, ValueError, OSError) as error:
        complain("tfscale plan", error)
        return 2
    except MeasurementFailed as error:
        complain("tfscale plan", error)
        return 1
    examples = arguments.examples and arguments.examples * (arguments.epochs or 1)
    costs = None
    if examples is not None:
        price, servers = arguments.cost_per_hour, arguments.servers
        costs = [training_cost(each, examples, price, servers) for each in predictions]
    if arguments.json:
        rows = [asdict(each) for each in predictions]
        if costs is not None:
            rows = [row | asdict(cost) for row, cost in zip(rows, costs, strict=True)]
        whole = {"measured": asdict(measured), "examples": examples, "predictions": rows}
        print(json.dumps(whole), flush=True)
    else:
        print(as_text(measured, predictions, costs, _link(arguments, measured)), flush=True)
    return 0


def predicted(
    arguments: argparse.Namespace,
) -> tuple[MeasuredSpeed, Sequence[StepPrediction]] | None:
    """Measures or reads, and predicts; None on a worker that is not the chief.

    Raises:
        ValueError: If flags contradict each other, or a file is not one of measurements.
        OSError: If a file cannot be read or written.
        MeasurementFailed: If a step cannot be measured.
        WrongUsage: If the function does not build a model.
    """
    _check(arguments)
    measured = _measured(arguments)
    return None if measured is None else (measured, _predictions(arguments, measured))


def _check(arguments: argparse.Namespace) -> None:
    for flag, needed in (
        ("epochs", "examples"),
        ("cost_per_hour", "examples"),
        ("gbits", "latency_us"),
        ("latency_us", "gbits"),
    ):
        if getattr(arguments, flag) is not None and getattr(arguments, needed) is None:
            raise ValueError(
                f"`--{flag}` must come with --{needed}. Received: "
                f"--{flag}={getattr(arguments, flag)}. Add it."
            )
    if arguments.measured is not None:
        for flag in ("write_measured", "measure_rows"):
            if getattr(arguments, flag) is not None:
                raise ValueError(
                    f"`--{flag}` must not come with --measured, which does not measure. Received: "
                    f"--{flag}={getattr(arguments, flag)}. Leave one of them out."
                )


def _measured(arguments: argparse.Namespace) -> MeasuredSpeed | None:
    from tfscale.files.output_files import not_written, require_writable
    from tfscale.plan.speed.measuring import measure_speed

    if arguments.measured is not None:
        measured = MeasuredSpeed.read(arguments.measured)
        if measured.model != arguments.target:
            raise ValueError(
                f"`measured` must be of {arguments.target}. Received: {str(arguments.measured)!r} "
                f"of {measured.model}. Measure this model, or name that one."
            )
        return measured
    for file in (arguments.write_measured, arguments.picture):
        if file is not None and _writes():
            try:
                require_writable(file)  # before measuring, which takes a minute
            except OSError as error:
                raise not_written(file, error) from error
    with progress("tfscale plan") as say:
        found = measure_speed(
            arguments.target, rows=arguments.measure_rows, seconds=arguments.seconds, say=say
        )
    if found is not None and arguments.write_measured is not None:
        found.write(arguments.write_measured)
    return found


def _writes() -> bool:
    """Returns whether this worker writes files: the chief does."""
    from strategies.extension import cluster_from_environment

    cluster = cluster_from_environment()
    return cluster is None or cluster.is_chief


def _predictions(
    arguments: argparse.Namespace, measured: MeasuredSpeed
) -> Sequence[StepPrediction]:
    settings = SpeedSettings(
        rows=arguments.rows,
        global_batch_size=arguments.global_batch_size,
        replicas=arguments.replicas_per_worker,
        every=arguments.every,
        servers=arguments.servers,
        stages=arguments.stages,
        microbatches=arguments.pipeline_microbatches,
    )
    predictor = SpeedPredictor(measured, settings, _link(arguments, measured))
    if arguments.workers is not None:
        counts: Sequence[int] = (arguments.workers,)
    elif predictor.has_link:
        counts = COUNTS
    else:
        counts = (1,)
        complain(
            "tfscale plan",
            "only 1 worker is predicted, because the link between workers was not measured. "
            "Measure under `tfscale launch --num_workers=2`, or pass --gbits and --latency_us.",
        )
    found = list(predictor.all(arguments.strategies, counts))
    if not found:
        names = "all" if arguments.strategies is None else ",".join(arguments.strategies)
        raise ValueError(
            "`--workers` must be such that a step can be predicted. Received: --workers="
            f"{','.join(map(str, counts))}, --strategies={names} and --global_batch_size="
            f"{arguments.global_batch_size}. mirrored has 1 worker, and each replica needs a row."
        )
    return found


def _link(arguments: argparse.Namespace, measured: MeasuredSpeed) -> LinkLaw | None:
    """Returns the link of a data sheet, if there is one."""
    from tfscale.plan.speed.link_law import nominal

    if arguments.gbits is None:
        return None
    return nominal(1e-6 * arguments.latency_us, 1e9 * arguments.gbits, measured.link_law())


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(dict.fromkeys(count(part) for part in text.split(",")))
    if len(found) < 2:
        raise argparse.ArgumentTypeError(
            f"must be at least two numbers. Received: {text!r}. Example: 16,64."
        )
    return found


def _names(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split(",")))
    for name in found:
        if name not in STRATEGIES:
            raise argparse.ArgumentTypeError(
                f"must be of {', '.join(STRATEGIES)}. Received: {name!r}. Example: ring."
            )
    return found
