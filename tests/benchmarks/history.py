"""Whole runs of `make bench`, one JSON file each, with machine and versions.

A file is what `tfscale bench --json` prints, so `tfscale bench KIND --against=FILE` reads it too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tfscale.bench.against import read_earlier
from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome

FOLDER = Path(__file__).parent / "history"


def newest(
    kind: str, subject: str | None, machine: Machine, folder: Path | None = None
) -> Path | None:
    """Returns the newest run of a benchmark on a machine of the same kind, or None.

    Args:
        kind: As in `tfscale bench KIND`.
        subject: What was measured; None if a kind has only one subject.
        machine: This machine; a run on other processors says nothing about a change.
        folder: Where the runs are; None means FOLDER.
    """
    found = []
    for path in (folder or FOLDER).glob(f"*_{kind}_*.json"):
        outcome = read_earlier(path)
        is_same = outcome.kind == kind and subject in (None, outcome.subject)
        if is_same and outcome.machine.kind == machine.kind:
            found.append((outcome.machine.date, path))
    return max(found, default=(None, None))[1]


def keep(outcome: Outcome, folder: Path | None = None) -> Path:
    """Writes a run and returns its file."""
    folder = folder or FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / file_name(outcome)
    path.write_text(json.dumps(outcome.to_json()) + "\n", "utf-8")
    return path


def file_name(outcome: Outcome) -> str:
    """Returns the name of a run's file, such as `2026-11-29T021500_step_mlp.json`."""
    date = outcome.machine.date.partition("+")[0].replace(":", "")
    subject = re.sub(r"\W+", "-", outcome.subject).strip("-")
    return f"{date}_{outcome.kind}_{subject}.json"
