"""The TPU memory of training steps, compiled without a TPU.

python -m tests.benchmarks.tpu_memory

Runs `tfscale preflight --aot` for each step and chip, and writes the table in
docs/howto/preflight.md; with `--only=transformer --target=v5e:2x2` only some lines. A line takes a
minute or several, or seconds if its step has been compiled before.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tables

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "howto" / "preflight.md"
BEGIN = "<!-- memory: begin, written by python -m tests.benchmarks.tpu_memory -->"
END = "<!-- memory: end -->"
HEAD = (
    "| step | target | examples a replica | parameters | optimizer | temporaries | all |",
    "|---|---|---|---|---|---|---|",
)
MODELS = "tests.unit.tfscale.preflight.ahead_of_time.aot_models"
TARGETS = ("v5e:1x1", "v5e:2x2", "v6e:1x1")
MIB = 2**20


@dataclass(frozen=True)
class Step:
    """A training step and what it is compiled for.

    Attributes:
        name: In the table.
        subject: As `tfscale preflight` takes it.
        flags: Of the recipe, separated by spaces.
        rows: Examples of one replica; None if the flags say how many.
        targets: The chips.
    """

    name: str
    subject: str
    flags: str = ""
    rows: int | None = None
    targets: tuple[str, ...] = TARGETS


STEPS = (
    Step("digits recipe, float32", "recipes.image_classification", "--precision=float32"),
    Step("digits recipe, bfloat16", "recipes.image_classification", "--precision=mixed_bfloat16"),
    Step("linear regression recipe, float32", "recipes.linear_regression", "--precision=float32"),
    Step(
        "recommendation recipe, float32",
        "recipes.recommendation",
        "--precision=float32 --num_shards=1",
    ),
    Step("transformer, float32", f"{MODELS}:transformer", rows=8),
    Step("transformer, bfloat16", f"{MODELS}:transformer_bfloat16", rows=8),
    Step(
        "transformer, 512 sequences",
        f"{MODELS}:transformer_large_batch",
        rows=512,
        targets=("v5e:1x1", "v6e:1x1"),
    ),
)


def asked(step: Step, target: str, environment: str | None) -> dict[str, Any]:
    """Returns what `tfscale preflight --aot --json` prints for a step and a target.

    Raises:
        RuntimeError: If it prints nothing.
    """
    chips = [int(side) for side in target.partition(":")[2].split("x")]
    command = [sys.executable, "-m", "tfscale", "preflight", step.subject, f"--target={target}"]
    command += ["--aot", "--json"]
    if step.flags:
        command.append(f"--flags={step.flags}")
    if step.rows is not None:
        command.append(f"--batch_size={step.rows * chips[0] * chips[1]}")
    if environment is not None:
        command.append(f"--environment={environment}")
    print(shlex.join(command[1:]), flush=True)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["ahead_of_time"] if done.stdout else None
    if found is None:
        raise RuntimeError(f"{step.name} was not compiled for {target}: status {done.returncode}")
    return dict(found)


def line_of(step: Step, found: dict[str, Any]) -> str:
    """Returns the line of the table; sizes in MiB."""
    cells = [step.name, found["target"], f"{found['examples_per_replica']:,}"]
    memory, short = found["memory"], found["out_of_memory"]
    if memory is not None:
        sizes = (memory[name] for name in ("parameters", "optimizer", "temporaries", "total"))
        cells += [f"{size / MIB:,.1f}" for size in sizes]
    elif short is not None:
        needed, offered = (short[f"{name}_bytes"] / MIB for name in ("needed", "offered"))
        layers = [buffer["layer"] for buffer in short["largest"]]
        worst = next((layer for layer in layers if not layer.startswith("(")), "no layer named")
        cells += ["", "", f"{needed:,.0f}", f"refused: more than {offered:,.0f}; {worst}"]
    else:
        cells += ["", "", "", f"refused: {found['refusal'][:80]}"]
    return f"| {' | '.join(tables.escaped(cell) for cell in cells)} |"


def main() -> None:
    """Compiles what the flags name, and replaces the lines of the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="steps whose name contains it")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--environment", metavar="DIR", help="as of tfscale preflight")
    arguments = parser.parse_args()
    for step in (step for step in STEPS if arguments.only in step.name):
        for target in step.targets:
            if arguments.target not in (None, target):
                continue
            found = asked(step, target, arguments.environment)
            line = line_of(step, found)
            print(line, flush=True)
            before, block, after = tables.around(DOCUMENT.read_text("utf-8"), BEGIN, END)
            old = [row for row in block.splitlines() if row.startswith("| ") and row != HEAD[0]]
            lines = tables.renewed(
                old, [line], lambda row: row.split(" | ")[0] + row.split(" | ")[1]
            )
            compilers = ", ".join(
                f"{name} {version}" for name, version in found["versions"].items()
            )
            today = datetime.datetime.now(datetime.UTC).date()
            made = f"{tables.versions()}, {compilers}; {today}. Sizes in MiB of one replica."
            text = "\n".join([BEGIN, made, "", *HEAD, *lines, END])
            tables.write(DOCUMENT, f"{before}{text}{after}")


if __name__ == "__main__":
    main()
