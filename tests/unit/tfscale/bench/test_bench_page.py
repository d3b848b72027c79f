"""The page of an outcome: parsed by Python's own parser, with made-up times."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from tests.unit.tfscale.bench.test_bench_against import earlier
from tests.unit.tfscale.bench.test_bench_table import MS, OUTCOME
from tfscale.bench.against import compared
from tfscale.bench.outcome import Row
from tfscale.bench.page import render
from tfscale.report.bars import Bar, bar_chart

VOID = {"meta"}


class Structure(HTMLParser):
    """The text of a page, its cells and the tags that occur."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}"


def test_the_page_has_every_row_the_goals_the_machine_and_the_notes() -> None:
    page = Structure(render(OUTCOME))
    assert page.open == []
    text = " ".join(page.text.split())
    for expected in (
        "Benchmark step: mlp",
        "fast / plain 0.75x goal <= 0.8x met",
        "pair / fast 2.00x goal <= 1.5x missed",
        "pair / plain 1.50x goal <= 2x met",
        "absent: skipped: no torch",
        "plain no strategy 3 3.00 [2.00-4.00] 4.00",
        "keras 3.15.1",
        "4 x Some CPU",
        "A note.",
    ):
        assert expected in text
    assert "Against" not in text


def test_the_comparison_is_on_the_page() -> None:
    text = " ".join(Structure(render(OUTCOME, compared(OUTCOME, earlier()))).text.split())
    assert "Against the run of 2026-11-29" in text
    assert "plain 3.00 [2.00-4.00] 7.00 [6.00-8.00] 0.43x ms a step smaller" in text
    assert "not measured now: gone." in text


def test_names_are_escaped_and_nothing_is_loaded_or_run() -> None:
    row = Row("<script>alert(1)</script>", '"><img src=x>', MS, (1.0, 2.0))
    page = render(dataclasses.replace(OUTCOME, rows=(row,), subject="</title><b>"))
    tags = Structure(page).tags
    assert not tags & {"img", "link", "iframe"}
    assert page.count("<script") == 1  # that of the charts, which the policy names by its hash
    assert "script-src 'sha256-" in page
    assert "b" in tags  # The values of the bars, not the subject.
    assert not re.search(r"(src|href|url)\s*[=(]", page.replace("&#34;&gt;&lt;img src=x&gt;", ""))


def test_bars_are_proportional_and_the_line_is_the_range() -> None:
    chart = str(bar_chart("t", [Bar("a", 1, 0.5, 4.0, 2.0), Bar("b", 2, 2, 2)], unit="ms"))
    assert re.findall(r'height="10"', chart) == ['height="10"'] * 2
    assert re.findall(r'width="([\d.]+)" height="10"', chart) == ["250.0", "500.0"]
    assert re.findall(r'width="([\d.]+)" height="3"', chart) == ["500.0"]
    assert re.findall(r'd="(M.*?)"', chart) == ["M125.0 5H1000.0", "M500.0 5H500.0"]


@pytest.mark.parametrize("rounds", [(0.0, 0.0), (-0.5, 1.0), (1.0,)])
def test_zero_negative_and_single_values_make_a_page_too(rounds: tuple[float, ...]) -> None:
    rows = (Row("slope", "", "KB a step", rounds), Row("none", "", MS, (), skipped="no library"))
    assert Structure(render(dataclasses.replace(OUTCOME, rows=rows))).open == []
