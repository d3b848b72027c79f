"""The program behind `make keras-history`.

python -m tests.upstream_history
python -m tests.upstream_history --library tensorflow
python -m tests.upstream_history --compare 3.15 nightly

Counts in which releases each symbol changed that tfscale replaces or uses, and writes the tables of
docs/concepts/keras_versions.md. It downloads one wheel of every minor release: 25 MB of Keras, or
2 GB of TensorFlow. With --compare it writes nothing: it prints how the symbols that changed between
two releases differ, and their fingerprints.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from tests.programs import ROOT
from tests.tables import write
from tests.upstream_history.changes import comparison, history
from tests.upstream_history.table import table, updated
from tests.upstream_history.wheels import KERAS, TENSORFLOW, Library, Wheel, wheels

PAGE = ROOT / "docs" / "concepts" / "keras_versions.md"
_LIBRARIES = {library.package: library for library in (KERAS, TENSORFLOW)}
_SYMBOLS = (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.upstream_history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--library", choices=_LIBRARIES, default="keras", help="whose symbols (default: keras)"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="releases by minor, such as 3.15; nightly is the newest keras-nightly, "
        "rc the newest release candidate of TensorFlow",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / "build" / "upstream_history",
        help="the folder that keeps the wheels (default: build/upstream_history)",
    )
    arguments = parser.parse_args()
    library, downloaded = _LIBRARIES[arguments.library], []
    for wheel in wheels(library, arguments.cache / library.released):
        print(f"{library.released} {wheel.version}", file=sys.stderr, flush=True)
        downloaded.append(wheel)
    if arguments.compare:
        _compare(library, downloaded, *arguments.compare)
    else:
        _count(library, downloaded)


def _compare(library: Library, downloaded: Sequence[Wheel], old: str, new: str) -> None:
    releases = {wheel.name: wheel.release() for wheel in downloaded}
    if not {old, new} <= releases.keys():
        raise SystemExit(
            f"`--compare` must name two of {', '.join(releases)}. Received: {old} {new}."
        )
    for target in _uses(library):
        difference = comparison(target, releases[old], releases[new])
        if difference:
            print(f"{difference}\n")


def _count(library: Library, downloaded: Sequence[Wheel]) -> None:
    releases = [wheel.release() for wheel in downloaded]
    uses = _uses(library)
    histories = []
    for target in uses:
        histories.append(history(target, releases))
        print(f"{target}: {len(histories[-1].changed)} changes", file=sys.stderr, flush=True)
    versions = f"{library.package} {', '.join(wheel.version for wheel in downloaded)}."
    page = updated(
        PAGE.read_text("utf-8"), f"{library.package}-history", versions, table(histories, uses)
    )
    write(PAGE, page)
    print(f"Written to {PAGE.relative_to(ROOT)}.")


def _uses(library: Library) -> dict[str, str]:
    """Returns how each symbol of a library is used; `()` if only its arguments matter."""
    rows = [(each.target, each.accepted, "used") for each in _SYMBOLS]
    rows += [(each.target, tuple(each.accepted), "replaced") for each in PATCHES]
    return {
        target: f"{use} ()" if any(each.startswith("()") for each in accepted) else use
        for target, accepted, use in rows
        if re.match(rf"{library.package}[.:]", target)
    }


if __name__ == "__main__":
    main()
