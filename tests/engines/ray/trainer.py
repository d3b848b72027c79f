"""Program: Ray Train's TensorflowTrainer with Keras 3, of the shape of Ray's own examples.

    .venv-engines/bin/python -m tests.engines.ray.trainer FOLDER [lost-worker]

Prints the metrics of the last report, and how many checkpoints Ray has kept.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as in Ray's examples

import tfscale.ray_train  # isort: skip  # the added import

import json
import sys
from pathlib import Path
from typing import Any

import ray
import tensorflow as tf
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def loop(config: dict[str, Any]) -> None:
    """Trains in a worker, with the strategy that Ray's examples build."""
    from tests.engines.ray.training import train

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert tf.keras.__version__.startswith("3.")
    assert isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    train(
        Path(config["folder"]),
        config["what"],
        strategy,
        lambda checkpoint: [tfscale.ray_train.Report(checkpoint)],
    )


def main() -> None:
    """Trains on two workers."""
    folder, what = Path(sys.argv[1]), "".join(sys.argv[2:])
    ray.init(num_cpus=3, object_store_memory=100 << 20, include_dashboard=False)
    result = TensorflowTrainer(
        loop,
        train_loop_config={"folder": str(folder), "what": what},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name="run",
            storage_path=str(folder / "ray"),
            failure_config=FailureConfig(max_failures=2),
        ),
    ).fit()
    assert result.checkpoint is not None
    kept = sorted(path.name for path in Path(result.checkpoint.path).iterdir())
    print(json.dumps({"metrics": result.metrics, "checkpoint": kept}), flush=True)


if __name__ == "__main__":
    main()
