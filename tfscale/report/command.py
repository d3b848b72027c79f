"""`tfscale report`: one HTML page from what a run left in its folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tfscale.cli.arguments import add_json_flag
from tfscale.cli.errors import complain

SUMMARY = "write one HTML page from what a run left in its folder"

_DESCRIPTION = """\
Shows a run on one page that needs no network: results, curves, confusion of classes, timing,
environment, configuration. Reads run.json, which contains all of it. Without run.json it reads
whichever of these exist: summary.json, history.json or history.csv (Keras's CSVLogger), and
predictions.csv (columns label and prediction).
"""
_EPILOG = """\
examples:
  tfscale report runs/digits                           writes runs/digits/report.html
  tfscale report runs/digits --output digits.html
  tfscale report runs/digits --json                    the run and the path of the page, as JSON

exit status: 0 written, 2 wrong usage, nothing to read, or the page cannot be written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale report`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "run_dir", metavar="RUN_DIR", type=Path, help="folder that a run wrote to (--model_dir)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write the page: a new file, an earlier page, or a device such as "
        "/dev/stdout (default: RUN_DIR/report.html)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from tfscale.report.directory import read_directory
    from tfscale.report.json import to_json
    from tfscale.report.page import REPORT_FILE, refuse_other_files, write_report

    output: Path = arguments.output or arguments.run_dir / REPORT_FILE
    try:
        record = read_directory(arguments.run_dir)
        refuse_other_files(output)
        write_report(record, output)
    except (ValueError, OSError) as error:
        complain("tfscale report", error)
        return 2
    if arguments.json:
        print(json.dumps({"report": str(output), "run": json.loads(to_json(record))}, indent=1))
    elif output.parts[:2] != ("/", "dev"):  # /dev/stdout gets the page and nothing else
        print(f"report: {output}")
    return 0
