"""The `tfscale` command.

    tfscale --help
    tfscale launch --num_workers=2 -- python train.py

Ctrl-C ends it with status 130 and without a traceback, also while it is imported. So nothing is
imported before `main` runs; the command itself is tfscale/cli/program.py.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # that of `typing`, whose import takes longer than this module
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name. None means `sys.argv[1:]`.

    Returns:
        The exit status; 130 after Ctrl-C.

    Raises:
        SystemExit: After help, a version or wrong usage, as argparse does.
    """
    try:
        from tfscale.cli import program

        return program.main(argv)
    except KeyboardInterrupt:
        return 130  # program.INTERRUPTED, which may not have been imported


if __name__ == "__main__":
    sys.exit(main())
