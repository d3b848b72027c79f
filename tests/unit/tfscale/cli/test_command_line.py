from __future__ import annotations

import importlib
import json
import subprocess
from importlib import metadata
from typing import Any

import pytest

from tests.programs import completed
from tfscale.cli import program


def tfscale(*arguments: str) -> subprocess.CompletedProcess[str]:
    return child("-m", "tfscale", *arguments)


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return completed(*arguments, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["no-such-command"],
        ["launch", "--help"],
        ["launch", "--num_workers=1", "--", "echo", "hello"],
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from tfscale.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    done = child("-c", code, *arguments)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_only_the_chosen_command_is_imported() -> None:
    code = (
        "import sys\n"
        "from tfscale.__main__ import main\n"
        "from tfscale.cli.program import COMMANDS\n"
        "main(['launch', '--num_workers=1', '--', 'true'])\n"
        "print([name for name, module in COMMANDS.items() if module in sys.modules])"
    )
    assert child("-c", code).stdout == "['launch']\n"


@pytest.fixture(scope="module")
def helps() -> dict[str, list[Any]]:
    """The exit status and the help of each command, and of "": all commands; from one process."""
    code = (
        "import contextlib, io, json, sys\n"
        "from tfscale.__main__ import main\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as printed:\n"
        "        try: main([*filter(None, [name]), '--help'])\n"
        "        except SystemExit as end: found[name] = end.code, printed.getvalue()\n"
        "print(json.dumps(found))"
    )
    done = child("-c", code, "", *program.COMMANDS)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", sorted(program.COMMANDS))
def test_the_help_of_every_command_has_a_summary_and_examples(
    name: str, helps: dict[str, list[Any]]
) -> None:
    module = importlib.import_module(program.COMMANDS[name])
    assert module.SUMMARY in " ".join(helps[""][1].split())
    assert not module.SUMMARY.split()[0].endswith("s"), "commands are in the imperative"
    status, text = helps[name]
    assert status == 0
    assert text.startswith(f"usage: tfscale {name} ")
    assert "examples:" in text
    assert "exit status: 0 " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a command is required: doctor, launch"),
        (["train"], "invalid choice: 'train'"),
        (["--num_workers=2"], "a command is required: doctor, launch"),
        (["doctor", "--", "ls"], "unknown arguments: ls"),
        (["doctor", "--no-such-flag"], "unknown arguments: --no-such-flag"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    done = tfscale(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["launch", "--num_workers=0", "--", "ls"], "Received: '0'. Example: 1."),
        (["launch", "--max_restarts=-1", "--", "ls"], "Received: '-1'. Example: 0."),
        (["preflight", "mine", "--target=h100"], "v5e:2x2, v4:2x2x1, v5litepod-4."),
    ],
)
def test_an_error_and_the_pointer_to_the_help_are_two_sentences(
    arguments: list[str], end: str
) -> None:
    assert tfscale(*arguments).stderr.endswith(f"{end} See `tfscale {arguments[0]} --help`.\n")


@pytest.mark.parametrize("width", ["40", "60", "80", "100", "120"])
def test_the_help_of_preflight_keeps_an_example_of_flags_in_one_line(
    width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = tfscale("preflight", "--help").stdout
    assert '--flags="--dataset=digits --dropout=0.1"\n' in shown
    assert "v5litepod-8, v6e-8" in " ".join(shown.split())


def test_the_version_is_that_of_the_installed_package() -> None:
    try:
        version = metadata.version("tfscale")
    except metadata.PackageNotFoundError:
        version = "(source checkout, not installed)"
    done = tfscale("--version")
    assert (done.returncode, done.stdout) == (0, f"tfscale {version}\n")
