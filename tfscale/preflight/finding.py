"""What a preflight found: one thing to change or to look at, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FAILS, WARNS = "fails", "warns"


@dataclass(frozen=True)
class Place:
    """A line of the user's own code.

    Attributes:
        file: Its path.
        line: From 1.
        layer: The Keras layer that stands there, or "".
    """

    file: str
    line: int
    layer: str = ""

    def __str__(self) -> str:
        """The place as an editor takes it, relative to the current directory if it lies there."""
        path = Path(self.file)
        here = Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        return f"{shown}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        severity: `FAILS`: the step does not compile or cannot be cut. `WARNS`: it compiles, and
            is slower, less exact or done elsewhere.
        kind: A short name, the same for findings of one sort: "operation", "batch".
        text: What it is, half a sentence.
        cure: What to change, a sentence.
        place: Where, or None where no line of the user's own is to blame.
    """

    severity: str
    kind: str
    text: str
    cure: str
    place: Place | None = None
