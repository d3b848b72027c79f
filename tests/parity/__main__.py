"""The sweep behind `make parity`.

python -m tests.parity --seed=7 --cases=40 --sharded=100 --parallel=100 --stock
python -m tests.parity --disable=S4       without the fix of S4: status 1, because a case fails
python -m tests.parity --disable=all      without each fix in turn: 0 if a case fails each time
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.parity.configuration import SHARDED
from tests.parity.drawing import draw
from tests.parity.drawing_parallel import draw_parallel
from tests.parity.report import mismatches, stock_crashes, table
from tests.parity.trial import try_cases


def main() -> int:
    """Returns 0 if everything matched."""
    arguments = _parse()
    started = time.monotonic()
    if arguments.disable:
        return _disable(arguments)
    strategies = [name for name in arguments.strategies.split(",") if name]
    if arguments.workers:
        strategies.append(f"workers{arguments.workers}")
    seed, kinds = arguments.seed, arguments.kinds
    drawn = draw(seed, arguments.cases, strategies, kinds)
    drawn += draw(seed, arguments.sharded, SHARDED, kinds)
    drawn += draw_parallel(seed, arguments.parallel)
    cases = [str(configuration) for configuration in drawn]
    total = len(cases)
    print(f"parity: {total} cases, seed {seed}", flush=True)
    runs = 0

    def progress(line: str) -> None:
        nonlocal runs
        runs += 1
        print(f"[{time.monotonic() - started:6.0f} s, run {runs}] {line}", flush=True)

    results = try_cases(
        cases,
        jobs=arguments.jobs,
        stock=arguments.stock,
        case_seconds=arguments.case_seconds,
        on_progress=progress,
    )
    print(table(results))
    print(mismatches(results))
    print(stock_crashes(results), end="\n" if arguments.stock else "")
    wrong = sum(result.verdict.kind != "matched" for result in results)
    print(f"parity: {total - wrong} of {total} matched in {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _disable(arguments: argparse.Namespace) -> int:
    """Without one fix, 1 if a case fails. Without each in turn, 1 if no case fails without one."""
    from tests.parity import disabling  # imports TensorFlow, which a sweep does not need

    if arguments.disable == "all":
        return 1 if disabling.disable_each(disabling.ALL, arguments.jobs) else 0
    rows = arguments.disable.split(",")
    return 1 if disabling.disable_each(rows, arguments.jobs) != rows else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.parity")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sweep")
    parser.add_argument("--cases", type=int, default=40, help="configurations to draw")
    parser.add_argument(
        "--sharded",
        type=int,
        default=0,
        help="configurations to draw besides, for strategies with shard=1, 2 and 3",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        default=0,
        help="configurations to draw besides, of pipelines and tensor parallelism",
    )
    parser.add_argument(
        "--kinds",
        default="all",
        help="models of --cases and --sharded: all, ordinary, new, or names separated by commas",
    )
    parser.add_argument("--jobs", type=int, default=2, help="child processes at a time")
    parser.add_argument(
        "--strategies",
        default="mirrored1,mirrored2,mirrored3,mirrored4",
        help="names of strategies for --cases, separated by commas",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="workers of the cluster; 0 for no cluster"
    )
    parser.add_argument("--case_seconds", type=float, default=120.0, help="deadline of a case")
    parser.add_argument(
        "--stock", action="store_true", help="also train under TensorFlow's strategies"
    )
    parser.add_argument(
        "--disable",
        default="",
        help="defects whose fixes are left out one by one, such as S4,C2, or 'all'",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
