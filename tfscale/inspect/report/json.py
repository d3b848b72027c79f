"""`run.json`: a `RunRecord` in a file, for programs, and for `tfscale report` to show again.

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

from tfscale.inspect.report.record import Confusion, Curve, RunRecord, Timing
from tfscale.output_files import write_whole

VERSION = 1
RUN_FILE = "run.json"


def to_json(run: RunRecord) -> str:
    """Returns the text of `run.json`: strict JSON, indented, with a newline at the end."""
    values = {"version": VERSION, **dataclasses.asdict(run)}
    return json.dumps(_finite(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> RunRecord:
    """Reads what `to_json` wrote; fields that are missing take their defaults.

    Args:
        text: The text of a `run.json`.

    Raises:
        ValueError: If it is not JSON, of another version, or holds what a record cannot hold.

    Example:
        >>> from_json('{"version": 1, "title": "digits", "results": {"loss": "nan"}}').results
        {'loss': nan}
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"`{RUN_FILE}` must be JSON. Received: {text[:40]!r} ({error}). Write it again."
        ) from error
    version = values.pop("version", None) if isinstance(values, dict) else None
    if version != VERSION:
        raise ValueError(
            f"`version` of {RUN_FILE} must be {VERSION}. Received: version={version!r}. Install "
            "the tfscale that wrote it: pip install --upgrade tfscale."
        )
    names = [field.name for field in dataclasses.fields(RunRecord)]
    unknown = sorted(set(values) - set(names))
    if unknown or "title" not in values:
        raise ValueError(
            f"`{RUN_FILE}` must hold a title and no names but: {', '.join(names)}. Received: "
            f"{', '.join(sorted(values)) or 'nothing'}. Put more into configuration or notes."
        )
    try:
        return _record(values)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"`{RUN_FILE}` must hold a run as `write_run` writes it. Received: {error}. Write it "
            "again."
        ) from error


def write_run(run: RunRecord, path: Path) -> None:
    """Writes `run.json`; under its name only once it is there in full.

    Args:
        run: The run.
        path: The file, in a folder that exists.

    Raises:
        OSError: If it cannot be written, or a link or a folder stands there. What stood there
            before still does.
    """
    write_whole(path, to_json(run))


def read_run(path: Path) -> RunRecord:
    """Reads a `run.json`.

    Raises:
        OSError: If it cannot be read.
        ValueError: See `from_json`.
    """
    return from_json(path.read_text("utf-8"))


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
        "confusion": None if confusion is None else Confusion(**confusion),
    }
    return RunRecord(**read)


def _floats(series: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [_float(value) for value in values] for name, values in series.items()}


def _float(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity, at any depth, by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
