"""`tfscale launch`: the same command as several workers, on this host or on several."""

from __future__ import annotations

import argparse
import math

from tfscale.cli.errors import complain

SUMMARY = "Run a training command as several workers, on this host or on several."
# Everything after `--` is the command to run, in `arguments.command`.
TAKES_COMMAND = True

_DESCRIPTION = """\
Starts N workers of the same command on this host, each with the TF_CONFIG of its task: 127.0.0.1,
free ports. Lines of worker 1 begin with `[worker 1] `. The first worker that fails ends the job
with its own exit status (128 + s if signal s killed it); when all succeed the status is 0.
Ctrl-C ends every worker, a second one at once. SIGTERM is passed on, with the grace to save; where
all workers answer with exit status 42 (preempted, all saved) the status is 42.

With --max_restarts=R a job that a worker's failure has ended is started again as a whole, on new
ports, when its last process is gone: at most R times, not counting preemptions (status 42). The
workers see the number of restarts so far in TFSCALE_RESTART. The first wait is 1 s, doubled after
each further early failure in a row; the third early one in a row is the last.

With --num_ps=M a chief and M parameter servers are started beside the workers, for
strategies.parameter_server_strategy. The chief's end is the job's, its status too; a worker that
fails is started again alone (with --max_restarts, up to R times each), while the chief goes on.

With --hosts run one launcher on every host, with the same list and its own --host_index. Worker k
of a host listens k ports above the port given. Names are resolved and this host's ports checked
before a worker starts. Each launcher restarts its own workers, from 25 s after their end, on the
same ports: give all of them the same --max_restarts. The workers of the other hosts end by
TensorFlow's own error within about 25 s of a failure.
"""
_EPILOG = """\
examples:
  tfscale launch --num_workers=2 -- sh -c 'echo "$TF_CONFIG"'
  tfscale launch --num_workers=2 -- python -m recipes.image_classification \\
      --dataset=digits --distribution_strategy=multi_worker_mirrored
  tfscale launch --num_workers=2 --num_ps=1 --max_restarts=3 -- python train.py
  tfscale launch --num_workers=2 --max_restarts=3 --log_dir=logs -- python train.py
  tfscale launch --hosts=10.0.0.1:2222,10.0.0.2:2222 --host_index=0 -- python train.py

The workers' ports are open to the network and not authenticated while TensorFlow listens on them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.usage = "tfscale launch --num_workers=N [FLAG ...] -- COMMAND [ARGUMENT ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--num_workers",
        type=_positive_integer,
        metavar="N",
        help="workers to start; 1 gives a cluster of one worker; required without --hosts, with "
        "it the same number on every host (default there: 1)",
    )
    parser.add_argument(
        "--num_ps",
        type=_count,
        default=0,
        metavar="M",
        help="parameter servers to start, and a chief, for workers that train asynchronously "
        "(default: 0, workers in step)",
    )
    parser.add_argument(
        "--grace_seconds",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="seconds from SIGTERM to SIGKILL when the job is ended (default: 10)",
    )
    restarts = parser.add_argument_group("restarts")
    restarts.add_argument(
        "--max_restarts",
        type=_count,
        metavar="R",
        help="restarts after failures; 0 restarts preempted jobs only (default: never restart)",
    )
    restarts.add_argument(
        "--early_seconds",
        type=_seconds,
        default=20.0,
        metavar="S",
        help="a worker that fails within S seconds of its start failed early; 0: none does "
        "(default: 20)",
    )
    restarts.add_argument(
        "--log_dir",
        metavar="DIR",
        help="also write what worker i prints to DIR/worker-<i>.attempt-<restart>.log, without "
        "prefix; a file that is there is added to",
    )
    hosts = parser.add_argument_group("several hosts")
    hosts.add_argument(
        "--hosts", metavar="HOST:PORT,...", help="every host of the job, in the same order for all"
    )
    hosts.add_argument(
        "--host_index", type=_count, metavar="I", help="this host's position in --hosts, from 0"
    )
    hosts.add_argument(
        "--start_seconds",
        type=_seconds,
        metavar="S",
        help="deadline for the hosts' names to have addresses (default: 300) and, as "
        "TFSCALE_START_SECONDS in the workers' environment, for the workers to come together",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the job; its status is the status."""
    # Here: the modules behind it are not needed to print the help.
    from tfscale.launch.hosts import Hosts
    from tfscale.launch.local_workers import launch_local_workers

    num_workers, hosts = arguments.num_workers, None
    try:
        if (arguments.hosts is None) != (arguments.host_index is None):
            raise ValueError("--hosts and --host_index are given together or not at all")
        if arguments.hosts is not None:
            hosts = Hosts(tuple(arguments.hosts.split(",")), arguments.host_index)
            num_workers = num_workers or 1
        elif num_workers is None:
            raise ValueError("the following arguments are required: --num_workers, or --hosts")
        outcome = launch_local_workers(
            arguments.command,
            num_workers,
            num_ps=arguments.num_ps,
            hosts=hosts,
            grace_seconds=arguments.grace_seconds,
            max_restarts=arguments.max_restarts,
            early_seconds=arguments.early_seconds,
            start_seconds=arguments.start_seconds,
            log_dir=arguments.log_dir,
        )
    except (FileNotFoundError, NotImplementedError, ValueError) as error:
        complain("tfscale launch", error)
        return 2
    except OSError as error:
        complain("tfscale launch", f"the job could not be started: {error}")
        return 1
    if outcome.status != 0:
        complain("tfscale launch", f"{outcome}.")
    return outcome.status


def _positive_integer(text: str) -> int:
    number = _integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"must be a positive integer. Received: {text!r}. Example: --num_workers=2"
        )
    return number


def _count(text: str) -> int:
    number = _integer(text)
    if number < 0:
        raise argparse.ArgumentTypeError(
            f"must be an integer of at least 0. Received: {text!r}. Example: --max_restarts=3"
        )
    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(
            f"must be a finite number of seconds, at least 0. Received: {text!r}. "
            "Example: --grace_seconds=10"
        )
    return seconds
