"""The program behind `make docs-test`.

python -m tests.docs
python -m tests.docs README.md docs/tutorial.md --programs=.venv/bin
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.docs.blocks import blocks_of, pages
from tests.docs.environment import fresh_environment
from tests.docs.runner import grouped, run_page


def main() -> int:
    """Returns 0 where every block ran, 1 where one failed, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs")
    parser.add_argument("page", nargs="*", help="pages to run (default: README.md and docs/)")
    parser.add_argument("--jobs", type=int, default=2, help="pages at a time (default: 2)")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="deadline of a block (default: 120)"
    )
    parser.add_argument(
        "--programs",
        type=Path,
        help="run with the `python` and `tfscale` of this folder, as they are, instead of a fresh "
        "environment",
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    chosen = pages(arguments.page)
    if missing := [str(page) for page in chosen if not page.is_file()]:
        parser.error(f"no such page: {missing[0]}")
    blocks = [block for page in chosen for block in blocks_of(page)]
    if problems := [f"{b.page}:{b.line}: {b.problem()}" for b in blocks if b.problem()]:
        print("\n".join(problems))
        return 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        programs = arguments.programs
        if programs is None:
            programs = fresh_environment(Path(temporary) / "fresh")
            print(f"docs: made an environment in {time.monotonic() - started:.0f} s", flush=True)
        run = functools.partial(run_page, programs=programs.absolute(), seconds=arguments.seconds)
        failed = ran = 0
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for outcomes in pool.map(run, grouped(blocks)):
                ran += len(outcomes)
                seconds = sum(outcome.seconds for outcome in outcomes)
                print(f"{outcomes[0].block.page}: {len(outcomes)} blocks, {seconds:.0f} s")
                for outcome in outcomes:
                    if outcome.error is not None:
                        failed += 1
                        print(f"{outcome.block.page}:{outcome.block.line} FAILED\n{outcome.error}")
                sys.stdout.flush()
    marked = sum(block.reason is not None for block in blocks)
    print(
        f"docs: {ran} blocks ran in {time.monotonic() - started:.0f} s, {failed} failed; "
        f"{marked} are marked as not run"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
