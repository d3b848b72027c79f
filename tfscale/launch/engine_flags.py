"""The flags of `tfscale launch` that choose an engine and say what a job needs."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

from tfscale.cli.arguments import add_switch, count, count_or_zero, size
from tfscale.launch.elastic.flags import least_workers, most_workers
from tfscale.launch.engines import ENGINES, JobRequest, default_name, engine_named

_COLUMNS = 100
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Declares them."""
    group = parser.add_argument_group("engines")
    group.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        default="local",
        help="what runs the workers (default: local, processes of this host)",
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help="a job file in TOML with any of these flags; the command line has precedence: "
        "--detach=false takes `detach = true` back",
    )
    group.add_argument(
        "--gpus_per_worker",
        type=count_or_zero,
        metavar="N",
        help="GPUs of each worker; 0 hides them (default: local workers see all GPUs, a cluster "
        "gives none)",
    )
    group.add_argument(
        "--cpus_per_worker",
        type=count,
        metavar="N",
        help="CPUs of each worker (default: local workers share all, a cluster gives one)",
    )
    group.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="memory of each worker with its unit, such as 32GiB (default: that of the engine)",
    )
    group.add_argument(
        "--time_limit",
        type=duration,
        metavar="T",
        help="end the job after so long: 90s, 30m, 12h, 2d; workers can save in the grace period "
        "before the end (default: no limit, or that of the engine)",
    )
    group.add_argument(
        "--job_name",
        metavar="NAME",
        help="beginning of the id, lowercase letters, digits and hyphens (default: from the "
        "command)",
    )
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for the workers; may be repeated",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that only this engine has, such as partition=gpu; may be repeated",
    )
    add_switch(
        group,
        "--detach",
        "run in the background of this host, and print an id for `tfscale jobs`; engines of "
        "clusters always do",
    )
    add_switch(group, "--dry_run", "print what would be submitted, and submit nothing")


def options_text() -> str:
    """Returns what `--option` can set, engine by engine, for the help."""
    lines = []
    for name in ENGINES:
        options = engine_named(name).options
        if not options:
            continue
        lines.append(f"settings of --option with --engine={name}:")
        width = max(map(len, options))
        for option, meaning in options.items():
            head = f"  {option:{width}}  "
            indent = " " * len(head)
            lines += textwrap.wrap(meaning, _COLUMNS, initial_indent=head, subsequent_indent=indent)
        lines.append("")
    return "\n".join(lines)


def request_of(arguments: argparse.Namespace) -> JobRequest:
    """Returns what the flags ask for.

    Raises:
        ValueError: If a flag is malformed.
    """
    command = tuple(arguments.command)
    if not command[0]:
        raise ValueError(
            "`command` must begin with a program. Received: ''. Example: -- python train.py"
        )
    if arguments.log_dir == "":
        raise ValueError(
            "`--log_dir` must be a folder. Received: ''. Leave it out, or write `.` for this one."
        )
    environment = _pairs("env", arguments.env)
    if arguments.start_seconds is not None:
        environment["TFSCALE_START_SECONDS"] = str(arguments.start_seconds)
    return JobRequest(
        command=command,
        name=default_name(command) if arguments.job_name is None else arguments.job_name,
        num_workers=most_workers(arguments.num_workers),
        least_workers=least_workers(arguments.num_workers),
        num_ps=arguments.num_ps,
        num_data_workers=arguments.num_data_workers,
        gpus_per_worker=arguments.gpus_per_worker,
        cpus_per_worker=arguments.cpus_per_worker,
        memory=arguments.memory,
        time_limit=arguments.time_limit,
        max_restarts=arguments.max_restarts,
        early_seconds=arguments.early_seconds,
        grace_seconds=arguments.grace_seconds,
        log_dir=None if arguments.log_dir is None else Path(arguments.log_dir),
        folder=Path.cwd(),
        environment=environment,
        options=_pairs("option", arguments.option),
    )


def duration(text: str) -> float:
    """Returns the seconds of a duration with its unit, for argparse.

    Example:
        >>> duration("90m"), duration("1.5h")
        (5400.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds < 1:
        raise argparse.ArgumentTypeError(
            f"must be at least 1s, a number with its unit s, m, h or d. Received: {text!r}. "
            "Example: 12h."
        )
    return seconds


def _pairs(flag: str, texts: list[str]) -> dict[str, str]:
    wrong = [text for text in texts if "=" not in text or text.startswith("=")]
    if wrong:
        raise ValueError(f"`--{flag}` must be NAME=VALUE. Received: {wrong[0]!r}.")
    return {text.partition("=")[0]: text.partition("=")[2] for text in texts}
