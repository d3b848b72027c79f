from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.unit.tfscale.report import report_runs
from tfscale.report import page as page_module
from tfscale.report.page import render, write_report
from tfscale.report.record import Confusion, RunRecord, Timing

STYLE = (Path(page_module.__file__).parent / "templates" / "style.css").read_text("utf-8")
SCRIPT = (Path(page_module.__file__).parent / "templates" / "chart.js").read_text("utf-8")
HASH = f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}"
HOSTILE = (
    """</style></title><script>alert(1)</script><img src="//evil.example/x" onerror='a()'>&"""
    """{{ 6 * 7 }}{% include "style.css" %}{# gone #}"""
)
VOID = {"meta", "wbr"}


class Structure(HTMLParser):
    """Elements, attributes and text; fails where a tag is not closed in its turn.

    The text leaves out line breaks and what is around them: they lay out the source of the page.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        self.attributes.extend((name, value or "") for name, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += re.sub(r"\s*\n\s*", "", data)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def hostile() -> RunRecord:
    """A run in which every text that a user chooses tries to become markup."""
    run = report_runs.ordinary()
    return dataclasses.replace(
        run,
        title=HOSTILE,
        results={HOSTILE: 1.0},
        configuration={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}},
        environment={HOSTILE: HOSTILE, "strategy": HOSTILE},
        history={HOSTILE: [1.0, float("nan")]},
        curves=[
            dataclasses.replace(
                curve, title=HOSTILE, unit=HOSTILE, x_name=HOSTILE, series={HOSTILE: [1.0]}
            )
            for curve in run.curves
        ],
        confusion=Confusion([HOSTILE, "b"], [[1, 2], [3, 4]]),
        notes=[HOSTILE],
        command=HOSTILE,
        finished=HOSTILE,
    )


RUNS = {
    "ordinary": report_runs.ordinary(),
    "rough": report_runs.rough(),
    "hostile": hostile(),
    "title only": RunRecord("only a title"),
    "one epoch": RunRecord("one", history={"loss": [0.5], "val_loss": [0.25]}),
}


@pytest.fixture(params=list(RUNS))
def page(request: pytest.FixtureRequest) -> str:
    return render(RUNS[request.param])


def test_every_tag_is_closed_and_every_id_is_unique(page: str) -> None:
    structure = Structure(page)
    assert structure.open == []
    ids = structure.values("id")
    assert len(set(ids)) == len(ids)
    named = [name for value in structure.values("aria-labelledby") for name in value.split()]
    assert set(named) <= set(ids)
    assert structure.tags.count("title") >= 1
    assert structure.tags[:4] == ["html", "head", "meta", "meta"]


def test_nothing_on_the_page_is_loaded_from_anywhere(page: str) -> None:
    structure = Structure(page)
    loading = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
    assert [(k, v) for k, v in structure.attributes if k in loading or k.startswith("on")] == []
    assert {"link", "img", "iframe", "object", "base"} & set(structure.tags) == set()
    sheets = [STYLE, *structure.values("style")]
    assert [s for s in sheets if re.search(r"url\(|@import|image-set|://", s)] == []
    # The browser itself refuses whatever these checks miss.
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src '{HASH}'" in (
        structure.values("content")
    )


def test_the_only_script_is_that_of_the_charts(page: str) -> None:
    assert Structure(page).tags.count("script") == 1
    assert f'<script type="module">{SCRIPT}</script>' in page
    assert re.search(r"fetch|XMLHttp|import|innerHTML|outerHTML|eval|://", SCRIPT) is None


def test_what_a_user_wrote_is_shown_as_it_was_written() -> None:
    structure = Structure(render(hostile()))
    # Title, heading, finished, command, chart titles and units, series, labels, notes ...
    assert structure.text.count("<script>alert(1)</script>") >= 15
    assert structure.text.count('{{ 6 * 7 }}{% include "style.css" %}{# gone #}') >= 15
    assert structure.tags.count("script") == 1  # that of the charts


def test_the_numbers_of_a_run_are_on_its_page() -> None:
    text = Structure(render(report_runs.ordinary())).text
    for words in (
        "image_classification: digits",
        "test accuracy0.9944",
        "total time58.2 s",
        "MirroredStrategy · replicas: 2 · workers: 1",
        "start-up, first step included9.4 s",
        "per step, after the first54.7 ms",
        "steps600",
        "examples per second1,755",  # 96 / 0.0547
        "all_reducenot set",
        "augmenttrue",
        "tensorflow2.21.0",
        "--num_replicas=2",
        "The test split was looked at once",
    ):
        assert words in text, words


def test_training_and_validation_of_a_metric_share_a_chart() -> None:
    page = render(report_runs.ordinary())
    charts = re.findall(r"<figcaption>([^<]*)</figcaption>\s*<ul[^>]*>(.*?)</ul>", page, re.DOTALL)
    legends = {title: re.findall(r"</svg>(\w+)", legend) for title, legend in charts}
    assert legends == {
        "loss": ["training", "validation"],
        "accuracy": ["training", "validation"],
        "learning rate": ["rate"],
    }


def test_a_page_leaves_out_what_is_not_known() -> None:
    text = Structure(render(RunRecord("only a title"))).text
    assert text == "only a title" * 2  # <title> and <h1>
    timed = Structure(render(RunRecord("t", timing=Timing(num_steps=5)))).text
    assert "steps5" in timed
    assert "per step" not in timed


def test_a_confusion_shows_counts_rates_and_the_worst_pairs() -> None:
    # By hand: recalls 8/10 and 3/4, precisions 8/9 and 3/5, accuracy 11/14.
    run = RunRecord("t", confusion=Confusion(["cat", "dog"], [[8, 2], [1, 3]]))
    page = render(run)
    text = Structure(page).text
    assert "truecatdogrecallcat8280.0%dog1375.0%precision88.9%60.0%78.6%" in text
    assert "cat predicted as dog: 2 of 10dog predicted as cat: 1 of 4" in text
    assert '<td class="right" style="--share:0.8">8</td>' in page
    assert '<td class="wrong" style="--share:0.25">1</td>' in page


def test_a_class_without_examples_has_no_rate() -> None:
    page = render(RunRecord("t", confusion=Confusion(["a", "b"], [[0, 0], [0, 4]])))
    assert "a-b4100.0%precision-100.0%100.0%" in Structure(page).text
    assert "No example was misclassified." in page


def test_the_page_of_a_hundred_classes_stays_small() -> None:
    assert len(render(report_runs.rough()).encode()) < 400_000


def test_a_page_is_written_in_full_or_not_at_all(tmp_path: Path) -> None:
    write_report(report_runs.ordinary(), tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text("utf-8") == render(report_runs.ordinary())
    with pytest.raises(OSError, match=r"nowhere/a.html could not be written: .*another place"):
        write_report(report_runs.ordinary(), tmp_path / "nowhere" / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_and_lines_have_enough_contrast(is_dark: bool) -> None:
    start = STYLE.index("prefers-color-scheme: dark") if is_dark else 0
    block = STYLE[STYLE.index(":root {", start) :].partition("}")[0]
    colours: dict[str, tuple[float, ...]] = {}
    for name, value in re.findall(r"--([\w]+): (#[0-9a-f]{3,6}|\d+ \d+ \d+);", block):
        digits = value[1:] if len(value) == 7 else "".join(2 * c for c in value[1:])
        parts = value.split() if " " in value else re.findall("..", digits)
        colours[name] = tuple(int(p, 10 if " " in value else 16) / 255 for p in parts)
    for back in ("back", "card"):
        assert contrast(colours["text"], colours[back]) >= 7
        assert contrast(colours["soft"], colours[back]) >= 4.5
        assert contrast(colours["c0"], colours[back]) >= 4.5  # The first result, in text.
    for number in range(8):
        assert contrast(colours[f"c{number}"], colours["card"]) >= 3
    for name, darkest in (("right", 0.5), ("wrong", 0.54)):
        pairs = zip(colours[name], colours["card"], strict=True)
        shade = tuple(darkest * colour + (1 - darkest) * back for colour, back in pairs)
        assert contrast(colours["text"], shade) >= 4.5
