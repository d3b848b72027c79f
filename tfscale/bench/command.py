"""`tfscale bench`: measures training side by side with its peers and its physical limit.

A kind of benchmark is a module with `SUMMARY`, `add_arguments(parser)` and
`run(arguments, say) -> Outcome`. `run` raises ValueError for wrong usage and `Failed` if a
measurement fails. A module whose subject depends on flags has `subject(arguments)` too. What is
printed, and the flags for it, are in `output`.
"""

from __future__ import annotations

import argparse
import importlib

from tfscale.bench.output import add_output_arguments, measured_and_printed

SUMMARY = "time training side by side with its peers and its limit"
KINDS = {
    "step": "tfscale.bench.step",
    "scaling": "tfscale.bench.scaling",
    "all_reduce": "tfscale.bench.all_reduce",
    "startup": "tfscale.bench.startup",
    "memory": "tfscale.bench.memory",
}
DEFAULT_KIND = "step"

_DESCRIPTION = """\
Measures variants side by side in one run. Each variant has warmed-up processes, and the variants
take turns, so that load on the machine slows all of them equally. Medians and ratios exclude the
first round. Ratios are computed per round. Run nothing else at the same time; the load average
before and after is printed above the table. Every kind can print JSON (--json), write a page with
pictures (--html) and compare with an earlier run (--against).
"""
_EPILOG = """\
examples:
  tfscale bench                                        time a step of the built-in model mlp
  tfscale bench mine:build --steps=100                 of your model; step is the default kind
  tfscale bench step --json > before.json              keep a run, and compare the next one with it
  tfscale bench step --against=before.json
  tfscale bench scaling --html=scaling.html            a page with the cost law and its pictures
  tfscale bench step --help                            show the flags of a kind

exit status: 0 measured (goals are informational), 1 a measurement failed, 2 wrong usage.
"""


def expanded(arguments: list[str]) -> list[str]:
    """Returns the command line after `bench` with the kind, which may be left out.

    Example:
        >>> expanded(["mine:build", "--json"])
        ['step', 'mine:build', '--json']
    """
    first = arguments[0] if arguments else ""
    is_of_default = not first or ":" in first or first.startswith("-")
    if is_of_default and first not in ("-h", "--help"):
        return [DEFAULT_KIND, *arguments]
    return arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the kinds of benchmarks, each with its flags."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    kinds = parser.add_subparsers(title="kinds", dest="kind", metavar="KIND")
    for name, path in KINDS.items():
        module = importlib.import_module(path)
        of_kind = kinds.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(of_kind)
        add_output_arguments(of_kind)


def run(arguments: argparse.Namespace) -> int:
    """Runs the chosen benchmark and prints its outcome. Returns the exit status."""
    module = importlib.import_module(KINDS[arguments.kind])
    return measured_and_printed(
        "tfscale bench",
        module.run,
        arguments,
        kind=arguments.kind,
        subject=getattr(module, "subject", None),
    )
