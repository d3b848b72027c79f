"""The page of attributions in a real browser, at the width of a phone and of a desktop.

`make browser-test` installs the browser that these need; without one they are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.tfscale.report import report_browser
from tests.unit.tfscale.report.page_checks import opened
from tests.unit.tfscale.report.test_report_browser import HIDDEN_TEXTS
from tfscale.explain.attributions import Attributions
from tfscale.explain.page import page_of_importances
from tfscale.report.bars import Bar

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)
LOOKS = pytest.mark.parametrize(
    ("width", "is_dark"), [(390, False), (390, True), (1280, False), (1280, True)]
)
TIP = "document.querySelector('body > .tip:not([hidden])')?.textContent ?? ''"
ROWS = 3
WORDS = ["[pad]", "a", "goose", "<b>crossed</b>", "incomprehensibilities" * 3, "road"]


def explained(inputs: dict[str, np.ndarray]) -> Attributions:
    """Attributions of -1 to 1 for each value of the inputs."""
    draw = np.random.default_rng(0)
    return Attributions(
        method="integrated gradients",
        inputs=list(inputs.values()),
        names=tuple(inputs),
        attributions=[draw.uniform(-1, 1, size=each.shape) for each in inputs.values()],
        elements=np.arange(ROWS) % 2,
        outputs=np.linspace(0.1, 0.9, ROWS),
        baseline_outputs=np.zeros(ROWS),
        scales=np.ones(ROWS),
        tolerance=1e-3,
        steps=np.full(ROWS, 64),
    )


DRAW = np.random.default_rng(1)
TOKENS = np.asarray([[1, 2, 3, 4, 5, 0]] * ROWS, np.int32)
PAGES = {
    "image": explained({"image": DRAW.uniform(size=(ROWS, 28, 28, 3))}),
    "table": explained({"x": DRAW.normal(size=(ROWS, 45)) * 1e6}),
    "text": explained({"tokens": TOKENS, "prices": DRAW.normal(size=(ROWS, 3))}),
}


def write(path: Path, name: str) -> None:
    features = [f"a_feature_with_a_long_name_{number}" for number in range(45)]
    labels = ["a class", "another class, of more words"]
    given = PAGES[name]
    given.to_html(
        path,
        labels=labels,
        features=features if name == "table" else (),
        tokens=WORDS if name == "text" else None,
    )


@pytest.mark.parametrize("name", list(PAGES))
@LOOKS
def test_a_page_fits_its_window_and_every_text_is_readable(
    page: report_browser.Page, tmp_path: Path, name: str, width: int, is_dark: bool
) -> None:
    path = tmp_path / f"{name}.html"
    write(path, name)
    opened(page, path, width=width, dark=is_dark)
    (tmp_path / f"{name}-{width}.png").write_bytes(page.screenshot())
    assert page.evaluate(HIDDEN_TEXTS) == []


def test_pictures_are_shown(page: report_browser.Page, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write(path, "image")
    opened(page, path, width=390)
    sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.width > 90])")
    assert sizes == [[28, True]] * 2 * ROWS


@pytest.mark.parametrize("width", [390, 1280])
def test_a_bar_is_as_long_as_its_attribution(
    page: report_browser.Page, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "page.html"
    write(path, "table")
    opened(page, path, width=width)
    row = np.asarray(PAGES["table"].attributions[0])[0]
    expected = np.sort(np.abs(row))[::-1][:20] / np.abs(row).max()
    found = page.evaluate(
        "[...document.querySelectorAll('figure:not(.wide) .bars .bar')]"
        ".slice(0, 20).map(bar => bar.getBoundingClientRect().width)"
    )
    assert np.asarray(found) / found[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_token_says_its_attribution(
    page: report_browser.Page, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "page.html"
    write(path, "text")
    opened(page, path, width=width)
    value = np.asarray(PAGES["text"].attributions[0])[0, 2]
    page.point(".tokens span:nth-of-type(3)", 0.5, 0.5, touch=width < 600)
    assert page.evaluate(TIP) == f"<b>crossed</b>: {value:.4f}"
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across <= inside
    assert page.errors == []


@LOOKS
def test_the_page_of_importances_fits_too(
    page: report_browser.Page, tmp_path: Path, width: int, is_dark: bool
) -> None:
    bars = [Bar(f"column {n}", n / 10, n / 11, n / 9) for n in range(50)]
    path = tmp_path / "page.html"
    text = page_of_importances("Importance", "Of 50 columns.", {"rows": "20"}, bars, "accuracy")
    path.write_text(text, "utf-8")
    opened(page, path, width=width, dark=is_dark)
    assert page.evaluate(HIDDEN_TEXTS) == []
    assert page.evaluate("document.querySelectorAll('.bar').length") == 40
