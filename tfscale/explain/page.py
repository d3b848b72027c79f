"""Attributions as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfscale.explain.pictures import bars_picture, image_picture, is_image, tokens_picture
from tfscale.report import numbers
from tfscale.report.bars import Bar, bar_chart
from tfscale.report.markup import fill

_MOST_ROWS = 50
_MOST_FEATURES = 40


class Explained(Protocol):
    """What a page shows; see `Attributions`, which imports this file."""

    @property
    def method(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def elements(self) -> np.ndarray: ...
    @property
    def outputs(self) -> np.ndarray: ...
    @property
    def baseline_outputs(self) -> np.ndarray | None: ...
    @property
    def steps(self) -> np.ndarray | None: ...
    @property
    def gaps(self) -> np.ndarray | None: ...
    @property
    def incomplete(self) -> list[int]: ...
    def flat(self) -> list[tuple[str, np.ndarray, np.ndarray]]: ...


def page(
    found: Explained,
    *,
    title: str = "",
    labels: Sequence[str] = (),
    features: Sequence[str] = (),
    tokens: Callable[[int], str] | Sequence[str] | None = None,
) -> str:
    """Returns the page of attributions.

    Args:
        found: The attributions. The first 50 rows have pictures.
        title: The heading; empty for the method.
        labels: Names of the elements of the output, by index.
        features: Names of the columns of a table.
        tokens: Texts of tokens: a list by token, or a function of the token.
    """
    count = len(found.outputs)
    return str(
        fill(
            "explain.html",
            title=title or found.method.capitalize(),
            under=f"{found.method.capitalize()} of {count:,} row{'s' if count > 1 else ''}. Blue "
            "raised the output, orange lowered it.",
            tiles=_tiles(found),
            problems=[_incomplete(found)] if found.incomplete else [],
            charts=_charts(found, features),
            rows=[
                _row(found, row, labels, features, tokens) for row in range(min(count, _MOST_ROWS))
            ],
            left_out=max(0, count - _MOST_ROWS),
        )
    )


def page_of_importances(
    title: str, under: str, tiles: Mapping[str, str], bars: Sequence[Bar], unit: str
) -> str:
    """Returns the page of permutation importances.

    Args:
        title: The heading.
        under: What is below it.
        tiles: Numbers by name.
        bars: A bar for each column, with the range of its shuffles. The 40 longest are drawn.
        unit: The metric.
    """
    longest = sorted(bars, key=lambda bar: -bar.value)[:_MOST_FEATURES]
    left_out = len(bars) - len(longest)
    if left_out:
        under = f"{under} The {left_out:,} least important columns are left out."
    return str(
        fill(
            "explain.html",
            title=title,
            under=under,
            tiles=tiles,
            problems=[],
            charts=[bar_chart("Importance", longest, unit=unit)],
            rows=[],
            left_out=0,
        )
    )


def columns(name: str, rows: np.ndarray, features: Sequence[str]) -> list[str]:
    """Returns a name for each value of a row, such as "x[3]"."""
    size = int(np.prod(rows.shape[1:]))
    if len(features) == size:
        return [str(each) for each in features]
    if size == 1:
        return [name]
    return [f"{name}{list(map(int, np.unravel_index(i, rows.shape[1:])))}" for i in range(size)]


def _tiles(found: Explained) -> dict[str, str]:
    tiles = {"rows": f"{len(found.outputs):,}"}
    gaps = found.gaps
    if gaps is not None:
        tiles["largest gap"] = numbers.number(float(np.abs(gaps).max()))
    if found.steps is not None:
        name = "gradients a row" if gaps is not None else "changed inputs a row"
        tiles[name] = f"{np.mean(found.steps):,.0f}"
    return tiles


def _incomplete(found: Explained) -> str:
    rows = found.incomplete
    named = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    gaps = np.abs(found.gaps) if found.gaps is not None else np.zeros(1)
    return (
        f"The attributions of {len(rows)} row{'s' if len(rows) > 1 else ''} ({named}) do not add "
        "up to the difference of the outputs: the largest gap is "
        f"{numbers.number(float(gaps.max()))}. More steps make it smaller."
    )


def _charts(found: Explained, features: Sequence[str]) -> list[Any]:
    """Returns bars of the mean over the rows, for inputs that are tables."""
    charts = []
    for name, rows, values in found.flat():
        if rows.ndim != 2 or rows.dtype.kind != "f":
            continue
        sizes = np.abs(values).mean(axis=0)
        order = np.argsort(-sizes, kind="stable")[:_MOST_FEATURES]
        names = columns(name, rows, features)
        charts.append(
            bar_chart(
                f"Mean size of an attribution, input {name}",
                [Bar(names[i], float(sizes[i])) for i in order],
                unit="of the output",
            )
        )
    return charts


def _row(
    found: Explained,
    row: int,
    labels: Sequence[str],
    features: Sequence[str],
    tokens: Any,
) -> Mapping[str, Any]:
    element = int(found.elements[row])
    label = str(labels[element]) if element < len(labels) else f"output {element}"
    gaps = found.gaps
    facts = [f"{label}: {numbers.number(float(found.outputs[row]))}"]
    if found.baseline_outputs is not None and gaps is not None:
        facts.append(f"baseline: {numbers.number(float(found.baseline_outputs[row]))}")
        facts.append(f"gap: {numbers.number(float(gaps[row]))}")
    pictures = []
    for name, rows, values in found.flat():
        if is_image(rows):
            picture = image_picture(rows[row], values[row])
        elif rows.dtype.kind in "iu" and rows.ndim == 2 and rows.shape[1] > 1:
            picture = tokens_picture(rows[row], values[row], tokens)
        else:
            picture = bars_picture(
                rows[row].reshape(-1), values[row].reshape(-1), columns(name, rows, features)
            )
        pictures.append({"name": name if len(found.names) > 1 else "", **picture})
    return {"number": row, "facts": facts, "pictures": pictures}


__all__ = ["columns", "page", "page_of_importances"]
