"""A race of the variants of this folder, as a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfscale.bench.command import add_race_arguments, run_and_print
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
    return run_and_print(command, parser.parse_args())
