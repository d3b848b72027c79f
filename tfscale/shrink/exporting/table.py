"""The result of `tfscale export` as text, JSON and an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tfscale.cli.sizes import shown_bytes
from tfscale.report.bars import Bar, bar_chart
from tfscale.report.markup import fill
from tfscale.report.numbers import percent
from tfscale.shrink.exporting.conversion import TOLERANCE, Exported

_HEAD = (
    "file",
    "size",
    "gzip",
    "largest difference",
    "same class",
    "accuracy",
    "ms for a row",
    "run in",
)
_TEXTS = ("file", "run in")


def as_json(files: Sequence[Exported], tolerance: float) -> list[dict[str, Any]]:
    """Returns the files as JSON values."""
    return [
        {
            "path": str(each.path),
            "format": each.format,
            "quantize": each.quantize,
            "size_bytes": each.size_bytes,
            "gzip_bytes": each.gzip_bytes,
            "inputs": list(each.inputs),
            "outputs": list(each.outputs),
            "largest_difference": each.difference.largest,
            "relative_difference": each.difference.relative,
            "agreement": each.difference.agreement,
            "accuracy": each.difference.accuracy,
            "accuracy_of_keras": each.accuracy_of_keras,
            "milliseconds": each.milliseconds,
            "runtime": each.runtime,
            "needs_tensorflow": each.needs_tensorflow,
            "num_rows": each.num_rows,
            "rows_are_drawn": each.rows_are_drawn,
            "policy": each.policy,
            "policy_difference": each.policy_difference,
            "is_equal": each.is_equal(tolerance),
        }
        for each in files
    ]


def as_text(files: Sequence[Exported], tolerance: float) -> str:
    """Returns the table, its notes and the verdict."""
    lines = [_HEAD, *(_cells(each) for each in files)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(_HEAD))]
    shown = [
        "  ".join(
            cell.ljust(width) if name in _TEXTS else cell.rjust(width)
            for cell, width, name in zip(line, widths, _HEAD, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*shown, "", *notes(files, tolerance)])


def notes(files: Sequence[Exported], tolerance: float) -> list[str]:
    """Returns sentences: what was compared, and what differs more than it should."""
    return list(_notes(files, tolerance))


def failed(files: Sequence[Exported], tolerance: float) -> list[Exported]:
    """Returns the float files whose outputs are not those of Keras."""
    return [each for each in files if each.quantize is None and not each.is_equal(tolerance)]


def page(files: Sequence[Exported], tolerance: float, title: str) -> str:
    """Returns the page: bars of size, difference and time, and the table.

    Args:
        files: At least one.
        tolerance: The relative difference up to which a float file is equal to Keras.
        title: The name of the model.
    """
    largest = max(each.difference.largest for each in files)
    charts = [
        bar_chart(
            "Size of the file",
            [
                Bar(
                    _name(each),
                    each.size_bytes / 1024,
                    second=each.gzip_bytes / 1024,
                    colour=_colour(each),
                )
                for each in files
            ],
            unit="KiB",
            second="compressed by gzip",
        ),
        bar_chart(
            "Time for one row",
            [Bar(_name(each), each.milliseconds, colour=_colour(each)) for each in files],
            unit="ms",
        ),
        bar_chart(
            "Largest difference from Keras",
            [Bar(_name(each), each.difference.largest, colour=_colour(each)) for each in files],
            unit="of the outputs",
        ),
    ]
    known = [each for each in files if each.difference.accuracy is not None]
    if known:
        reference = known[0].accuracy_of_keras or 0.0
        charts.append(
            bar_chart(
                "Accuracy",
                [
                    Bar("Keras, float", 100 * reference),
                    *(
                        Bar(
                            _name(each),
                            100 * (each.difference.accuracy or 0.0),
                            colour=_colour(each),
                        )
                        for each in known
                    ),
                ],
                unit="%",
            )
        )
    return str(
        fill(
            "bench.html",
            title=f"Exports of {title}",
            text=f"{len(files)} files, each run in its own runtime and compared with Keras.",
            circumstances=f"{files[0].num_rows:,} rows; the largest difference is {largest:.2g}.",
            tiles=[],
            laws=[],
            formulas=[],
            charts=charts,
            rounds=[],
            texts=_TEXTS,
            tables=[("", [_HEAD, *(_cells(each) for each in files)])],
            notes=notes(files, tolerance),
            comparison=None,
            earlier="",
            differences=[],
            settings={},
        )
    )


def _cells(each: Exported) -> tuple[str, ...]:
    found = each.difference
    return (
        each.path.name,
        shown_bytes(each.size_bytes),
        shown_bytes(each.gzip_bytes),
        f"{found.largest:.2e}",
        "" if found.agreement is None else percent(found.agreement),
        "" if found.accuracy is None else percent(found.accuracy),
        f"{each.milliseconds:.3f}",
        each.runtime,
    )


def _notes(files: Sequence[Exported], tolerance: float) -> Iterator[str]:
    first = files[0]
    rows = "random rows" if first.rows_are_drawn else "rows"
    yield (
        f"Compared with Keras in float on {first.num_rows:,} {rows}, in batches of all, three and "
        "one."
    )
    if first.accuracy_of_keras is not None:
        yield f"Accuracy of Keras in float: {percent(first.accuracy_of_keras)}."
    if first.policy is not None:
        yield (
            f"The model was trained in {first.policy}, and the files compute in float32 (a .keras "
            f"file in {first.policy}); the two differ by {first.policy_difference:.2e} in Keras."
        )
    for each in failed(files, tolerance):
        yield (
            f"DIFFERENT: {each.path.name} differs from Keras by {each.difference.relative:.2e} of "
            f"the largest output, more than {tolerance:g}."
        )


def _name(each: Exported) -> str:
    return each.format if each.quantize is None else f"{each.format} {each.quantize}"


def _colour(each: Exported) -> int:
    return 0 if each.quantize is None else 1


__all__ = ["TOLERANCE", "as_json", "as_text", "failed", "notes", "page"]
