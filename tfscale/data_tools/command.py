"""The command `tfscale data`, whose first word is a tool.

A tool is a module with `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> int`, as a command
is. It imports TensorFlow, NumPy and `tfscale.data` only inside `run`, so that the help is fast.
"""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "pack, index, inspect, repair and convert files of examples; measure an input"

TOOLS = {
    "bench": "tfscale.data_tools.bench",
    "convert": "tfscale.data_tools.convert",
    "index": "tfscale.data_tools.index",
    "inspect": "tfscale.data_tools.inspect",
    "pack": "tfscale.data_tools.pack",
}

_DESCRIPTION = "Prepares files of examples for tfscale.data, and measures inputs."
_EPILOG = """\
examples:
  tfscale data index 'train-*.tfrecord'                one scan; tfscale.data.record_files needs it
  tfscale data pack pets packed                        any source in a few checksummed files
  tfscale data inspect packed                          what a packed set contains; is it intact
  tfscale data bench mine:pipeline                     which stage of an input is slow
  tfscale data index --help                            show the flags of a tool

exit status: 0 done, 1 a file is damaged, 2 wrong usage. Each tool's help says more.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tools of `tfscale data`, each with its flags."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    tools = parser.add_subparsers(title="tools", dest="tool", metavar="TOOL", required=True)
    for name, place in TOOLS.items():
        module = importlib.import_module(place)
        tool = tools.add_parser(
            name,
            help=module.SUMMARY,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(tool)
        tool.set_defaults(tool_run=module.run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the chosen tool. Returns the exit status."""
    status: int = arguments.tool_run(arguments)
    return status
