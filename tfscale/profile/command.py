"""`tfscale profile`: a trace of some training steps of the user's model."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from strategies.extension import cluster_from_environment
from tfscale.cli.arguments import (
    add_json_flag,
    add_model_argument,
    add_seed_flag,
    count,
    count_or_zero,
)
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress

SUMMARY = "record some training steps of your model as a trace for Perfetto"

_PROGRAM = "tfscale profile"
_SUFFIX = ".json.gz"
_DESCRIPTION = """\
Trains your model for some steps, records them with TensorFlow's profiler, and writes a trace in the
Chrome Trace Event Format. Open it in https://ui.perfetto.dev. Each worker is a process in it, with
a row for its steps, one for each thread, and one for each stream of a GPU. It prints the mean of a
step with its phases, and the operations that take longest.

FUNCTION takes no arguments and returns (model, data): a compiled model, and arrays (x, y), a
batched tf.data.Dataset or a keras.utils.PyDataset.

Under tfscale launch all workers take part, the chief prints, and their clocks are aligned; the
folder of --output must be shared.
"""
_EPILOG = """\
examples:
  tfscale profile mine:build --steps=20 --output=trace.json.gz
  tfscale profile mine:build --replicas=2 --batch_size=64
  tfscale launch --num_workers=2 -- tfscale profile mine:build

exit status: 0 the trace was written, 1 training failed, 2 wrong usage or the trace could not be
written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale profile`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_model_argument(parser)
    parser.add_argument(
        "--steps", type=count, default=20, metavar="N", help="steps to record (default: 20)"
    )
    parser.add_argument(
        "--skip",
        type=count_or_zero,
        default=5,
        metavar="N",
        help="steps before them, in which TensorFlow traces and warms up (default: 5)",
    )
    parser.add_argument(
        "--replicas",
        type=count,
        metavar="N",
        help="replicas on this host (default: one); not in a job of several workers",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="rows of a global batch if your data are arrays (default: 32)",
    )
    add_seed_flag(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("trace.json.gz"),
        metavar="FILE",
        help="the file to write, *.json.gz (default: trace.json.gz)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains, writes the trace and prints its figures. Returns the exit status."""
    cluster = cluster_from_environment()
    is_one_of_several = cluster is not None and cluster.num_workers > 1
    if is_one_of_several and arguments.replicas is not None:
        return _refused(
            "`--replicas` must be left out in a job of several workers, whose replicas are on "
            f"their devices. Received: --replicas={arguments.replicas}."
        )
    if not arguments.output.name.endswith(_SUFFIX):
        return _refused(
            f"`--output` must end with {_SUFFIX}. Received: --output={arguments.output}."
        )
    # Before TensorFlow is imported, whose start-up lines would hide those of the command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tfscale.verify.user_model import WrongUsage, in_one_line

    try:
        values = _profiled(arguments, is_one_of_several)
    except (WrongUsage, ValueError, OSError) as error:
        return _refused(error)
    except Exception as error:  # of the user's model or data
        complain(_PROGRAM, f"training raised {in_one_line(error)[:1500]}")
        return 1
    if values is not None:
        from tfscale.profile.summary import table

        text = f"{table(values)}\n\n{arguments.output}: open it in https://ui.perfetto.dev"
        print(json.dumps(values) if arguments.json else text, flush=True)
    return 0


def _profiled(arguments: argparse.Namespace, is_one_of_several: bool) -> dict[str, Any] | None:
    """Returns the figures, on the chief."""
    # Imported here, because these import TensorFlow and the help does not need it.
    import keras
    import tensorflow as tf

    import strategies
    from tfscale.find.fresh_data import fresh_data
    from tfscale.profile.chrome_trace import read_trace
    from tfscale.profile.recording import TRACE_FILE, Profile
    from tfscale.profile.summary import figures
    from tfscale.verify.user_model import UserModel

    output = arguments.output.absolute()
    if not output.parent.is_dir():
        raise ValueError(
            f"`--output` must be in a folder that exists. Received: --output={arguments.output}."
        )
    user_model = UserModel(arguments.target)
    if is_one_of_several:
        strategy = strategies.multi_worker_mirrored_strategy()
    elif arguments.replicas is not None and arguments.replicas > 1:
        strategy = strategies.mirrored_strategy(num_replicas=arguments.replicas)
    else:
        strategy = strategies.one_device_strategy()
    keras.utils.set_random_seed(arguments.seed)
    with strategy.scope():
        model, data = user_model.build()
    model.steps_per_execution = 1
    end = arguments.skip + arguments.steps
    with tempfile.TemporaryDirectory(prefix=".profile-") as own, progress(_PROGRAM) as say:
        # Of several workers: beside the output, which they share.
        folder = output.with_name(f".{output.name}.workers") if is_one_of_several else Path(own)
        # The file is moved afterwards.
        profile = Profile(folder, steps=(arguments.skip, end), verbose=False)
        if strategies.is_chief(strategy):
            say(f"{end} steps, of which the last {arguments.steps} are recorded")

        class Stop(keras.callbacks.Callback):
            """Ends training after the last step."""

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                if profile.recorded:
                    self.model.stop_training = True

        fitted = fresh_data(lambda: data, arguments.batch_size)
        # As many epochs as it takes. A dataset is endless here.
        epochs = {"epochs": end}
        if isinstance(fitted["x"], tf.data.Dataset):
            epochs = {"epochs": 1, "steps_per_epoch": end}
        model.fit(**fitted, **epochs, callbacks=[profile, Stop()], verbose=0)
        if not strategies.is_chief(strategy):
            return None
        shutil.move(folder / TRACE_FILE, output)
        if is_one_of_several:
            shutil.rmtree(folder)
    return figures(read_trace(output))


def _refused(problem: object) -> int:
    complain(_PROGRAM, problem)
    return 2
