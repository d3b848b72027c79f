"""Flags that several kinds of `tfscale bench` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from strategies.extension import integers
from tfscale.bench.variant import Variant
from tfscale.cli.arguments import count, number_type, seconds


def add_variants_argument(
    parser: argparse.ArgumentParser, variants: Sequence[Variant], flag: str = "--variants"
) -> None:
    """Adds the flag that chooses variants; its value is a tuple of them.

    Args:
        parser: The parser to add it to.
        variants: The variants to choose from.
        flag: Its name.
    """
    names = [variant.name for variant in variants]

    def chosen(text: str) -> tuple[Variant, ...]:
        wanted = text.split(",")
        if set(wanted) - set(names) or len(set(wanted)) < len(wanted):
            raise argparse.ArgumentTypeError(
                f"must be different names of {', '.join(names)}, separated by commas. "
                f"Received: {text!r}"
            )
        return tuple(variants[names.index(name)] for name in wanted)

    parser.add_argument(
        flag,
        type=chosen,
        default=tuple(variants),
        metavar="NAMES",
        help=f"what to measure, in order, separated by commas: names of {','.join(names)} "
        "(default: all of them)",
    )


def add_turn_arguments(parser: argparse.ArgumentParser, *, rounds: int = 7) -> None:
    """Adds the flags for rounds, threads and the deadline.

    Args:
        parser: The parser to add them to.
        rounds: The default number of rounds.
    """
    parser.add_argument(
        "--rounds",
        type=number_type(integers(at_least=2)),
        default=rounds,
        metavar="N",
        help=f"turns of each variant; the first is not counted (default: {rounds})",
    )
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads of a variant; several processes divide them (default: all CPUs)",
    )
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=300.0,
        metavar="S",
        help="seconds allowed for start-up and for each turn (default: 300)",
    )
