"""Fenced blocks of a Markdown page: what they are, and whether they can run."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RUN = ("python", "sh")
SHOWN = ("text", "", "diff", "json", "toml", "yaml", "ini", "html")

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (?P<reason>.+?) *-->$")
_FILE = re.compile(r"^ *<!-- file: (?P<name>\S+) *-->$")
_SET_UP = re.compile(r"^ *<!-- set-up, not shown$")
_TITLE = re.compile(r'title="([^"]+)"')
_INCLUDE = "--8<--"


@dataclass(frozen=True)
class Block:
    """One fenced block, or set-up code in a comment.

    Attributes:
        page: The page, relative to the root of the repository.
        line: Line of the page that `code` begins at, from 1.
        language: First word of the fence, perhaps ""; "python" for set-up code.
        code: The lines between the fences, without common indentation.
        title: The file that the block is written to, or None.
        reason: Why the block is not run, or None.
    """

    page: str
    line: int
    language: str
    code: str
    title: str | None = None
    reason: str | None = None

    @property
    def included(self) -> list[str]:
        """The files that the block includes, if it contains nothing else."""
        lines = self.code.splitlines()
        is_include = len(lines) > 2 and lines[0] == lines[-1] == _INCLUDE
        return lines[1:-1] if is_include else []

    @property
    def is_run(self) -> bool:
        """Whether the runner executes the block, or writes its file."""
        is_file = self.title is not None
        return (self.language in RUN or is_file) and self.reason is None and not self.included

    def problem(self) -> str | None:
        """Returns why the block can neither run nor be left out; None if all is well."""
        if self.language not in (*RUN, *SHOWN):
            known = ", ".join(filter(None, (*RUN, *SHOWN)))
            return f"language must be one of {known}, or none. Received: {self.language!r}"
        missing = [name for name in self.included if not (ROOT / name).is_file()]
        if missing:
            return f"includes a file that does not exist: {missing[0]}"
        if self.language == "python" and not self.included:
            try:
                compile(self.code, self.page, "exec")
            except SyntaxError as error:
                return f"is not Python: {error.msg}"
        return None


def pages(names: Sequence[str] = ()) -> list[Path]:
    """Returns the named pages, or README.md and every page of docs/."""
    if names:
        return [ROOT / name for name in names]
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Returns the blocks of a page in order.

    Raises:
        ValueError: If a block or a comment with set-up code is not closed.
    """
    name = page.resolve().relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    return parsed(page.read_text("utf-8"), name)


def parsed(text: str, page: str) -> list[Block]:
    """Returns the blocks of a page's text in order; see `blocks_of`."""
    lines = text.splitlines()
    blocks: list[Block] = []
    reason: str | None = None
    file: str | None = None
    i = 0
    while i < len(lines):
        fence, comment = _FENCE.match(lines[i]), _SET_UP.match(lines[i])
        if fence or comment:
            closes = r" *-->" if fence is None else rf" *`{{{len(fence['ticks'])},}} *"
            end = next((j for j in range(i + 1, len(lines)) if re.fullmatch(closes, lines[j])), 0)
            if not end:
                raise ValueError(f"{page}, line {i + 1}: the block is not closed.")
            info = fence["info"].strip() if fence else "python"
            title = _TITLE.search(info)
            blocks.append(
                Block(
                    page,
                    i + 2,
                    info.split(" ")[0],
                    textwrap.dedent("\n".join(lines[i + 1 : end]) + "\n"),
                    title[1] if title else file,
                    reason if fence else None,
                )
            )
            reason, file, i = None, None, end + 1
            continue
        if lines[i].strip():
            not_run, named = _NOT_RUN.match(lines[i]), _FILE.match(lines[i])
            reason = not_run["reason"] if not_run else None
            file = named["name"] if named else None
        i += 1
    return blocks
