"""Measures whether each parameter server stores only its part of a table.

python -m tests.asynchronous.shard_memory --rows=3276800 --width=64    # a table of 800 MiB

The task starts chief, worker and two servers through `tfscale launch`, trains a few steps with
plain SGD, and prints the resident memory of each process before the table was made and after, and
the peak (VmRSS and VmHWM of /proc, in MiB). Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.programs import ROOT, own_environment

JOB_SECONDS = 300.0


def main() -> int:
    """Starts the job, or runs one of its tasks; returns the exit status."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=3_276_800)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        _task(arguments.folder, arguments.rows, arguments.width)
        return 0
    with tempfile.TemporaryDirectory() as name:
        sizes = [f"--rows={arguments.rows}", f"--width={arguments.width}", f"--folder={name}"]
        status = subprocess.run(
            [
                *(sys.executable, "-m", "tfscale", "launch", "--num_workers=1", "--num_ps=2"),
                *("--", sys.executable, "-m", "tests.asynchronous.shard_memory", *sizes),
            ],
            cwd=ROOT,
            env=own_environment(),
            stdout=subprocess.DEVNULL,
            timeout=JOB_SECONDS,
        ).returncode
        if status:
            return status
        found = json.loads((Path(name) / "found.json").read_text("utf-8"))
    table = arguments.rows * arguments.width * 4 / 2**20
    print(f"table: {table:.0f} MiB, two shards; loss {found.pop('loss'):.4f}")
    print("| task | before, MiB | after, MiB | peak, MiB |")
    print("|---|---|---|---|")
    for task, (before, after, most) in sorted(found.items()):
        print(f"| {task} | {before:.0f} | {after:.0f} | {most:.0f} |")
    return 0


def _task(folder: Path, rows: int, width: int) -> None:
    import keras
    import tensorflow as tf

    import strategies
    from tfscale.parallel import RowUniform, ShardedEmbedding

    cluster = strategies.Cluster.from_tf_config(os.environ["TF_CONFIG"])
    (folder / f"{cluster.task_type}-{cluster.task_index}.pid").write_text(str(os.getpid()))
    strategy = strategies.parameter_server_strategy(bring_up_seconds=120)
    before = _memory(folder)
    with strategy.scope():
        table = ShardedEmbedding(rows, width, 2, RowUniform(seed=1))
        inputs = keras.Input((8,), dtype="int64")
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(table(inputs))))
        model.compile(keras.optimizers.SGD(0.1), "mse")

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        ids = tf.random.uniform((64, 8), maxval=rows, dtype=tf.int64, seed=0)
        return tf.data.Dataset.from_tensors((ids, tf.ones((64, 1))))

    history = model.fit(batches, steps_per_epoch=50, epochs=1, verbose=0).history
    after = _memory(folder)
    found = {task: [before[task][0], *after[task]] for task in after}
    partial = folder / "found.json.partial"
    partial.write_text(json.dumps({**found, "loss": history["loss"][-1]}), "utf-8")
    partial.rename(folder / "found.json")


def _memory(folder: Path) -> dict[str, tuple[float, float]]:
    """Returns the current and the peak resident memory of each task, in MiB."""
    found = {}
    for path in folder.glob("*.pid"):
        status = Path(f"/proc/{path.read_text('utf-8')}/status").read_text("utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        now, most = (float(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        found[path.stem] = (now, most)
    return found


if __name__ == "__main__":
    sys.exit(main())
