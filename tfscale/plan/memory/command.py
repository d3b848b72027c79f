"""`tfscale plan --what=memory`: the memory that training a model takes on each device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TypeVar

from strategies.extension import integers
from tfscale.cli.arguments import count, number_type, size
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress

Value = TypeVar("Value")

SCHEDULES = ("gpipe", "1f1b", "interleaved")
PRECISIONS = ("as_is", "float64", "float32", "mixed_bfloat16", "mixed_float16")
DEFAULTS = {
    "replicas": 1,
    "memory_per_device": None,
    "shard": None,
    "precision": ("as_is",),
    "microbatches": None,
    "recompute": None,
    "pipeline_stages": (1,),
    "pipeline_schedule": None,
    "pipeline_virtual_stages": 1,
    "tensor_parallel": (1,),
    "tensor_rules": None,
}
"""Flags of this kind of plan. None, while a plan of another kind may be meant."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that only a plan of memory has."""
    flags = parser.add_argument_group("with --what=memory")
    flags.add_argument(
        "--replicas",
        type=count,
        metavar="N",
        help="number of devices; with several devices for each replica, number of such groups "
        "(default: 1)",
    )
    flags.add_argument(
        "--memory_per_device",
        type=size,
        metavar="SIZE",
        help="memory of a device, such as 16GiB or 80GB (default: no limit)",
    )
    flags.add_argument(
        "--shard",
        type=_several(number_type(integers(0, below=4))),
        metavar="STAGES",
        help="what replicas divide, as numbers separated by commas: 0 nothing, 1 the optimizer's "
        "slots, 2 and gradients, 3 and parameters (default: all of them)",
    )
    flags.add_argument(
        "--precision",
        type=_several(_precision),
        metavar="NAMES",
        help=f"dtype policies to set before FUNCTION is called, separated by commas: "
        f"{', '.join(PRECISIONS)} (default: as_is)",
    )
    flags.add_argument(
        "--microbatches",
        type=_several(count),
        metavar="COUNTS",
        help="parts of a replica batch, computed one after another, as numbers separated by commas "
        "(default: 1, 2, 4, 8 and 16, as far as they divide it)",
    )
    flags.add_argument(
        "--recompute",
        type=_several(str),
        metavar="LAYERS",
        help="layers that compute their activations again in the backward pass, separated by "
        "commas: as_is, those that the model was built with; blocks, the layers directly in the "
        "model that contain layers; or a regular expression of names (default: as_is and blocks)",
    )
    flags.add_argument(
        "--pipeline_stages",
        type=_several(count),
        metavar="COUNTS",
        help="devices of a replica, of which each computes some of the layers for one microbatch "
        "after another, as numbers separated by commas (default: 1)",
    )
    flags.add_argument(
        "--pipeline_schedule",
        type=_several(_schedule),
        metavar="NAMES",
        help=f"in which order stages compute, separated by commas: {', '.join(SCHEDULES)} "
        "(default: 1f1b)",
    )
    flags.add_argument(
        "--pipeline_virtual_stages",
        type=count,
        metavar="N",
        help="runs of layers on each device, with --pipeline_schedule=interleaved (default: 1)",
    )
    flags.add_argument(
        "--tensor_parallel",
        type=_several(count),
        metavar="COUNTS",
        help="devices of a replica, of which each computes with parts of the matrices, as numbers "
        "separated by commas; not together with stages (default: 1)",
    )
    flags.add_argument(
        "--tensor_rules",
        metavar="MODULE:NAME",
        help="a list of tfscale.parallel.TensorRule, which says how matrices are divided "
        "(default: rules for the model of the language recipe)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Computes and prints the plan. Returns the exit status."""
    # Imported here, because these import TensorFlow and the help does not need it.
    from tfscale.parallel import TRANSFORMER
    from tfscale.plan.memory.planning import Untraceable, memory_plan
    from tfscale.plan.memory.report import as_json, as_text
    from tfscale.verify.parallel_model import rules_of
    from tfscale.verify.user_model import UserModel, WrongUsage

    rules = arguments.tensor_rules
    try:
        with progress("tfscale plan") as say:
            plan = memory_plan(
                UserModel(arguments.target).build,
                replicas=arguments.replicas,
                workers=arguments.workers or 1,
                global_batch_size=arguments.global_batch_size,
                memory_per_device=arguments.memory_per_device,
                shard=arguments.shard,
                precision=arguments.precision,
                microbatches=arguments.microbatches,
                recompute=arguments.recompute,
                pipeline_stages=arguments.pipeline_stages,
                pipeline_schedule=arguments.pipeline_schedule,
                pipeline_virtual_stages=arguments.pipeline_virtual_stages,
                tensor_parallel=arguments.tensor_parallel,
                tensor_rules=TRANSFORMER if rules is None else rules_of(rules),
                say=say,
            )
    except (WrongUsage, ValueError) as error:
        complain("tfscale plan", error)
        return 2
    except Untraceable as error:
        complain("tfscale plan", error)
        return 1
    if arguments.json:
        print(json.dumps(as_json(arguments.target, plan)), flush=True)
    else:
        print(as_text(arguments.target, plan), flush=True)
    return 0 if plan.cheapest is not None else 1


def _precision(text: str) -> str:
    return _one_of(text, PRECISIONS)


def _schedule(text: str) -> str:
    return _one_of(text, SCHEDULES)


def _one_of(text: str, names: tuple[str, ...]) -> str:
    if text not in names:
        raise argparse.ArgumentTypeError(
            f"must be of {', '.join(names)}. Received: {text!r}. Example: {names[-1]}."
        )
    return text


def _several(one: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    def parse(text: str) -> tuple[Value, ...]:
        return tuple(dict.fromkeys(one(part) for part in text.split(",")))

    return parse
