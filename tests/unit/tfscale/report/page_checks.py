"""What every page is checked for in a browser, as expressions that list what is wrong."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tfscale.report.report_browser import Page

# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
FAINT_TEXTS = """
(() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], back) => [r, g, b].map((c, i) => c * a + back[i] * (1 - a));
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(
      c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(getComputedStyle(e).backgroundColor);
    return layers.reverse().map(parse).reduce((back, layer) => over(layer, back), [255, 255, 255]);
  };
  return [...document.querySelectorAll("main *, body > .tip")].filter(element => {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    const style = getComputedStyle(element);
    if (!own || element.closest("svg") || style.visibility === "hidden") return false;
    if (!element.getClientRects().length) return false;
    const back = behind(element), text = over(parse(style.color), back);
    const [dark, light] = [luminance(text), luminance(back)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05) < 4.5;
  }).map(element => `${element.className}: ${element.textContent.slice(0, 40)}`);
})()
"""
TIP = "document.querySelector('.plot .tip:not([hidden])')?.textContent ?? ''"


def opened(page: Page, path: Path, *, width: int, dark: bool = False) -> None:
    """Opens a page; fails if it is wider than its window, has faint texts, loads or complains."""
    page.requests.clear()
    page.errors.clear()
    page.show(path, width=width, dark=dark)
    across, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across <= inside == width
    assert page.evaluate(FAINT_TEXTS) == []
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
