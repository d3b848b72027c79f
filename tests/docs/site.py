"""What the built site must be: `python -m tests.docs.site site`, in `make docs`.

No page may load anything from another host, and every public name must have its anchor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from tests.docs.public import public_names

_LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_NOT_LOADED = ("canonical", "next", "prev")  # relations of a <link> that a browser does not fetch


class _Page(HTMLParser):
    """Collects what a page loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        if tag in _LOADING and values.get("rel") not in _NOT_LOADED:
            self.loaded.append(values.get(_LOADING[tag]) or "")
        if "mermaid" in (values.get("class") or "").split():
            self.loaded.append("https: mermaid, which the theme loads from another host")


def problems(site: Path) -> Iterator[str]:
    """Yields what is wrong with a built site."""
    anchors: set[str] = set()
    for file in sorted(site.rglob("*.html")):
        page = _Page(file.read_text("utf-8"))
        anchors |= page.anchors
        for address in page.loaded:
            if address.startswith(("http:", "https:", "//")):
                yield f"{file.relative_to(site)} loads {address}"
    for file in sorted(site.rglob("*.css")):
        text = file.read_text("utf-8")
        if "url(http" in text or "url(//" in text or "@import" in text:
            yield f"{file.relative_to(site)} loads something from another host"
    for name in sorted(public_names() - anchors):
        yield f"{name} is in no page of the reference"


def main() -> int:
    """Returns 0 for a site without problems, 1 for one with some."""
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found or ["site: it loads nothing from another host; every name is there"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
