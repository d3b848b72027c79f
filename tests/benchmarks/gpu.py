"""`make bench-gpu`: a step, all-reduce by NCCL, and memory, on the GPUs of this machine.

python -m tests.benchmarks.gpu --folder=runs/bench-gpu

Prints the tables, and writes a JSON file and a page of each benchmark. Takes less than ten minutes:
what does not fit is left out, and a line says so. Not yet run on a GPU; `--stand_in` runs the same
programs on logical CPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfscale.bench import all_reduce, memory, step
from tfscale.bench.outcome import Outcome
from tfscale.bench.output import Say, add_output_arguments, measured_and_printed
from tfscale.bench.variant import TORCH_PROGRAM, Variant
from tfscale.cli.errors import complain

PROGRAM = "make bench-gpu"
CHILD = "tests.benchmarks.gpu_child"
STAND_INS = 2
"""Logical CPUs that stand in for GPUs."""
SECONDS = 540.0
"""No benchmark is started later than this, less the time that the longest one has taken."""
_COUNT_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Part:
    """One of the benchmarks.

    Attributes:
        name: Name of its files.
        variants: What is measured.
        flags: Its command line.
        add: Adds its flags to a parser, given the variants.
        run: Runs it.
    """

    name: str
    variants: tuple[Variant, ...]
    flags: tuple[str, ...]
    add: Callable[[argparse.ArgumentParser, tuple[Variant, ...]], None]
    run: Callable[[argparse.Namespace, Say], Outcome]


def step_variants(num_gpus: int) -> tuple[Variant, ...]:
    """Returns what trains side by side.

    Args:
        num_gpus: GPUs of this machine.
    """
    torch = Variant("torch_cuda", "PyTorch", peer="stock", program=TORCH_PROGRAM, requires="torch")
    ddp = dataclasses.replace(torch, name="torch_cuda_ddp", peer="torch_cuda", num_workers=num_gpus)
    return (
        Variant("stock", "fit, no strategy", program=CHILD),
        Variant("one_device", "fit, one_device_strategy", "stock", 1.02, program=CHILD),
        Variant("mixed", "the same, mixed precision", "one_device", program=CHILD),
        Variant("xla", "the same, jit_compile", "one_device", program=CHILD),
        Variant("stock_mirrored", "fit, stock Mirrored, all GPUs", "stock", program=CHILD),
        Variant(
            "mirrored",
            "fit, mirrored_strategy, all GPUs",
            "stock_mirrored",
            0.8,
            program=CHILD,
            limit="one_device",
        ),
        torch,
        *([dataclasses.replace(ddp, text="PyTorch, DDP with NCCL")] if num_gpus > 1 else []),
    )


def engines(num_gpus: int) -> tuple[Variant, ...]:
    """Returns the engines that add up over all GPUs.

    Args:
        num_gpus: GPUs of this machine.
    """
    program = "tests.benchmarks.gpu_engines"
    return (
        Variant("stock_nccl", "stock MirroredStrategy", program=program),
        Variant("nccl", "ours, mirrored_strategy", peer="stock_nccl", program=program),
        Variant(
            "torch_nccl",
            "torch.distributed",
            peer="stock_nccl",
            num_workers=num_gpus,
            program="tfscale.bench.peers.torch_all_reduce",
            requires="torch",
        ),
    )


def memory_variants(num_gpus: int) -> tuple[Variant, ...]:
    """Returns what is trained for its memory.

    Args:
        num_gpus: GPUs of this machine.
    """
    kept = [v for v in step_variants(num_gpus) if v.name != "xla"]
    library = Variant("imported", "TensorFlow and Keras, no model", program=CHILD)
    return (library, *(dataclasses.replace(v, goal=None, limit=None) for v in kept))


def main() -> int:
    """Runs all benchmarks; returns 2 without a GPU, 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=Path("runs", "bench-gpu"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--stand_in", action="store_true", help="use two logical CPUs instead")
    own = parser.parse_args()
    num_gpus = STAND_INS if own.stand_in else found_gpus()
    if not num_gpus:
        complain(
            PROGRAM,
            "this machine must have a GPU that TensorFlow can use. Received: no GPU. Check "
            "`nvidia-smi` and CUDA_VISIBLE_DEVICES, and that tensorflow[and-cuda] is installed.",
        )
        return 2
    own.folder.mkdir(parents=True, exist_ok=True)
    turns = (f"--rounds={own.rounds}", f"--timeout_seconds={_START_SECONDS:g}")
    steps = step_variants(num_gpus)
    plan = [
        Part(
            f"step_{model}", steps, (f"--model={model}", *turns), step.add_race_arguments, step.run
        )
        for model in ("mlp", "transformer")
    ]
    if num_gpus > 1:
        flags = (f"--num_workers={num_gpus}", *turns)
        add = all_reduce.add_engine_arguments
        plan.append(Part("all_reduce", engines(num_gpus), flags, add, all_reduce.run))
    variants = memory_variants(num_gpus)
    flags = ("--models=transformer", "--rounds=2", turns[1])
    plan.append(Part("memory", variants, flags, memory.add_memory_arguments, memory.run))
    return carried_out(plan, own.folder)


def carried_out(plan: Sequence[Part], folder: Path) -> int:
    """Runs benchmarks while there is time; returns the worst exit status.

    Args:
        plan: The benchmarks.
        folder: Where the JSON files and pages are written.
    """
    end = time.monotonic() + SECONDS
    longest, worst = 0.0, 0
    for part in plan:
        started = time.monotonic()
        if started + longest > end:
            complain(PROGRAM, f"{part.name}: left out, because ten minutes are over")
            continue
        worst = max(worst, _carried_out(part, folder))
        longest = max(longest, time.monotonic() - started)
    return worst


def _carried_out(part: Part, folder: Path) -> int:
    program = f"{PROGRAM}: {part.name}"
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    parser.set_defaults(target=None)
    part.add(parser, part.variants)
    add_output_arguments(parser)
    arguments = parser.parse_args([*part.flags, f"--html={folder / part.name}.html"])

    def kept(arguments: argparse.Namespace, say: Say) -> Outcome:
        outcome = part.run(arguments, say)
        written = json.dumps(outcome.to_json())
        (folder / f"{part.name}.json").write_text(f"{written}\n", "utf-8")
        return outcome

    return measured_and_printed(program, kept, arguments)


def found_gpus() -> int:
    """Returns the number of GPUs, asked in a child, which leaves their memory alone."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_GPUS],
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=True,
    )
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
