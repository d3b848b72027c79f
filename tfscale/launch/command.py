"""`tfscale launch`: runs a command as several workers, here or on a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from tfscale.cli.arguments import count_or_zero, seconds, seconds_or_zero
from tfscale.launch.elastic import flags as elastic
from tfscale.launch.engine_flags import add_engine_flags, options_text
from tfscale.launch.job_file import with_job_file

SUMMARY = "run a training command as several workers, on this host or on a cluster"
# Everything after `--` is the command to run, in `arguments.command`.
TAKES_COMMAND = True

_DESCRIPTION = f"""\
Starts N workers of the same command on this host. Each gets a TF_CONFIG for its task, with free
ports on 127.0.0.1. Every line that worker 1 prints begins with `[worker 1] `. If a worker fails,
the whole job ends with the exit status of the worker at fault (128 + s if signal s killed it).
Ctrl-C ends every worker; a second Ctrl-C kills them at once. SIGTERM is passed on to the workers,
which have --grace_seconds to save. If all of them then exit with status 42 (preempted, all saved),
the status is 42.

With --max_restarts=R a failed job is restarted as a whole, on new ports, once its last process has
ended: at most R times, not counting preemptions (status 42). Workers find the number of restarts so
far in TFSCALE_RESTART. The first wait is 1 s and doubles after each further early end in a row. A
job that ends within --early_seconds of its start three times in a row is not restarted again. Here
preemptions do count: a broken job that ends with status 42 would otherwise restart without end.

With --num_ps=M a chief and M parameter servers are started with the workers, for
strategies.parameter_server_strategy. The job ends when the chief ends, with the chief's status. A
worker that fails is restarted by itself (with --max_restarts, up to R times for each worker) while
the chief continues.

With --num_data_workers=N the same command also runs as N data workers, which compute the input of
the workers: tfscale.data.served(pipeline) serves it in a data worker, and reads it from them in a
worker. Batches are the same as without data workers. One that ends early is restarted by itself,
also without --max_restarts, and its requests go to the others.

With --hosts run one launcher on every host, with the same list and the host's own --host_index.
Worker k of a host listens k ports above the given port. Before any worker starts, names are
resolved and the ports of this host are checked. Each launcher restarts its own workers on the same
ports, at least 25 s after they have ended, so pass the same --max_restarts everywhere. After a
failure on one host, the workers of the other hosts end with a TensorFlow error within about 25 s.

{elastic.DESCRIPTION}
With --engine the workers run on a cluster, and with --detach in the background of this host. Then
the command prints an id on standard output and ends. `tfscale jobs` lists, watches and stops such
jobs. --dry_run prints what would be submitted, and submits nothing.

With --config=job.toml flags are read from a file. Those of the command line have precedence. The
table [environment] has variables for the workers, a table with the name of an engine its options.
The command may be in the file too: command = ["python", "train.py"].
"""
_EPILOG = """\
examples:
  tfscale launch --num_workers=2 -- sh -c 'echo "$TF_CONFIG"'
  tfscale launch --num_workers=2 -- python -m recipes.image_classification \\
      --dataset=digits --distribution_strategy=multi_worker_mirrored
  tfscale launch --num_workers=2 --num_ps=1 --max_restarts=3 -- python train.py
  tfscale launch --num_workers=2 --num_data_workers=2 -- python train.py
  tfscale launch --num_workers=2 --max_restarts=3 --log_dir=logs -- python train.py
  tfscale launch --hosts=10.0.0.1:2222,10.0.0.2:2222 --host_index=0 -- python train.py
  tfscale launch --num_workers=2:4 --rendezvous=10.0.0.1:29400 -- python train.py
  tfscale launch --detach --num_workers=2 --time_limit=2h -- python train.py
  tfscale launch --engine=local --config=job.toml --dry_run

exit status: 0 all workers succeeded, 42 preempted and all saved, 1 the job could not be started or
its output could not be written, 2 wrong usage, 128 + s after signal s; otherwise that of the worker
at fault.

The workers' ports are open to the network and not authenticated while TensorFlow listens on them.
Those of data workers are open to all users of this host, and not authenticated. The port of
--rendezvous is open to the network of HOST, and neither encrypted nor authenticated.
"""


_EARLY_SECONDS = 20.0


def expanded(arguments: list[str]) -> list[str]:
    """Puts the flags of --config before those of the command line."""
    return with_job_file(arguments, _defaults)


def _defaults() -> dict[str, Any]:
    """Returns the flags with their values if they are left out; False for those without a value."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args([]))


def epilog() -> str:
    """Returns the end of the help, which lists the settings of every engine."""
    return f"{options_text()}\n{_EPILOG}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.usage = "tfscale launch --num_workers=N [FLAG ...] -- COMMAND [ARGUMENT ...]"
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--num_workers",
        type=elastic.count_or_range,
        metavar="N|MIN:MAX",
        help="workers to start on this host; 1 makes a cluster of one worker; required without "
        "--hosts; with --hosts the same on every host (default there: 1); MIN:MAX with "
        "--rendezvous: workers of the whole job",
    )
    parser.add_argument(
        "--num_ps",
        type=count_or_zero,
        default=0,
        metavar="M",
        help="parameter servers to start, with a chief, for asynchronous training "
        "(default: 0, synchronous training)",
    )
    parser.add_argument(
        "--num_data_workers",
        type=count_or_zero,
        default=0,
        metavar="N",
        help="processes to start that compute the input of the workers, for programs that call "
        "tfscale.data.served; not with --hosts or --num_ps (default: 0, each worker computes its "
        "own input)",
    )
    parser.add_argument(
        "--grace_seconds",
        type=seconds_or_zero,
        default=10.0,
        metavar="S",
        help="seconds between SIGTERM and SIGKILL when the job is ended (default: 10)",
    )
    restarts = parser.add_argument_group("restarts")
    restarts.add_argument(
        "--max_restarts",
        type=count_or_zero,
        metavar="R",
        help="restarts after failures; preemptions (status 42) are not counted; 0: restart "
        "preempted jobs only; three early ends in a row are not followed by a restart, see "
        "--early_seconds (default: never restart; with --rendezvous 3)",
    )
    restarts.add_argument(
        "--early_seconds",
        type=seconds_or_zero,
        default=_EARLY_SECONDS,
        metavar="S",
        help="an end within S seconds of the start is early, also by preemption; 0: no end is "
        "early (default: 20)",
    )
    restarts.add_argument(
        "--log_dir",
        metavar="DIR",
        help="also write the output of worker i to DIR/worker-<i>.attempt-<restart>.log, without "
        "the prefix; existing files are appended to",
    )
    hosts = parser.add_argument_group("several hosts")
    hosts.add_argument(
        "--hosts",
        metavar="HOST:PORT,...",
        help="all hosts of the job, in the same order everywhere",
    )
    hosts.add_argument(
        "--host_index",
        type=count_or_zero,
        metavar="I",
        help="this host's position in --hosts, from 0",
    )
    hosts.add_argument(
        "--start_seconds",
        type=seconds,
        metavar="S",
        help="seconds until the hosts' names must resolve (default: 300) and, passed to the "
        "workers as TFSCALE_START_SECONDS, until the cluster must be complete",
    )
    elastic.add_elastic_arguments(parser)
    add_engine_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs or submits the job and returns the exit status."""
    # Here: the modules behind it are not needed to print the help.
    from tfscale.launch.running import run_job

    return run_job(arguments)
