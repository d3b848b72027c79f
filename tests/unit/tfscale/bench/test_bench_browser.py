"""The page of an outcome as a browser shows it, at the width of a phone and of a desktop.

`make browser-test` installs the browser that these need; without one they are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.tfscale.bench.test_bench_scaling import made_up_rows, outcome_of
from tests.unit.tfscale.bench.test_bench_table import OUTCOME
from tests.unit.tfscale.report import report_browser
from tests.unit.tfscale.report.test_report_browser import HIDDEN_TEXTS, OVERLAPS, WIDTHS
from tfscale.bench.against import compared
from tfscale.bench.page import render

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)
OUTCOMES = {"step": OUTCOME, "scaling": outcome_of(made_up_rows())}

BAR_WIDTHS = """
[...document.querySelectorAll(".bar:not(.thin)")].map(bar => bar.getBoundingClientRect().width)
"""


@pytest.mark.parametrize("name", list(OUTCOMES))
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_its_window_and_every_text_is_visible(
    page: report_browser.Page, tmp_path: Path, name: str, width: int
) -> None:
    outcome = OUTCOMES[name]
    path = tmp_path / "page.html"
    path.write_text(render(outcome, compared(outcome, outcome)), "utf-8")
    page.requests.clear()
    page.show(path, width=width)
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across <= inside == width
    assert page.evaluate(HIDDEN_TEXTS) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.requests == [path.as_uri()]
    measured = [row for row in outcome.rows if row.rounds]
    widths = page.evaluate(BAR_WIDTHS)
    assert len(widths) == len(measured)
    assert min(widths) > 0


def test_a_bar_twice_as_long_is_drawn_twice_as_long(
    page: report_browser.Page, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(OUTCOME), "utf-8")
    page.show(path, width=1280)
    _, fast, pair, lonely = page.evaluate(BAR_WIDTHS)
    assert (fast / lonely, pair / fast) == pytest.approx((3.0, 2.0), rel=0.02)
