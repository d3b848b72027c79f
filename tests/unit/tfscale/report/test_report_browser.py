"""The page as a browser shows it, at the width of a phone and of a desktop.

`make browser-test` installs the browser that these need; without one they are skipped.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.unit.tfscale.report import report_browser, report_runs
from tests.unit.tfscale.report.test_report_page import hostile
from tfscale.report.page import write_report

pytestmark = pytest.mark.skipif(
    report_browser.find() is None, reason="no browser: make browser-test installs one and runs this"
)

RUNS = {"ordinary": report_runs.ordinary(), "rough": report_runs.rough(), "hostile": hostile()}
WIDTHS = (375, 1280)

# Elements whose text a reader should see but cannot: without a size, cut off by their edge, or
# outside the window. Elements in a box that scrolls or is folded away are left out.
HIDDEN_TEXTS = """
[...document.querySelectorAll("main *")].filter(element => {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!own || element.closest(".scroll, details, svg")) return false;
  if (getComputedStyle(element).visibility === "hidden") return false;
  const box = element.getBoundingClientRect();
  return box.width < 1 || box.height < 8 || box.left < 0 || box.right > innerWidth + 0.5 ||
    element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display === "block";
}).map(element => `${element.tagName} ${element.className}: ${element.textContent.slice(0, 40)}`)
"""

# Neighbouring labels of an axis that run into each other.
OVERLAPS = """
[...document.querySelectorAll(".x, .y")].flatMap(axis => {
  const boxes = [...axis.querySelectorAll("span")].map(s => s.getBoundingClientRect());
  return boxes.slice(1).filter((box, i) =>
    axis.className === "x" ? box.left < boxes[i].right : box.bottom > boxes[i].top + 2
  ).map(() => axis.textContent);
})
"""


def colours(png: bytes) -> dict[tuple[int, int, int], int]:
    """Counts the colours of a PNG of 8 bits without a palette (ISO/IEC 15948, filters 0 to 4)."""
    packed, position = b"", 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind = png[position + 4 : position + 8]
        body = png[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0)
            channels = {2: 3, 6: 4}[colour_type]
        packed += body if kind == b"IDAT" else b""
        position += length + 12
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1).astype(np.int64)
    before = np.zeros((width, channels), np.int64)
    counted: dict[tuple[int, int, int], int] = {}
    for line in raw:
        filtered = line[1:].reshape(width, channels)
        here = unfiltered(int(line[0]), filtered, before)
        found, times = np.unique(here[:, :3], axis=0, return_counts=True)
        for (red, green, blue), count in zip(found.tolist(), times.tolist(), strict=True):
            counted[red, green, blue] = counted.get((red, green, blue), 0) + count
        before = here
    return counted


def unfiltered(kind: int, line: np.ndarray, above: np.ndarray) -> np.ndarray:
    if kind == 0:
        return line
    if kind == 1:
        return np.asarray(np.cumsum(line, axis=0) % 256)
    if kind == 2:
        return np.asarray((line + above) % 256)
    here = np.zeros_like(line)
    left = corner = np.zeros(line.shape[1], np.int64)
    for x in range(len(line)):
        up = above[x]
        if kind == 3:
            guess = (left + up) // 2
        else:
            base = left + up - corner
            to_left, to_up, to_corner = abs(base - left), abs(base - up), abs(base - corner)
            guess = np.where(to_up <= to_corner, up, corner)
            guess = np.where((to_left <= to_up) & (to_left <= to_corner), left, guess)
        left = here[x] = (line[x] + guess) % 256
        corner = up
    return here


@pytest.mark.parametrize("name", list(RUNS))
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_its_window_and_every_text_is_visible(
    page: report_browser.Page, tmp_path: Path, name: str, width: int
) -> None:
    path = tmp_path / f"{name}.html"
    write_report(RUNS[name], path)
    page.requests.clear()
    page.show(path, width=width)
    (tmp_path / f"{name}-{width}.png").write_bytes(page.screenshot())
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert inside == width
    assert across <= inside
    assert page.evaluate(HIDDEN_TEXTS) == []
    assert page.evaluate(OVERLAPS) == []
    assert set(page.requests) == {path.as_uri()}
    charts = [*RUNS[name].curves, *{key.removeprefix("val_") for key in RUNS[name].history}]
    assert page.evaluate("document.querySelectorAll('.plot > svg').length") == len(charts)


@pytest.mark.parametrize(
    ("is_dark", "card", "line"),
    [
        pytest.param(False, (255, 255, 255), (0x0B, 0x62, 0xC4), id="light"),
        pytest.param(True, (0x17, 0x1B, 0x22), (0x6C, 0xB0, 0xFF), id="dark"),
    ],
)
def test_a_chart_is_drawn_in_the_colours_of_its_scheme(
    page: report_browser.Page,
    tmp_path: Path,
    is_dark: bool,
    card: tuple[int, int, int],
    line: tuple[int, int, int],
) -> None:
    path = tmp_path / "run.html"
    write_report(report_runs.ordinary(), path)
    page.show(path, width=375, dark=is_dark)
    counted = colours(page.screenshot(".plot > svg"))
    # A line of 2 pixels and 280 across, its dots and its smooth edges; most of the rest is empty.
    assert counted.get(line, 0) > 200
    assert counted.get(card, 0) > sum(counted.values()) / 2


def test_a_large_confusion_scrolls_inside_its_box(
    page: report_browser.Page, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    write_report(report_runs.rough(), path)
    page.show(path, width=375)
    box = "document.querySelector('.beside .scroll')"
    wide, seen, right = page.evaluate(
        f"[{box}.scrollWidth, {box}.clientWidth, {box}.getBoundingClientRect().right]"
    )
    assert wide > 5 * seen
    assert right <= 375
    # The name of the class stays beside its counts while they move.
    page.evaluate(f"{box}.scrollTo(1000, 1000)")
    head = "document.querySelector('.confusion tbody th').getBoundingClientRect().left"
    assert page.evaluate(f"{box}.scrollLeft") == 1000
    assert page.evaluate(f"{head} - {box}.getBoundingClientRect().left") < 2


def test_what_a_user_wrote_never_runs(page: report_browser.Page, tmp_path: Path) -> None:
    # Even if it were not escaped: the page forbids every script.
    path = tmp_path / "run.html"
    text = "<!doctype html><body>" + "<script>document.title = 'ran'</script>"
    write_report(report_runs.ordinary(), path)
    path.write_text(path.read_text("utf-8").replace("<main>", f"<main>{text}"), encoding="utf-8")
    page.show(path, width=375)
    assert page.evaluate("document.title") == "image_classification: digits"
