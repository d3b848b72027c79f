"""README.md and docs/: every block runs or says why not, every public name has its entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strategies.keras_support.patches import PATCHES
from tests.docs.blocks import ROOT, Block, blocks_of, pages, parsed
from tests.docs.public import documented_commands, documented_names, public_names
from tfscale.bench.command import KINDS
from tfscale.cli.program import COMMANDS
from tfscale.data_tools.command import TOOLS


def only(text: str) -> Block:
    (block,) = parsed(text, "page.md")
    return block


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    problems = [f"line {block.line}: {block.problem()}" for block in blocks_of(page)]
    assert [problem for problem in problems if not problem.endswith(": None")] == []


def test_the_reference_documents_every_public_name_once_and_no_other() -> None:
    assert sorted(documented_names()) == sorted(public_names())


def test_the_reference_shows_the_help_of_every_command() -> None:
    kinds, tools = (f"bench {kind}" for kind in KINDS), (f"data {tool}" for tool in TOOLS)
    commands = [*COMMANDS, *kinds, *tools]
    assert sorted(documented_commands()) == sorted(commands)


def test_every_example_is_shown_from_its_file() -> None:
    shown = [name for page in pages() for block in blocks_of(page) for name in block.included]
    scripts = (ROOT / "recipes" / "examples").glob("[!_]*.py")
    assert sorted(set(shown)) == sorted(path.relative_to(ROOT).as_posix() for path in scripts)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^ +- .*?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    found = [page.relative_to(ROOT / "docs").as_posix() for page in pages()[1:]]
    assert sorted(listed) == sorted(found)


def test_a_block_is_read_with_its_line_and_language() -> None:
    block = only("a\n\n```python\nx = 1\ny = 2\n```\n")
    assert (block.line, block.language, block.code) == (4, "python", "x = 1\ny = 2\n")
    assert block.is_run


def test_a_marker_leaves_out_the_next_block_only() -> None:
    marked, run = parsed(
        "<!-- not run: needs a TPU -->\n\n```sh\na\n```\n```sh\nb\n```\n", "page.md"
    )
    assert (marked.reason, marked.is_run) == ("needs a TPU", False)
    assert (run.reason, run.is_run) == (None, True)


def test_a_marker_does_not_reach_over_text() -> None:
    assert only("<!-- not run: needs a TPU -->\ntext\n```sh\na\n```\n").is_run


def test_set_up_code_in_a_comment_is_run() -> None:
    block = only("<!-- set-up, not shown\nx = 1\n-->\n")
    assert (block.language, block.code, block.line, block.is_run) == ("python", "x = 1\n", 2, True)


@pytest.mark.parametrize(
    "opening", ['```python title="train.py"', "<!-- file: train.py -->\n```python"]
)
def test_a_block_with_a_name_is_a_file(opening: str) -> None:
    assert only(f"{opening}\nx = 1\n```\n").title == "train.py"


def test_a_block_in_a_list_loses_its_indentation() -> None:
    assert only("* a\n\n    ```python\n    if x:\n        y\n    ```\n").code == "if x:\n    y\n"


def test_a_fence_within_a_longer_fence_is_text() -> None:
    assert only("````text\n```python\n```\n````\n").code == "```python\n```\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("```bash\nx\n```\n", "language must be one of", id="another shell"),
        pytest.param("```python\nx = (\n```\n", "is not Python", id="syntax"),
        pytest.param(
            "```python\n--8<--\nno/file.py\n--8<--\n```\n", "includes a file that", id="include"
        ),
    ],
)
def test_what_can_neither_run_nor_be_left_out_is_named(text: str, problem: str) -> None:
    assert problem in (only(text).problem() or "")


@pytest.mark.parametrize("text", ["```python\nx\n", "<!-- set-up, not shown\nx\n"])
def test_a_block_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md, line 1: the block is not closed"):
        parsed(text, "page.md")


def test_the_page_on_architecture_names_every_patch() -> None:
    text = (ROOT / "docs" / "concepts" / "architecture.md").read_text("utf-8")
    targets = [patch.target.partition(":")[2] for patch in PATCHES]
    named = [
        f"`{target}`" in text or f"`.{target.rpartition('.')[2]}`" in text for target in targets
    ]
    assert [target for target, is_named in zip(targets, named, strict=True) if not is_named] == []
