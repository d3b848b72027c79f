"""What a command shows while it runs, in a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from tests.programs import ROOT, own_environment

PROGRAM = """
import sys
from tfscale.cli.progress import progress
with progress("tfscale verify") as say:
    say("one device: 20 steps, [bold] and /a/path/" + "x" * 120)
    print("a line of the user's", flush=True)
    sys.stdin.readline()
    say("2 replicas: hf_token=s3cret")
print("the result")
print("rich" in sys.modules)
"""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CLOCK = r"[0-9]:[0-9]{2}:[0-9]{2}"
LATER = rf"(?!0:00:00){CLOCK}"
"""The clock, at any time after its start: a busy machine does not show every second."""
LINES = [
    "tfscale verify: one device: 20 steps, [bold] and /a/path/" + "x" * 120,
    "tfscale verify: 2 replicas: hf_token=***",
]


def in_a_terminal(until: str, term: str = "xterm-256color", **environment: str) -> tuple[str, str]:
    """Runs the program with standard error in a terminal, its phase until the pattern is shown.

    Returns what the terminal showed, and standard output.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=own_environment(TERM=term, **environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    assert process.stdin is not None
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # the program has ended
            break
        if not chunk:
            break
        shown += chunk
        text = ESCAPE.sub("", shown.decode(errors="ignore"))
        if re.search(until, text) and not process.stdin.closed:
            process.stdin.close()
    os.close(ours)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    assert process.wait(240) == 0
    return shown.decode(), output


def test_without_a_terminal_the_lines_are_plain_and_rich_is_not_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=own_environment(FORCE_COLOR="1", TERM="xterm"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stderr.splitlines() == LINES
    assert done.stdout.splitlines() == ["a line of the user's", "the result", "False"]


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    shown, _ = in_a_terminal(re.escape(LINES[0]), "dumb")
    assert shown.splitlines() == LINES


def test_in_a_terminal_a_clock_runs_below_the_lines_and_is_gone_at_the_end() -> None:
    shown, output = in_a_terminal(LATER, COLUMNS="300")
    assert re.search(LATER, shown)
    left = [line for line in ESCAPE.sub("", shown.replace("\r", "\n")).splitlines() if line.strip()]
    assert [line for line in left if not re.search(CLOCK, line)] == LINES
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))
    # Standard output goes where it is redirected to, and nowhere else.
    assert output.splitlines() == ["a line of the user's", "the result", "True"]


def test_no_color_leaves_colours_out() -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert colour.search(in_a_terminal(LATER)[0])
    assert not colour.search(in_a_terminal(LATER, NO_COLOR="1")[0])


def test_the_help_needs_neither_rich_nor_jinja2() -> None:
    program = (
        "import sys\nfrom tfscale.__main__ import main\n"
        "try:\n    main(['verify', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'rich', 'jinja2', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.splitlines()[-1] == "[]"
