"""The `tfscale` command: its parser, and how a command is run.

Exit status: 0 for success, 1 if the check or the run failed, 2 for wrong usage, which is reported
in one line on standard error. A command is a module with `SUMMARY`, `add_arguments(parser)` and
`run(arguments) -> int`. A command that runs a program after `--` sets `TAKES_COMMAND = True` and
finds the program in `arguments.command`. A command whose arguments may be partly left out, or be
in a file, has a function `expanded(arguments)` that puts them in; at the end it may also put `--`
and a program. One whose epilog takes imports has a function `epilog()`. Modules import TensorFlow,
Keras and NumPy only inside `run`, so that `tfscale --help` is fast.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from tfscale.cli.errors import complain, complain_of_output, finish_output, is_of_output

INTERRUPTED = 130
"""128 + SIGINT, as a shell shows it."""
COMMANDS = {
    "doctor": "tfscale.doctor.command",
    "launch": "tfscale.launch.command",
    "jobs": "tfscale.jobs.command",
    "plan": "tfscale.plan.command",
    "preflight": "tfscale.preflight.command",
    "report": "tfscale.report.command",
    "profile": "tfscale.profile.command",
    "find": "tfscale.find.command",
    "sweep": "tfscale.sweep.command",
    "verify": "tfscale.verify.command",
    "explain": "tfscale.explain.command",
    "export": "tfscale.shrink.exporting.command",
    "bench": "tfscale.bench.command",
    "data": "tfscale.data_tools.command",
}

_EPILOG = """\
examples:
  tfscale bench --model=mlp                            time a training step of each strategy
  tfscale data index 'train-*.tfrecord'                give TFRecord files random access
  tfscale doctor                                       check versions, devices and the cluster
  tfscale launch --num_workers=2 -- python train.py    run two workers of one job on this host
  tfscale explain runs/digits rows.npz                 show which pixels a class comes from
  tfscale export runs/digits --format=litert           write a file for LiteRT and compare it
  tfscale find mine:build --batch_size=64              find the learning rate of your model
  tfscale jobs list                                    show the jobs that were submitted
  tfscale plan mine:build --replicas=8                 compute the memory of each device
  tfscale preflight mine:build --target=v5e:2x2        find what a TPU would reject; needs no TPU
  tfscale profile mine:build --replicas=2              record training steps for Perfetto
  tfscale report runs/digits                           write one HTML page about a run
  tfscale sweep --help                                 find the best flags of a training command
  tfscale verify mine:build --num_replicas=2           compare your model with one device
  tfscale launch --help                                show the flags of a command

exit status: 0 success, 1 the check or the run failed, 2 wrong usage.
"""


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line.

    Attributes:
        write_epilog: Returns the epilog, where that takes imports; called for the help only.
    """

    write_epilog: Callable[[], str] | None = None

    def error(self, message: str) -> NoReturn:
        sentence = message if message.endswith(".") else f"{message}."
        complain(self.prog, f"{sentence} See `{self.prog} --help`.")
        self.exit(2)

    def format_help(self) -> str:
        """Returns the help."""
        if self.write_epilog is not None:
            self.epilog = self.write_epilog()
        return super().format_help()

    def print_help(self, file: Any = None) -> None:
        """Prints the help. Unlike argparse's method, this reports an unwritable standard output."""
        print(self.format_help(), end="", file=file)


class _Version(argparse.Action):
    """Prints the version and exits. The version is looked up only when this flag is used."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("tfscale")
        except metadata.PackageNotFoundError:
            version = "(source checkout, not installed)"
        print(f"tfscale {version}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name. None means `sys.argv[1:]`.

    Returns:
        The exit status.

    Raises:
        SystemExit: After help, a version or wrong usage, as argparse does.
    """
    own = list(sys.argv[1:] if argv is None else argv)
    program = " ".join(["tfscale", *own[:1]]) if own and own[0] in COMMANDS else "tfscale"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # print paths that are not UTF-8 unchanged
    try:
        status = _run(own)
    except KeyboardInterrupt:  # also while a command is imported
        status = INTERRUPTED
    except SystemExit:
        if not finish_output(program):
            sys.exit(2)
        raise
    except OSError as error:
        if is_of_output(error):
            complain_of_output(program, error)
        else:
            complain(program, error)
        return 2
    return status if finish_output(program) else 2


def _run(own: list[str]) -> int:
    own, behind = _split(own)

    parser = _Parser(
        prog="tfscale",
        description="Train Keras 3 models correctly under tf.distribute strategies.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", dest="name", metavar="COMMAND")
    # Without a known command, all modules are imported for their summaries.
    names = [own[0]] if own and own[0] in COMMANDS else list(COMMANDS)
    modules = {name: importlib.import_module(COMMANDS[name]) for name in names}
    parsers = {name: _add_command(commands, name, modules[name]) for name in names}
    if len(names) == 1 and hasattr(modules[names[0]], "expanded"):
        try:
            own = [own[0], *modules[names[0]].expanded(own[1:])]
        except ValueError as error:
            parsers[names[0]].error(str(error))
        own, of_file = _split(own)
        behind = behind or of_file

    arguments, unknown = parser.parse_known_args(own)
    if arguments.name is None:
        parser.error(f"a command is required: {', '.join(COMMANDS)}")
    module, chosen = modules[arguments.name], parsers[arguments.name]
    if getattr(module, "TAKES_COMMAND", False):
        if not behind:
            chosen.error(f"`--` followed by a command is required: {chosen.usage}")
        arguments.command, behind = behind, None
    if unknown or behind is not None:
        chosen.error(f"unknown arguments: {' '.join([*unknown, *(behind or [])])}")
    status: int = module.run(arguments)
    return status


def _split(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Returns the arguments before `--`, and those behind it; None without it.

    argparse itself differs between Python 3.11 and 3.13 in what it does with `--`.
    """
    if "--" not in arguments:
        return arguments, None
    position = arguments.index("--")
    return arguments[:position], arguments[position + 1 :]


def _add_command(commands: Any, name: str, module: ModuleType) -> _Parser:
    parser: _Parser = commands.add_parser(
        name,
        help=module.SUMMARY,
        description=module.SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.write_epilog = getattr(module, "epilog", None)
    return parser
