"""The runner of documentation blocks, on pages whose outcome is known."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.docs.blocks import parsed
from tests.docs.runner import Outcome, run_page


def run(text: str, seconds: float = 240.0) -> list[Outcome]:
    programs = Path(sys.executable).parent
    return run_page(parsed(text, "page.md"), programs, seconds=seconds)


def errors(text: str, seconds: float = 240.0) -> list[str]:
    return [outcome.error for outcome in run(text, seconds) if outcome.error is not None]


def test_python_blocks_of_a_page_share_one_namespace() -> None:
    assert errors("```python\nx = 3\n```\n```python\nassert x == 3\n```\n") == []


def test_pages_share_nothing() -> None:
    run("```python\nx = 3\n```\n")
    assert "NameError" in errors("```python\nx\n```\n")[0]


def test_shell_blocks_see_the_files_and_the_python_of_the_page() -> None:
    page = '```python title="a.py"\nprint(1)\n```\n```sh\ntest "$(python a.py)" = 1\n```\n'
    assert errors(page) == []


def test_python_imports_the_files_of_the_page() -> None:
    page = '```python title="mine.py"\nx = 1\n```\n```python\nimport mine\n```\n'
    assert errors(page) == []


def test_a_page_begins_in_an_empty_folder() -> None:
    assert errors('```sh\ntest -z "$(ls -A)"\n```\n') == []


def test_a_failure_names_the_line_of_the_page_and_ends_it() -> None:
    (failed,) = run("a\n\n```python\nx = 1\nx / 0\n```\n```sh\ntrue\n```\n")
    assert 'File "page.md", line 5' in (failed.error or "")
    assert "ZeroDivisionError" in (failed.error or "")


def test_a_failing_shell_command_is_shown_with_what_it_printed() -> None:
    assert errors("```sh\necho no such thing\nexit 3\n```\n") == ["no such thing\nexit status 3"]


def test_a_block_that_does_not_end_is_ended_at_its_deadline() -> None:
    python = "```python\nimport time\ntime.sleep(600)\n```\n"
    assert errors(python, seconds=1.0) == ["the block did not end within 1 s"]
    assert errors("```sh\nsleep 600\n```\n", seconds=1.0) == ["the block did not end within 1 s"]


def test_a_python_process_that_dies_is_named_with_its_status() -> None:
    (error,) = errors("```python\nimport os\nos._exit(7)\n```\n")
    assert error == "the page's Python process ended with status 7"


def test_functions_of_a_block_have_their_source() -> None:
    page = "```python\nimport inspect\n\n\ndef f():\n    pass\n\n\ninspect.getsource(f)\n```\n"
    assert errors(page) == []
