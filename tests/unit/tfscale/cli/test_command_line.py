from __future__ import annotations

import importlib
import subprocess
from importlib import metadata

import pytest

from tests.programs import completed
from tfscale import __main__ as command_line


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
        "from tfscale.__main__ import COMMANDS, main\n"
        "main(['launch', '--num_workers=1', '--', 'true'])\n"
        "print([name for name, module in COMMANDS.items() if module in sys.modules])"
    )
    assert child("-c", code).stdout == "['launch']\n"


@pytest.mark.parametrize("name", sorted(command_line.COMMANDS))
def test_the_help_of_every_command_has_a_summary_and_examples(name: str) -> None:
    module = importlib.import_module(command_line.COMMANDS[name])
    assert module.SUMMARY in " ".join(tfscale("--help").stdout.split())
    done = tfscale(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: tfscale {name} ")
    assert "examples:" in done.stdout
    assert "exit status: 0 " in done.stdout


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


def test_the_version_is_that_of_the_installed_package() -> None:
    try:
        version = metadata.version("tfscale")
    except metadata.PackageNotFoundError:
        version = "(source checkout, not installed)"
    done = tfscale("--version")
    assert (done.returncode, done.stdout) == (0, f"tfscale {version}\n")
