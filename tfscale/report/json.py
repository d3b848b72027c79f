"""`run.json`: a `RunRecord` in a file, for programs and for `tfscale report`.

    write_run(run, Path("runs/digits/run.json"))
    run = read_run(Path("runs/digits/run.json"))

One JSON object: `"version": 1` and the fields of `RunRecord` under their names. JSON has no NaN and
no infinity: in `results`, `history` and `curves` they are the strings "nan", "inf" and "-inf",
which Python's float() reads.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfscale.files.output_files import write_whole
from tfscale.report.reading import read_object, read_text
from tfscale.report.record import Confusion, Curve, RunRecord, Timing
from tfscale.report.stages import stages_from
from tfscale.report.values import shown

VERSION = 1
RUN_FILE = "run.json"

_MOST_CLASSES_INDENTED = 100


def to_json(run: RunRecord) -> str:
    """Returns the text of `run.json`: strict JSON with a newline at the end.

    It is indented for readers, except where a confusion matrix has more than 100 classes: indented,
    a large one would have millions of lines.
    """
    values = {"version": VERSION, **dataclasses.asdict(run)}
    is_small = run.confusion is None or len(run.confusion.labels) <= _MOST_CLASSES_INDENTED
    layout: dict[str, Any] = {"indent": 1} if is_small else {"separators": (",", ":")}
    return json.dumps(_finite(values), **layout, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> RunRecord:
    """Reads what `to_json` wrote; missing fields take their defaults.

    Args:
        text: The text of a `run.json`.

    Raises:
        ValueError: If it is not JSON, has another version, or has a field that a record refuses.

    Example:
        >>> from_json('{"version": 1, "title": "digits", "results": {"loss": "nan"}}').results
        {'loss': nan}
    """
    values = read_object(text, name=RUN_FILE)
    version = values.pop("version", None)
    if version != VERSION:
        raise ValueError(
            f"`version` of {RUN_FILE} must be {VERSION}. Received: version={shown(version)}. "
            "Install the tfscale that wrote it: pip install --upgrade tfscale."
        )
    names = [field.name for field in dataclasses.fields(RunRecord)]
    unknown = sorted(set(values) - set(names))
    if unknown or "title" not in values:
        raise ValueError(
            f"`{RUN_FILE}` must have a title and only these fields: {', '.join(names)}. Received: "
            f"{shown(sorted(values)) if values else 'no field'}. Put other values into "
            "configuration or notes."
        )
    try:
        return _record(values)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"`{RUN_FILE}` must be a run as `write_run` writes it. Received: {error}. Train "
            "again, or remove the file."
        ) from error


def write_run(run: RunRecord, path: Path) -> None:
    """Writes `run.json` in one step: readers never see half a file.

    Args:
        run: The run.
        path: The file, in a folder that exists.

    Raises:
        OSError: If it cannot be written, or the path is a link or a folder. What was there is
            unchanged.
    """
    write_whole(path, to_json(run))


def read_run(path: Path) -> RunRecord:
    """Reads a `run.json`.

    Raises:
        OSError: If it cannot be read.
        ValueError: See `from_json`.
    """
    return from_json(read_text(path))


def _record(values: dict[str, Any]) -> RunRecord:
    curves = [
        Curve(**{**curve, "series": _floats(curve["series"])}) for curve in values.get("curves", ())
    ]
    confusion = values.get("confusion")
    read = {
        **values,
        "results": {name: _float(v) for name, v in values.get("results", {}).items()},
        "history": _floats(values.get("history", {})),
        "curves": curves,
        "timing": Timing(**values.get("timing", {})),
        "stages": stages_from(values.get("stages")),
        "confusion": None if confusion is None else Confusion(**confusion),
    }
    return RunRecord(**read)


def _floats(series: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [_float(value) for value in values] for name, values in series.items()}


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in ("nan", "inf", "-inf") else value


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity, at any depth, by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
