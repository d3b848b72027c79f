"""Flags under headings: for `--help` and for the record of a run.

with flag_sections.section("training"):
    flags.DEFINE_integer("train_epochs", 40, "Passes over the training data.")
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterator, Sequence

from absl import flags

from tfscale.files import masked

FLAGS = flags.FLAGS
WIDTH = 80

_SECTIONS: dict[str, list[str]] = {}
_SHOWN_ONLY: set[str] = set()
_VALUES = {
    "int": "INTEGER",
    "float": "NUMBER",
    "string": "TEXT",
    "comma separated list of strings": "TEXT,TEXT,...",
}


@contextlib.contextmanager
def section(title: str, *known: str) -> Iterator[None]:
    """Puts the flags that are defined inside under a heading.

    Args:
        title: The heading. Headings appear in the order in which they are first used.
        *known: Flags that absl has defined, to be shown in this section too.
    """
    before = set(FLAGS)
    yield
    defined = [name for name in FLAGS if name not in before]
    _SECTIONS.setdefault(title, []).extend([*defined, *known])
    _SHOWN_ONLY.update(known)


def leave_out(names: Sequence[str]) -> None:
    """Removes flags: a recipe may use most flags of a section, but not all.

    Args:
        names: Flags that a section defined.
    """
    for name in names:
        delattr(FLAGS, name)
        for section_names in _SECTIONS.values():
            if name in section_names:
                section_names.remove(name)


def values() -> dict[str, object]:
    """Returns every flag defined in a section and its value, for the record of a run.

    Secrets are masked, see `tfscale.files.secret_masking`.
    """
    names = [name for section_names in _SECTIONS.values() for name in section_names]
    return {name: masked(FLAGS[name].value, name=name) for name in names if name not in _SHOWN_ONLY}


def sections() -> dict[str, tuple[str, ...]]:
    """Returns the names of the flags under each heading, in the order of their definition."""
    return {title: tuple(names) for title, names in _SECTIONS.items()}


def help_text(synopsis: str) -> str:
    """Returns the text of `--help`, at most `WIDTH` columns wide.

    Args:
        synopsis: What the program does and how to start it; not wrapped.
    """
    paragraphs = [synopsis.strip()]
    for title, names in _SECTIONS.items():
        paragraphs.append("\n".join([f"{title}:", *(_describe(FLAGS[name]) for name in names)]))
    return "\n\n".join(paragraphs)


def _describe(flag: flags.Flag) -> str:
    if flag.boolean:
        head, default = (f"  --[no]{flag.name}", "true") if flag.default else (_bare(flag), None)
    else:
        choices = getattr(flag.parser, "enum_values", None)
        head = f"{_bare(flag)}={'|'.join(choices or [_VALUES[flag.flag_type()]])}"
        default = str(flag.default) if flag.default not in (None, "") else None
    indent = " " * 6
    if default is not None:
        default = f"(default: {default})"
        fits = len(head) + 2 + len(default) <= WIDTH
        head += f"  {default}" if fits else f"\n{indent}{default}"
    # absl puts the choices in front of the text; `head` has them already.
    text = re.sub(r"^<\S+>: ", "", flag.help)
    text = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"{head}\n{text}"


def _bare(flag: flags.Flag) -> str:
    return f"  --{flag.name}"
