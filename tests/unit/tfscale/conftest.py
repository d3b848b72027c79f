"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.tfscale.report import report_browser


@pytest.fixture(scope="module")
def page() -> Iterator[report_browser.Page]:
    """A page of the real browser; modules that use it are skipped where there is none."""
    program = report_browser.find()
    assert program is not None
    with report_browser.browser(program) as opened:
        yield opened
