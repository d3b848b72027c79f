"""A race of the variants of this folder, as a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfscale.bench.output import add_output_arguments, measured_and_printed
from tfscale.bench.step import add_race_arguments, run
from tfscale.bench.variant import Variant


def raced(command: str, variants: Sequence[Variant]) -> int:
    """Races what the flags say; returns 0 whether goals are met or not.

    Args:
        command: The command line, for messages.
        variants: Those that may be raced.
    """
    parser = argparse.ArgumentParser(prog=command, allow_abbrev=False)
    parser.set_defaults(target=None)
    add_race_arguments(parser, variants)
    add_output_arguments(parser)
    return measured_and_printed(command, run, parser.parse_args())
