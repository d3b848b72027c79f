"""The public names: what the reference must document."""

from __future__ import annotations

import ast
import re

from tests.docs.blocks import ROOT

REFERENCE = ROOT / "docs" / "reference"

_DOCUMENTED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_HELP = re.compile(r"^<!-- help: ([\w ]+) -->$", re.MULTILINE)


def public_names() -> set[str]:
    """Returns the dotted names in `__all__` of the public modules.

    These are `strategies`, `tfscale`, the modules that `tfscale.__all__` names, and
    `tfscale.checkpoints`. A module within one of these is one name: the reference shows it whole.
    """
    top = _exported("tfscale")
    modules = {f"tfscale.{name}" for name in top if _source(f"tfscale.{name}") is not None}
    public = {f"tfscale.{name}" for name in top} - modules
    for module in ("strategies", "tfscale.checkpoints", *modules):
        public |= {f"{module}.{name}" for name in _exported(module)}
    return public


def documented_names() -> list[str]:
    """Returns the names that pages of the reference document, with repetitions."""
    return [name for text in _reference() for name in _DOCUMENTED.findall(text)]


def documented_commands() -> list[str]:
    """Returns the subcommands of `tfscale` whose help the reference shows."""
    return [name for text in _reference() for name in _HELP.findall(text)]


def _reference() -> list[str]:
    return [page.read_text("utf-8") for page in sorted(REFERENCE.glob("*.md"))]


def _source(module: str) -> str | None:
    path = ROOT.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file.read_text("utf-8")
    return None


def _exported(module: str) -> list[str]:
    """Reads `__all__` without an import: most of these modules load TensorFlow."""
    for node in ast.parse(_source(module) or "").body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no `__all__`")
