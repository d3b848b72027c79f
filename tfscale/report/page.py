"""A run as one HTML page that needs nothing else: no network, no script, no second file.

    write_report(run, Path("runs/digits/report.html"))

`record` says what a run holds.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfscale.files.output_files import write_whole
from tfscale.report import numbers
from tfscale.report.chart import line_chart
from tfscale.report.confusion import confusion_table
from tfscale.report.record import Curve, RunRecord, Timing
from tfscale.report.style import STYLE

REPORT_FILE = "report.html"
_DOCTYPE = b"<!doctype html>"

_MOST_EPOCHS_LISTED = 500
# The browser itself refuses to load or run anything, whatever a title or a flag holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(run: RunRecord) -> str:
    r"""Returns the page of a run.

    Args:
        run: The run. What it leaves out is left out of the page.

    Returns:
        HTML5, to be stored as UTF-8. The same run gives the same text.

    Example:
        >>> render(RunRecord("digits"))[:32]
        '<!doctype html>\n<html lang="en">'
    """
    title = html.escape(run.title)
    body = "\n".join(part for part in _parts(run) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def refuse_other_files(path: str | Path) -> None:
    """Refuses to write a page over a file that is none, such as the model of the run.

    Raises:
        ValueError: If a file with other content is there.
    """
    path = Path(path)
    try:
        is_other = path.is_symlink() or not path.is_file()
    except OSError:  # a name that is too long
        is_other = True
    if is_other:
        return  # `write_whole` judges what is there instead
    with path.open("rb") as file:
        begin = file.read(len(_DOCTYPE))
    if begin and begin.lower() != _DOCTYPE:
        raise ValueError(
            f"`output` must be a new file, or an earlier page. Received: {str(path)!r}, which "
            "holds something else. Name another file, or remove it first."
        )


def write_report(run: RunRecord, path: Path) -> None:
    """Writes the page of a run; under its name only once it is there in full.

    Args:
        run: The run.
        path: The file, in a local folder that exists.

    Raises:
        OSError: If it cannot be written, or a link or a folder stands there. What stood there
            before still does.
    """
    write_whole(path, render(run))


def _parts(run: RunRecord) -> Iterable[str]:
    yield _header(run)
    yield _tiles(run)
    curves = [*_history_curves(run), *run.curves]
    charts = [line_chart(curve, identifier=f"chart-{n}") for n, curve in enumerate(curves)]
    if charts:
        yield f'<h2>Curves</h2>\n<div class="charts">{"".join(charts)}</div>'
    yield _epochs(run)
    if run.confusion:
        yield f"<h2>Confusion</h2>\n{confusion_table(run.confusion)}"
    tables = [
        _settings("Timing", _timing(run.timing)),
        _settings("Environment", run.environment),
        _settings("Configuration", run.configuration),
    ]
    yield f'<div class="columns">{"".join(tables)}</div>' if any(tables) else ""
    if run.notes:
        items = "".join(f"<li>{html.escape(note)}</li>" for note in run.notes)
        yield f'<h2>Notes</h2>\n<div class="card"><ul class="notes">{items}</ul></div>'


def _header(run: RunRecord) -> str:
    facts = [run.finished and f"finished {run.finished}"]
    for name in ("strategy", "replicas", "workers"):
        if name in run.environment:
            value = numbers.setting(run.environment[name])
            facts.append(value if name == "strategy" else f"{name}: {value}")
    # A line breaks between arguments, not behind the dashes of one.
    command = " ".join(f"<span>{html.escape(part)}</span>" for part in run.command.split())
    under = html.escape(" · ".join(fact for fact in facts if fact))
    return "".join(
        [
            f"<header><h1>{html.escape(run.title)}</h1>",
            f'<p class="under">{under}</p>' if under else "",
            f'<p class="command"><code>{command}</code></p>' if command else "",
            "</header>",
        ]
    )


def _tiles(run: RunRecord) -> str:
    shown = {name: numbers.number(value) for name, value in run.results.items()}
    if run.timing.total_seconds is not None:
        shown["total_time"] = numbers.seconds(run.timing.total_seconds)
    tiles = "".join(
        f"<div{'' if position else ' class=first'}><dt>{html.escape(numbers.name(name))}"
        f"</dt><dd>{value}</dd></div>"
        for position, (name, value) in enumerate(shown.items())
    )
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


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


def _epochs(run: RunRecord) -> str:
    """Returns the history as a table, folded away."""
    length = max(map(len, run.history.values()), default=0)
    if not 0 < length <= _MOST_EPOCHS_LISTED:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in run.history)
    rows = []
    for epoch, values in enumerate(zip(*run.history.values(), strict=True), run.first_epoch):
        texts = ("" if v is None else numbers.number(v) for v in values)
        cells = "".join(f"<td>{number}</td>" for number in texts)
        rows.append(f'<tr><th scope="row">{epoch:,}</th>{cells}</tr>')
    return (
        '<details><summary>Values by epoch</summary><div class="scroll" tabindex="0" '
        'role="region" aria-label="Values by epoch"><table><thead><tr><th scope="col" '
        f'class="corner">epoch</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></details>"
    )


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


def _settings(title: str, values: Mapping[str, Any]) -> str:
    rows = []
    for name, value in values.items():
        style, text = ' class="unset"', "not set"
        if value is not None and value != "":
            style, text = "", html.escape(numbers.setting(value))
        # A line may break behind the underscores of a flag.
        label = html.escape(name).replace("_", "_<wbr>")
        rows.append(f"<div><dt>{label}</dt><dd{style}>{text}</dd></div>")
    if not rows:
        return ""
    return (
        f'<section><h2>{title}</h2><div class="card"><dl class="settings">{"".join(rows)}</dl>'
        "</div></section>"
    )
