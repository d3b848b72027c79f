"""Runs the Python blocks of one page, in one namespace; started in the fresh environment.

Reads one JSON object a line from descriptor 0: `code`, `page` and `line`. Answers on the descriptor
given as its argument, one JSON object a line: `error`, a traceback or null. Needs nothing but the
standard library, since it is run where this repository is not importable.
"""

from __future__ import annotations

import json
import linecache
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Runs blocks until descriptor 0 ends."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    sys.path[0] = str(Path.cwd())  # as in a plain interpreter: the page's own files are importable
    names: dict[str, Any] = {"__name__": "__main__"}
    for request in requests:
        error = run(names=names, **json.loads(request))
        sys.stdout.flush()
        print(json.dumps({"error": error}), file=answers, flush=True)


def run(code: str, page: str, line: int, names: dict[str, Any]) -> str | None:
    """Runs one block; returns the traceback where it failed."""
    source = "\n" * (line - 1) + code  # line numbers of errors are those of the page
    linecache.cache[page] = (len(source), None, source.splitlines(keepends=True), page)
    try:
        exec(compile(source, page, "exec"), names)
    except SystemExit as end:
        return f"SystemExit: {end.code}" if end.code else None
    except BaseException:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    main()
