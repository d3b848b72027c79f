"""Reads the folder of a run as a `RunRecord`.

| file | content |
|---|---|
| `run.json` | everything (`json`); the other files are not read |
| `summary.json` | results and `*_seconds` as numbers, `flags`, `history`, `confusion` |
| `history.json` | metrics by epoch, if the summary has none |
| `history.csv` | the same, as Keras's `CSVLogger` writes it |
| `predictions.csv` | one line per example, with the columns `label` and `prediction` |
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from tfscale.report.json import RUN_FILE, read_run
from tfscale.report.reading import read_object, read_text
from tfscale.report.record import Confusion, RunRecord, Timing
from tfscale.report.values import shown

SUMMARY_FILE = "summary.json"
HISTORY_FILES = ("history.json", "history.csv")
PREDICTIONS_FILE = "predictions.csv"

MOST_CLASSES = 3000
"""With more classes confusions are not counted: the matrix grows with their square."""

_TIMES = ("total_seconds", "training_seconds", "startup_seconds")


def read_directory(folder: Path) -> RunRecord:
    """Reads the folder of a run.

    Args:
        folder: A folder with at least one of the files above.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is not a folder, has none of the files, or one of them is broken.
    """
    if not folder.is_dir():
        raise ValueError(
            f"`RUN_DIR` must be a folder. Received: RUN_DIR={str(folder)!r}. Give the folder that "
            "a run wrote to, the recipes' --model_dir."
        )
    present = record_files(folder)
    if RUN_FILE in present:
        return read_run(folder / RUN_FILE)
    if not present:
        wanted = ", ".join((RUN_FILE, SUMMARY_FILE, *HISTORY_FILES, PREDICTIONS_FILE))
        raise ValueError(
            f"`RUN_DIR` must contain one of {wanted}, or files of Monitor. Received: "
            f"RUN_DIR={str(folder)!r}. Train again, or give another folder."
        )
    summary = _object(folder / SUMMARY_FILE) if SUMMARY_FILE in present else {}
    try:
        return _record(folder, present, summary)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"`RUN_DIR` must contain files as a run writes them. Received: {', '.join(present)} in "
            f"{str(folder)!r} ({type(error).__name__}: {error}). Train again."
        ) from error


def record_files(folder: Path) -> list[str]:
    """Returns the names of the files that a record can be read from."""
    names = (RUN_FILE, SUMMARY_FILE, *HISTORY_FILES, PREDICTIONS_FILE)
    return [name for name in names if (folder / name).exists()]


def _record(folder: Path, present: list[str], summary: dict[str, Any]) -> RunRecord:
    history, first_epoch = summary.get("history", {}), 1
    sources = [name for name in present if name in HISTORY_FILES]
    if not history and sources:
        path = folder / sources[0]
        history, first_epoch = _csv_history(path) if path.suffix == ".csv" else (_object(path), 1)
    notes = [f"Read from {', '.join(present)}: this run left no {RUN_FILE}."]
    confusion = Confusion(**summary["confusion"]) if summary.get("confusion") else None
    if confusion is None and PREDICTIONS_FILE in present:
        confusion = _confusion(folder / PREDICTIONS_FILE)
        if confusion is None:
            notes.append(f"Confusions of more than {MOST_CLASSES:,} classes are not counted.")
    flags = summary.get("flags", {})
    results = {
        name: value
        for name, value in summary.items()
        if type(value) in (int, float) and name not in _TIMES
    }
    times = {name: summary[name] for name in _TIMES if name in summary}
    return RunRecord(
        title=str(flags.get("dataset") or folder.resolve().name),
        results=results,
        configuration=flags,
        timing=Timing(**times),
        history=history,
        first_epoch=first_epoch,
        confusion=confusion,
        notes=notes,
    )


def _object(path: Path) -> dict[str, Any]:
    return read_object(read_text(path), name=path.name)


def _csv_history(path: Path) -> tuple[dict[str, list[float | None]], int]:
    """Returns metrics by name, and the number of the first epoch: `CSVLogger` counts from 0."""
    rows = _rows(path, "epoch")
    history: dict[str, list[float | None]] = {}
    for line, row in enumerate(rows, start=2):
        for name, text in row.items():
            if name != "epoch":
                history.setdefault(name, []).append(_csv_number(path, line, text))
    epochs = [row["epoch"] for row in rows]
    first = int(epochs[0]) if epochs[0].isdecimal() else -1
    if epochs != [str(first + offset) for offset in range(len(epochs))]:
        raise ValueError(
            f"`{path.name}` must contain consecutive epochs. Received: "
            f"epoch={shown(epochs)}. Keep the lines of one run."
        )
    return history, first + 1


def _csv_number(path: Path, line: int, text: str) -> float | None:
    if text in ("", "NA"):
        return None  # CSVLogger writes NA for an epoch without validation.
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"`{path.name}` must contain numbers. Received: {shown(text)} in line {line}. Train "
            "again, or remove the file."
        ) from error


def _confusion(path: Path) -> Confusion | None:
    rows = _rows(path, "label", "prediction")
    names = {row[column] for row in rows for column in ("label", "prediction")}
    if len(names) > MOST_CLASSES:
        return None
    labels = sorted(names, key=_by_number)
    index = {label: position for position, label in enumerate(labels)}
    return Confusion.of(
        labels, [index[r["label"]] for r in rows], [index[r["prediction"]] for r in rows]
    )


def _by_number(label: str) -> tuple[float, str]:
    return (int(label), label) if label.isdecimal() else (math.inf, label)


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", restkey="")
    try:
        rows = list(reader)
        columns_there = list(reader.fieldnames or ())
    except csv.Error as error:
        raise ValueError(
            f"`{path.name}` must be CSV. Received: {error}. Train again, or remove the file."
        ) from error
    missing = [name for name in columns if name not in columns_there]
    if missing or not rows:
        raise ValueError(
            f"`{path.name}` must have the columns {', '.join(columns)}, and a line below their "
            f"names. Received: columns {shown(columns_there)}, {len(rows)} lines. Train again, or "
            "remove the file."
        )
    return rows
