"""The flags of `tfscale preflight` that are about compiling for the chip itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from tfscale.cli.arguments import seconds
from tfscale.preflight.ahead_of_time.environment import (
    DISK_MB,
    WHEELS_MB,
    default_environment,
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds them, in a group of their own."""
    group = parser.add_argument_group(
        "ahead of time",
        "the step with the all-reduces of all replicas, compiled for the chip by its own compiler",
    )
    group.add_argument(
        "--aot",
        action="store_true",
        help="compile for the chip, and say what memory the step takes there; takes minutes",
    )
    group.add_argument(
        "--make_environment",
        action="store_true",
        help=f"first make the environment that compiles, where it is not there: {WHEELS_MB} MB to "
        f"download, {DISK_MB} MB on disk",
    )
    group.add_argument(
        "--environment",
        type=Path,
        default=default_environment(),
        metavar="DIR",
        help="where the environment stands (default: %(default)s)",
    )
    group.add_argument(
        "--largest_batch",
        action="store_true",
        help="search for the largest batch that fits: some ten compilations",
    )
    group.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=1800.0,
        metavar="S",
        help="deadline of each compilation (default: 1800)",
    )


def check_flags(arguments: argparse.Namespace) -> None:
    """Refuses flags that contradict each other.

    Args:
        arguments: Of `add_flags`, and the target.

    Raises:
        ValueError: If --aot is missing where it is meant, or has no chip to compile for.
    """
    if not arguments.aot:
        for name in ("make_environment", "largest_batch"):
            if getattr(arguments, name):
                raise ValueError(f"`--{name}` must go with --aot. Received: no --aot. Add it.")
    elif not arguments.target.is_tpu:
        raise ValueError(
            f"`--aot` must have a TPU to compile for. Received: --target={arguments.target}. Name "
            "one: --target=v5e:2x2."
        )
