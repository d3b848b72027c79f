"""Packs a generated folder of images, trains on it, is killed, and resumes on fewer workers.

python -m tests.packed_training --megabytes=2048

Two workers train; all are killed with SIGKILL in mid-epoch; one process resumes and ends. Its
weights are compared with those of one process that was not disturbed, in float64, and the resident
memory of every process is sampled.

Exit status: 0 if weights differ by at most 1e-9 and no memory grows, else 1.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.memory import slope
from tests.packed_training.training import BATCH, EVERY
from tests.programs import ROOT, own_environment

SIDE, CLASSES, QUALITY = 256, 10, 95
MOST_APART = 1e-9
MOST_GROWTH = 24
"""MiB from the first quarter of a run to its end, by the line through the samples."""
DEADLINE_SECONDS = 3600


def images(folder: Path, num_bytes: int) -> int:
    """Writes JPEGs of noise, which compress badly, until there are so many bytes."""
    import tensorflow as tf

    draw = np.random.default_rng(5)
    noise = draw.integers(0, 256, (2 * SIDE, 2 * SIDE, 3), np.uint8)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    count = written = 0
    while written < num_bytes or count < 4 * BATCH:
        top, left = draw.integers(0, SIDE, 2)
        tint = draw.integers(0, 200, 3) * (count % CLASSES) // CLASSES
        image = (noise[top : top + SIDE, left : left + SIDE] // 2 + tint // 2).astype(np.uint8)
        jpeg = tf.io.encode_jpeg(image, quality=QUALITY).numpy()
        (folder / f"class{count % CLASSES}" / f"{count:06}.jpg").write_bytes(jpeg)
        count, written = count + 1, written + len(jpeg)
    return count


def run(*command: str, stop_after: int | None = None) -> list[str]:
    """Runs a job to its end, or kills it after a step. Returns the lines that it printed.

    Workers of a launcher that is killed end by themselves; the output ends with the last of them.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=own_environment(CUDA_VISIBLE_DEVICES=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    is_killed = False
    end = time.monotonic() + DEADLINE_SECONDS
    for line in process.stdout:
        lines.append(line.rstrip())
        found = re.search(r"step (\d+):", line)
        is_due = found is not None and stop_after is not None and int(found[1]) >= stop_after
        if (is_due and not is_killed) or time.monotonic() > end:
            is_killed = True
            os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    if (status == 0) == is_killed:
        raise RuntimeError("\n".join([f"{command} ended with {status}", *lines[-30:]]))
    return lines


def memory(lines: list[str]) -> dict[str, tuple[float, float]]:
    """By worker, the most MiB, and the growth after the first quarter of the samples."""
    samples: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if found := re.search(r"^(\[worker \d+\])? ?step (\d+): (\d+) MiB", line):
            samples.setdefault(found[1] or "", []).append((int(found[2]), float(found[3])))
    judged = {}
    for name, all_ in samples.items():
        late = all_[len(all_) // 4 :]
        growth = slope([late]) * (late[-1][0] - late[0][0])
        judged[name] = (max(mib for _, mib in all_), growth)
    return judged


def main(arguments: list[str]) -> int:
    """Runs everything and prints what came of it. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.packed_training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--megabytes", type=int, default=2048, help="of images (default: 2048)")
    parser.add_argument("--epochs", type=int, default=2, help="to train (default: 2)")
    parser.add_argument(
        "--dir", help="for the files; removed at the end (default: a temporary one)"
    )
    flags = parser.parse_args(arguments)
    root = Path(tempfile.mkdtemp(prefix="packed-", dir=flags.dir))
    try:
        return _judge(_run(root, flags.megabytes, flags.epochs))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(root: Path, megabytes: int, epochs: int) -> dict[str, Any]:
    folder, packed = root / "images", root / "packed"
    count = images(folder, megabytes << 20)
    steps = -(-count // BATCH)
    print(f"{count} images, {steps} steps an epoch", flush=True)
    begin = time.monotonic()
    command = ("-m", "tfscale", "data", "pack", str(folder), str(packed), "--shard_bytes=67108864")
    run(*command)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in packed.iterdir()) / 2**20
    print(
        f"packed {size:.0f} MiB in {time.monotonic() - begin:.0f} s, peak {peak:.0f} MiB",
        flush=True,
    )
    shutil.rmtree(folder)
    program = ("-m", "tests.packed_training.training", str(packed))
    rows = {}

    def trained(name: str, *before: str, folder: str, stop_after: int | None = None) -> None:
        path = root / folder
        path.mkdir(exist_ok=True)
        last = (*before, *program, str(path), str(epochs))
        begin = time.monotonic()
        lines = run(*last, stop_after=stop_after)
        rows[name] = (time.monotonic() - begin, memory(lines))
        for worker, (most, growth) in sorted(rows[name][1].items()):
            print(
                f"{name} {worker}: {rows[name][0]:.0f} s, at most {most:.0f} MiB, "
                f"{growth:+.1f} MiB of growth",
                flush=True,
            )

    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    trained("one process", folder="whole")
    stop = max(EVERY + 1, steps * epochs // 3 // EVERY * EVERY)
    trained("two workers, killed", *launch, folder="killed", stop_after=stop)
    trained("resumed by one process", folder="killed")
    whole, resumed = (np.load(root / name / "weights.npy") for name in ("whole", "killed"))
    return {"rows": rows, "apart": float(np.abs(whole - resumed).max()), "peak": peak}


def _judge(found: dict[str, Any]) -> int:
    print(f"largest difference of a weight: {found['apart']:.1e}")
    grown = [
        f"{name} {worker}: {growth:+.1f} MiB of growth"
        for name, (_, by_worker) in found["rows"].items()
        for worker, (_, growth) in by_worker.items()
        if not growth <= MOST_GROWTH
    ]
    for line in grown:
        print(f"memory grows: {line}")
    return int(bool(grown) or not found["apart"] <= MOST_APART)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
