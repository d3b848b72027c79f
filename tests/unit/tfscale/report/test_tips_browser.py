"""Values are read from a chart in a real browser: by mouse, by finger and by keyboard."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.unit.tfscale.report import report_browser, report_runs
from tests.unit.tfscale.report.page_checks import TIP, opened
from tfscale.report.page import write_report
from tfscale.report.record import Curve, RunRecord

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)
RUN = report_runs.ordinary()
CHART = ".plot > svg"
VALUE_TEXT = "document.querySelector('.plot').getAttribute('aria-valuetext')"


def epoch(number: int) -> str:
    """The tip of the first chart at an epoch: 9 digits of the values that were recorded."""
    training, validation = (RUN.history[name][number - 1] for name in ("loss", "val_loss"))
    return f"epoch {number}training{training:.9g}validation{validation:.9g}"


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_mouse_and_a_finger_read_the_value_that_was_recorded(
    page: report_browser.Page, tmp_path: Path, width: int, is_dark: bool
) -> None:
    path = tmp_path / "run.html"
    write_report(RUN, path)
    opened(page, path, width=width, dark=is_dark)
    assert page.evaluate(TIP) == ""
    for number in (1, 13, 40):  # of 1 to 40
        page.point(CHART, (number - 1) / 39, 0.5, touch=width < 600)
        assert page.evaluate(TIP) == epoch(number)
        across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert across <= inside
    (tmp_path / f"tip-{width}.png").write_bytes(page.screenshot())
    assert page.errors == []


def test_arrow_keys_read_one_value_after_the_other(
    page: report_browser.Page, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    write_report(RUN, path)
    opened(page, path, width=1280)
    page.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"
    keys = {"ArrowLeft": 40, "Home": 1, "PageUp": 5, "ArrowRight": 6, "End": 40}
    for key, number in keys.items():
        page.press(key)
        assert page.evaluate(TIP) == epoch(number)
    # A screen reader says the same.
    assert page.evaluate(VALUE_TEXT).startswith("epoch 40: training 0.0")
    page.press("Escape")
    assert page.evaluate(TIP) == ""
    assert page.errors == []


def test_of_many_lines_the_nearest_one_is_read_and_drawn_thicker(
    page: report_browser.Page, tmp_path: Path
) -> None:
    series = {f"run {n}": [float(n)] * 11 for n in range(41)}
    path = tmp_path / "run.html"
    write_report(RunRecord("many", curves=[Curve("level", series, first=0)]), path)
    opened(page, path, width=390)
    page.point(CHART, 0.5, 1 - 27.2 / 40, touch=True)
    assert page.evaluate(TIP) == "step 5run 2727"
    assert page.evaluate("document.querySelectorAll('g.chosen').length") == 1
    page.evaluate("document.querySelector('.plot').focus()")
    page.press("ArrowDown")
    assert page.evaluate(TIP) == "step 5run 2828"


def test_a_spike_and_a_nan_of_a_long_curve_are_read(
    page: report_browser.Page, tmp_path: Path
) -> None:
    values = [1.0 + 0.1 * math.sin(n) for n in range(100_000)]
    values[60_000], values[80_000] = 7.123456789, math.nan
    path = tmp_path / "run.html"
    write_report(RunRecord("long", curves=[Curve("loss", {"minibatch": values}, first=0)]), path)
    opened(page, path, width=1280)
    page.point(CHART, 0.6, 0.5)
    shown = []
    for _ in range(12):  # the spike's neighbours are the extremes of their bins
        shown.append(page.evaluate(TIP))
        page.evaluate("document.querySelector('.plot').focus()")
        page.press("ArrowLeft" if len(shown) < 6 else "ArrowRight")
    assert "step 60,000minibatch7.12345679" in shown
    charted = json.loads(page.evaluate("document.querySelector('.plot').dataset.chart"))
    (line,) = charted["lines"]
    assert dict(zip(line["x"], line["y"], strict=True))[80_000] == "nan"
