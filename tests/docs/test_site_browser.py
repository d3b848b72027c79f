"""The site as a browser shows it, at the width of a phone and of a desktop.

`make browser-test` installs the browser and mkdocs; without them this is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_site import built
from tests.unit.tfscale.report import report_browser

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)

# Images of the page that were not drawn.
MISSING_IMAGES = "[...document.images].filter(i => i.naturalWidth === 0).map(i => i.src)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def browser() -> Iterator[report_browser.Page]:
    program = report_browser.find()
    assert program is not None
    with report_browser.browser(program) as opened:
        yield opened


@pytest.mark.parametrize("width", [375, 1280])
def test_no_page_scrolls_sideways_or_asks_another_host(
    browser: report_browser.Page, site: Path, width: int
) -> None:
    pages = sorted(site.rglob("index.html"))
    wrong = []
    for page in pages:
        browser.show(page, width=width)
        if browser.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{page.parent.name} scrolls sideways")
        wrong += [f"{page.parent.name} misses {src}" for src in browser.evaluate(MISSING_IMAGES)]
    wrong += [url for url in browser.requests if url.startswith(("http:", "https:"))]
    assert len(pages) > 30
    assert wrong == []
