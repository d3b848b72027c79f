"""`tfscale report`: one HTML page from what a run left in its folder, or from several runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfscale.cli.arguments import add_json_flag
from tfscale.cli.errors import complain

if TYPE_CHECKING:
    from tfscale.report.runs import Run

SUMMARY = "write one HTML page from what a run left in its folder, or several runs side by side"
SEVERAL_FILE = "runs.html"

_DESCRIPTION = """\
Shows a run on one page that needs no network: results, curves, confusion of classes, timing,
environment, configuration. Reads run.json, which contains all of it. Without run.json it reads
whichever of these exist: summary.json, history.json or history.csv (Keras's CSVLogger), and
predictions.csv (columns label and prediction). Files of tfscale.callbacks.Monitor, in the folder or
up to three levels below it, add where the time went, stragglers, restarts and resources.

Of several folders it shows the runs side by side: results, flags that differ, curves.
"""
_EPILOG = """\
examples:
  tfscale report runs/digits                           writes runs/digits/report.html
  tfscale report runs/digits --output digits.html
  tfscale report runs/digits --json                    the run and the path of the page, as JSON
  tfscale report runs/*/ --output all.html             several runs side by side

exit status: 0 written, 2 wrong usage, nothing to read, or the page cannot be written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale report`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "run_dirs",
        metavar="RUN_DIR",
        nargs="+",
        type=_folder,
        help="folder that a run wrote to (--model_dir); several are put side by side",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write the page: a new file, an earlier page, or a device such as "
        f"/dev/stdout (default: RUN_DIR/report.html; of several runs {SEVERAL_FILE} in the "
        "current folder)",
    )
    add_json_flag(parser)


def _folder(text: str) -> Path:
    if not text:  # a path would be the current folder; a shell variable was not set
        raise argparse.ArgumentTypeError("must name a folder. Received: ''. Write . for this one")
    return Path(text)


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from tfscale.files.output_files import write_whole
    from tfscale.report.page import REPORT_FILE, refuse_other_files, render
    from tfscale.report.runs import read_runs
    from tfscale.report.runs_page import runs_page

    folders: list[Path] = arguments.run_dirs
    default = folders[0] / REPORT_FILE if len(folders) == 1 else Path(SEVERAL_FILE)
    output: Path = arguments.output or default
    try:
        runs = read_runs(folders)
        refuse_other_files(output)
        first, *others = runs
        page = runs_page(runs) if others else render(first.record, first.monitors)
        write_whole(output, page)
    except (ValueError, OSError) as error:
        complain("tfscale report", error)
        return 2
    if arguments.json:
        print(json.dumps({"report": str(output), **_values(runs)}, indent=1))
    elif output.parts[:2] != ("/", "dev"):  # /dev/stdout gets the page and nothing else
        print(f"report: {output}")
    return 0


def _values(runs: list[Run]) -> dict[str, Any]:
    """Returns what --json prints of one run, or of several."""
    from tfscale.report.json import to_json
    from tfscale.report.monitor_page import monitor_json
    from tfscale.report.runs_page import runs_json

    first, *others = runs
    if others:
        return {"runs": runs_json(runs)}
    monitors = [monitor_json(each) for each in first.monitors]
    return {"run": json.loads(to_json(first.record)), "monitor": monitors}
