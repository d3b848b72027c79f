"""The program behind `make defects`.

python -m tests.defects
python -m tests.defects --rows=S1,S4
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.defects.catalogue import ALL_ROWS, rows_named
from tests.defects.table import line_of, updated
from tests.defects.trial import try_rows
from tests.defects.verdict import NOT_FIXED
from tests.programs import ROOT
from tests.tables import versions, write

TABLE = ROOT / "docs" / "concepts" / "defects.md"


def main() -> int:
    """Returns 0 if every row is fixed or refused, 1 if one is not, 2 for a wrong flag."""
    parser = argparse.ArgumentParser(prog="python -m tests.defects")
    parser.add_argument("--rows", default="", help="defects to run, such as S1,S4 (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="child processes at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="deadline of a row")
    parser.add_argument(
        "--table",
        type=Path,
        default=TABLE,
        help="document whose table is replaced (default: docs/concepts/defects.md)",
    )
    arguments = parser.parse_args()
    try:
        rows = rows_named(arguments.rows)
    except ValueError as error:
        parser.error(str(error))
    started = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    results = try_rows(rows, jobs=arguments.jobs, seconds=arguments.seconds, on_progress=progress)
    lines = [line_of(result) for result in results]
    print("\n".join(lines))
    text = arguments.table.read_text("utf-8")
    write(arguments.table, updated(text, f"{versions()}.", lines, is_whole=rows == ALL_ROWS))
    failed = [result.row.name for result in results if result.status == NOT_FIXED]
    seconds = time.monotonic() - started
    print(
        f"defects: {len(rows)} cases in {seconds:.0f} s; not fixed: {', '.join(failed) or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
