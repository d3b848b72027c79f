"""How a recipe starts and ends: it parses flags, and reports an error in one line.

    entry_point.define(__doc__)
    entry_point.run(main)

Exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import tensorflow as tf
from absl import app, flags, logging

from recipes import flag_sections
from tfscale.cli import complain, complain_of_output, finish_output, is_of_output

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# absl parses this flag itself and does not list it.
_FLAGFILE = """
  --flagfile=FILE
      Take more flags from a file, one per line, at this position of the command
      line. If a flag is set twice, the last value counts.\
"""
_AGAIN_SECONDS = 0.05
_OWN_PACKAGES = ("strategies", "tfscale", "recipes", "__main__")


def define(synopsis: str) -> None:
    """Defines the flags of every program, once: a recipe that runs another one has its own.

    Args:
        synopsis: What the program is for and how it is started, for `--help`.
    """
    if "traceback" in flags.FLAGS:
        return
    app.define_help_flags()
    # absl's --help shows only the flags of the main module, and exits with 1.
    flags.DEFINE_flag(_Help(synopsis))
    flags.FLAGS[
        "verbosity"
    ].help = (
        "Log lines of the libraries to show: -2 errors, -1 warnings, 0 information, 1 debugging."
    )
    with flag_sections.section("this program", "verbosity", "help"):
        flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the command line, runs `main`, and exits.

    An error that this project's code raises on purpose ends the program with one line. Any other
    error is unexpected: it keeps its traceback and ends with status 1.

    Args:
        main: Takes the arguments that are not flags, the program's name first.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            stray = " ".join(arguments[1:])
            _end(WRONG_USAGE, f"Unknown arguments: {stray}. Flags start with two dashes.")
        try:
            main(arguments)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _end(INTERRUPTED, "Interrupted.")
        except Exception as error:
            status = _status(error)
            if status is None or flags.FLAGS.traceback:
                raise
            _end(status, error)

    sys.unraisablehook = _unraisable
    app.run(guarded, flags_parser=_parse)


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Sends Ctrl-C again that came while Python deleted an object, where it drops every error."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


class _Help(flags.BooleanFlag):
    """`--help`: the flags of this program, without those of the libraries."""

    def __init__(self, synopsis: str) -> None:
        super().__init__(
            "help",
            False,
            "Show this page. --helpfull adds the flags of the libraries.",
            short_name="?",
            allow_override=True,
        )
        self._synopsis = synopsis

    def parse(self, arg: str) -> None:
        if self._parse(arg):
            try:
                print(flag_sections.help_text(self._synopsis) + _FLAGFILE, flush=True)
            except OSError as error:
                complain_of_output(Path(sys.argv[0]).name, error)
                sys.exit(FAILED)
            sys.exit(0)


def _parse(arguments: Sequence[str]) -> list[str]:
    for argument in arguments:
        if argument.encode("utf-8", "replace").decode("utf-8") != argument:
            _end(
                WRONG_USAGE,
                f"Arguments must be UTF-8. Received: {argument!r}. Rename the file or folder.",
            )
    try:
        rest = list(flags.FLAGS(arguments))
    except flags.Error as error:
        _end(WRONG_USAGE, f"{str(error).rstrip('.')}. See --help.")
    except UnicodeDecodeError as error:
        _end(
            WRONG_USAGE,
            "`--flagfile` must be a text in UTF-8, one flag per line. Received: a file with "
            f"byte {error.object[error.start]:#04x} in it. Choose another file.",
        )
    # The default of absl is INFO, at which TFDS logs every file it opens and TensorFlow every
    # collective it builds.
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING
    # TensorFlow's logger has a separate level and handler: its lines would appear twice.
    tf.get_logger().handlers.clear()
    tf.get_logger().setLevel("NOTSET")
    return rest


def _status(error: Exception) -> int | None:
    """Returns the exit status of an expected error, or None for any other."""
    if isinstance(error, OSError):
        return FAILED  # A disk, a network or a deadline: the message says it all.
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if frame.f_globals.get("__name__", "").partition(".")[0] not in _OWN_PACKAGES:
        return None
    if isinstance(error, (ValueError, NotImplementedError)):
        return WRONG_USAGE
    return FAILED if isinstance(error, (RuntimeError, ImportError)) else None


def _end(status: int, problem: str | Exception) -> NoReturn:
    program = Path(sys.argv[0]).name
    if isinstance(problem, OSError) and is_of_output(problem):
        complain_of_output(program, problem)
    elif finish_output(program):  # otherwise it has reported the failure
        complain(program, problem)
    sys.exit(status)
