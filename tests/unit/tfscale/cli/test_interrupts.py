"""Ctrl-C ends a command with status 130 and without a traceback, while it is imported too."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.programs import ROOT, own_environment

AT_IMPORT = """
import os, signal, sys

wanted, entry, *arguments = sys.argv[1:]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass  # Python raises it between two instructions
        return None

sys.meta_path.insert(0, Interrupt())
sys.argv = ["tfscale", *arguments]
if entry == "module":
    import runpy
    runpy.run_module("tfscale", run_name="__main__", alter_sys=True)
else:  # what pip writes for the command `tfscale`
    from tfscale.__main__ import main
    sys.exit(main())
"""
LAUNCH = ("launch", "--num_workers=1", "--", "true")


@pytest.mark.parametrize("entry", ["module", "script"])
@pytest.mark.parametrize(
    "module",
    [
        "tfscale.cli",  # the first of all
        "argparse",
        "strategies.extension",
        "tfscale.cli.errors",
        "tfscale.launch.command",
        "tfscale.launch.running",  # of the command itself
    ],
)
def test_ctrl_c_during_an_import_ends_with_130_and_prints_nothing(module: str, entry: str) -> None:
    done = subprocess.run(
        # -S: what site-packages import is not ours.
        [sys.executable, "-S", "-c", AT_IMPORT, module, entry, *LAUNCH],
        env=own_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_while_the_help_of_all_commands_is_imported_ends_with_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "tfscale", "--help"],
        env=own_environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith(" tfscale.cli.errors\n"):
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
    assert process.returncode == 130
    assert [line for line in said.splitlines() if not line.startswith("import time:")] == []
