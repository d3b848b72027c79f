"""What the site adds to mkdocs: help of the commands, links into the repository, examples."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]

_HELP = re.compile(r"^<!-- help: ([\w ]+) -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+[^)#\s]+)\)")
_DEADLINE = 60.0


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Puts in what a command prints as its help, and resolves links out of docs/."""
    markdown = _HELP.sub(lambda match: _help_of(match[1]), markdown)
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def resolved(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        if path.startswith("docs/") or not (ROOT / path).exists():
            return match[0]  # a page of the site, or an error for mkdocs to report
        base = config.extra["repository"]
        return f"[{match[1]}]({base}/blob/main/{path})"

    return _LINK.sub(resolved, markdown)


def _help_of(command: str) -> str:
    """Returns a block with `tfscale COMMAND --help`, paths of the home folder as `~`."""
    done = subprocess.run(
        [sys.executable, "-m", "tfscale", *command.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=True,
    )
    # argparse breaks long lines, perhaps inside the path.
    home = r"\s*".join(re.escape(letter) for letter in str(Path.home()))
    return f"```text\n{re.sub(home + '(?=/)', '~', done.stdout)}```"


class ExamplesAsCode(griffe.Extension):
    """Shows an `Example:` section as code; griffe knows only the plural of its name."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section in the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
