"""The benchmarks behind `make bench`: those of `tfscale bench`, some with stock peers.

python -m tests.benchmarks step --model=mlp --keep
python -m tests.benchmarks --model=tiny_mlp --variants=stock,one_device --rounds=9
python -m tests.benchmarks scaling --keep
python -m tests.benchmarks input --keep
"""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.benchmarks import history
from tests.benchmarks.peers import benchmark_variants, start_variants
from tfscale.bench.command import DEFAULT_KIND, KINDS
from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome
from tfscale.bench.output import Say, add_output_arguments, measured_and_printed
from tfscale.bench.startup import add_start_arguments
from tfscale.bench.step import add_race_arguments

ALL_KINDS = {**KINDS, "input": "tests.benchmarks.input.race"}


def main(own: list[str]) -> int:
    """Runs one benchmark; returns 0 whether goals are met or not.

    Args:
        own: Arguments without the program's name.
    """
    kind, *flags = own if own and own[0] in ALL_KINDS else [DEFAULT_KIND, *own]
    module = importlib.import_module(ALL_KINDS[kind])
    program = f"python -m tests.benchmarks {kind}"
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    if kind == "step":
        parser.set_defaults(target=None)
        add_race_arguments(parser, benchmark_variants())
    elif kind == "startup":
        add_start_arguments(parser, start_variants())
    else:
        module.add_arguments(parser)
    add_output_arguments(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help=f"write the run to {history.FOLDER.name}/, and compare it with the newest one of this "
        "kind of machine",
    )
    arguments = parser.parse_args(flags)
    subject = getattr(module, "subject", None)
    if arguments.keep and arguments.against is None:
        about = subject(arguments) if subject else None
        arguments.against = history.newest(kind, about, Machine.of_this_host())

    def run(arguments: argparse.Namespace, say: Say) -> Outcome:
        outcome: Outcome = module.run(arguments, say)
        if arguments.keep:
            say(f"kept: {history.keep(outcome)}")
        return outcome

    return measured_and_printed(program, run, arguments, kind=kind, subject=subject)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
