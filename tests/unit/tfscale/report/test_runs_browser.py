"""The page of a monitored run and that of several runs, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tfscale.report import report_browser
from tests.unit.tfscale.report.made_up_monitor import restarted
from tests.unit.tfscale.report.many_runs import sweep_run, write_runs
from tests.unit.tfscale.report.page_checks import TIP, opened
from tests.unit.tfscale.report.test_report_browser import HIDDEN_TEXTS, OVERLAPS
from tfscale.report.page import render
from tfscale.report.runs import read_runs
from tfscale.report.runs_page import runs_page

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)
LOOKS = pytest.mark.parametrize(
    ("width", "is_dark"), [(390, False), (390, True), (1280, False), (1280, True)]
)
BAR_TIP = "document.querySelector('body > .tip:not([hidden])')?.textContent ?? ''"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    restarted(folder / "job" / "monitor")
    (only,) = read_runs([folder / "job"])
    write_runs(folder / "runs", 50)
    runs = read_runs(sorted((folder / "runs").iterdir()))
    texts = {
        "job": render(only.record, only.monitors),
        "three": runs_page(runs[:3]),
        "fifty": runs_page(runs),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("name", ["job", "three", "fifty"])
@LOOKS
def test_a_page_fits_its_window_and_every_text_is_readable(
    page: report_browser.Page,
    tmp_path: Path,
    pages: dict[str, Path],
    name: str,
    width: int,
    is_dark: bool,
) -> None:
    opened(page, pages[name], width=width, dark=is_dark)
    (tmp_path / f"{name}-{width}.png").write_bytes(page.screenshot())
    assert page.evaluate(HIDDEN_TEXTS) == []
    assert page.evaluate(OVERLAPS) == []
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across <= inside


@pytest.mark.parametrize("width", [390, 1280])
def test_parts_of_bars_and_areas_say_what_they_are(
    page: report_browser.Page, pages: dict[str, Path], width: int
) -> None:
    opened(page, pages["job"], width=width)
    page.point(".stack .k-stopped", 0.5, 0.5, touch=width < 600)
    # By hand: stopped for 20 s of 3 + 4.1 + 20 + 3 + 3 and 119 lines of 10 steps.
    assert page.evaluate(BAR_TIP).startswith("worker 2: stopped 20.0 s, 8.")
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across <= inside
    chart = "document.querySelector('.plot').dataset.chart"
    lines = json.loads(page.evaluate(chart))["lines"]
    page.point(".plot > svg", lines[0]["x"][30] / 4, 0.5, touch=width < 600)  # 4 minutes
    shown = page.evaluate(TIP)
    named = {line["name"]: line["y"][30] for line in lines}
    assert shown == f"minute {lines[0]['x'][30]:.9g}" + "".join(
        f"{name}{value:.9g}" if value else f"{name}0" for name, value in named.items()
    )
    assert sum(named.values()) == pytest.approx(100, abs=0.05)
    page.point("h1", 0.1, 0.5)
    assert page.errors == []


def test_the_nearest_of_fifty_runs_is_read(
    page: report_browser.Page, pages: dict[str, Path]
) -> None:
    opened(page, pages["fifty"], width=1280)
    charted: dict[str, Any] = json.loads(
        page.evaluate("document.querySelector('.plot').dataset.chart")
    )
    low, high, _ = charted["ys"]
    loss = sweep_run(0).history["loss"][14]
    assert loss is not None
    page.point(".plot > svg", 14 / 29, 1 - (loss - low) / (high - low))
    shown = page.evaluate(TIP)
    # Runs 0, 9, 10 ... are as far from the best rate, so they have one loss.
    assert shown.startswith("epoch 15run-")
    assert shown.endswith(f"{loss:.9g}")
    assert page.errors == []
