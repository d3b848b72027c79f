"""A run as one HTML page that needs nothing else: no network and no second file.

    write_report(run, Path("runs/digits/report.html"))

`record` says what a run contains; `templates/page.html` is the layout of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfscale.files.output_files import write_whole
from tfscale.report import numbers
from tfscale.report.chart import line_chart
from tfscale.report.confusion import confusion_table
from tfscale.report.markup import fill
from tfscale.report.monitor_page import monitor_part
from tfscale.report.monitored import Monitored
from tfscale.report.record import Curve, RunRecord, Timing
from tfscale.report.runs import names
from tfscale.report.stages import stages_picture

REPORT_FILE = "report.html"
_DOCTYPE = b"<!doctype html>"

_MOST_EPOCHS_LISTED = 500


def render(run: RunRecord, monitors: Sequence[Monitored] = ()) -> str:
    r"""Returns the page of a run.

    Args:
        run: The run. The page has no section for a field that is empty.
        monitors: What `tfscale.callbacks.Monitor` left.

    Returns:
        HTML5, to be stored as UTF-8. The same run gives the same text.

    Example:
        >>> render(RunRecord("digits")).startswith('<!doctype html>')
        True
    """
    curves = [*_history_curves(run), *run.curves]
    folders = names([each.folder.resolve() for each in monitors])
    return fill(
        "page.html",
        title=run.title,
        run=run,
        facts=list(_facts(run)),
        results=_results(run),
        charts=[line_chart(curve, identifier=f"chart-{n}") for n, curve in enumerate(curves)],
        epochs=_epochs(run),
        stages=stages_picture(run.stages) if run.stages else "",
        monitors=[
            monitor_part(
                each,
                title=f"Time in {folders[number]}" if len(monitors) > 1 else "Time",
                identifier=f"monitor-{number}",
            )
            for number, each in enumerate(monitors)
        ],
        confusion=confusion_table(run.confusion) if run.confusion else "",
        tables={
            "Timing": _timing(run.timing),
            "Environment": run.environment,
            "Configuration": run.configuration,
        },
    )


def refuse_other_files(path: str | Path) -> None:
    """Refuses to write a page over a file that is not a page, such as the model of the run.

    Raises:
        ValueError: If the file exists and has other content.
    """
    path = Path(path)
    try:
        is_other = path.is_symlink() or not path.is_file()
    except OSError:  # a name that is too long
        is_other = True
    if is_other:
        return  # `write_whole` checks everything that is not a plain file
    with path.open("rb") as file:
        begin = file.read(len(_DOCTYPE))
    if begin and begin.lower() != _DOCTYPE:
        raise ValueError(
            f"`output` must be a new file or an earlier page. Received: {str(path)!r}, which has "
            "other content. Choose another file, or remove it first."
        )


def write_report(run: RunRecord, path: Path) -> None:
    """Writes the page of a run in one step: readers never see half a page.

    Args:
        run: The run.
        path: The file, in a local folder that exists.

    Raises:
        OSError: If it cannot be written, or the path is a link or a folder. What was there is
            unchanged.
    """
    write_whole(path, render(run))


def _facts(run: RunRecord) -> Iterator[str]:
    """Yields the short facts under the title."""
    if run.finished:
        yield f"finished {run.finished}"
    for name in ("strategy", "replicas", "workers"):
        if name in run.environment:
            value = numbers.setting(run.environment[name])
            yield value if name == "strategy" else f"{name}: {value}"


def _results(run: RunRecord) -> dict[str, str]:
    shown = {name: numbers.number(value) for name, value in run.results.items()}
    if run.timing.total_seconds is not None:
        shown["total_time"] = numbers.seconds(run.timing.total_seconds)
    return shown


def _history_curves(run: RunRecord) -> list[Curve]:
    """Puts each metric and its `val_` twin on one chart, in the order of the history."""
    metrics: dict[str, dict[str, Any]] = {}
    for name, values in run.history.items():
        metric = name.removeprefix("val_")
        series = "validation" if metric != name else "training"
        metrics.setdefault(metric, {})[series] = values
    return [
        Curve(
            numbers.name(metric),
            # A rate is set, not measured on the training data.
            {"rate": series["training"]} if metric == "learning_rate" else series,
            x_name="epoch",
            first=run.first_epoch,
            scale="linear" if metric == "learning_rate" else "auto",
        )
        for metric, series in metrics.items()
    ]


def _epochs(run: RunRecord) -> list[tuple[int, tuple[float | None, ...]]]:
    """Returns number and values of each epoch; none of a history too long to list."""
    if max(map(len, run.history.values()), default=0) > _MOST_EPOCHS_LISTED:
        return []
    return list(enumerate(zip(*run.history.values(), strict=True), run.first_epoch))


def _timing(timing: Timing) -> dict[str, str]:
    shown = {
        "total": timing.total_seconds,
        "start-up, first step included": timing.startup_seconds,
        "training": timing.training_seconds,
        "per step, after the first": timing.seconds_per_step,
    }
    rows = {name: numbers.seconds(v) for name, v in shown.items() if v is not None}
    if timing.num_steps is not None:
        rows["steps"] = f"{timing.num_steps:,}"
    if timing.global_batch_size is not None:
        rows["examples per step"] = f"{timing.global_batch_size:,}"
        if timing.seconds_per_step:
            rate = timing.global_batch_size / timing.seconds_per_step
            rows["examples per second"] = f"{rate:,.0f}"
    return rows
