"""The flags that recipes have in common, each defined once.

from recipes import common_flags

common_flags.define()
strategy = common_flags.strategy()      # inside main: flags are parsed by then
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import checkpoint_flag, flag_sections, number_flags
from recipes.flag_sections import section
from tfscale.cli import POSITIVE, integers
from tfscale.optimizers import OPTIMIZERS
from tfscale.precision import POLICIES
from tfscale.schedules import SCHEDULES

FLAGS = flags.FLAGS

# Which flags each strategy's factory takes. Other flags that are set are errors, not ignored.
_STRATEGY_FLAGS = {
    "mirrored": ("num_replicas", "all_reduce", "shard"),
    "multi_worker_mirrored": ("all_reduce", "shard"),
    "tpu": ("tpu",),
}


def define(*, without: Sequence[str] = ()) -> None:
    """Defines the flags, under the headings that `--help` shows.

    Args:
        without: Flags that have no meaning for the recipe.
    """
    with section("where to train"):
        _define_where()
    with section("data"):
        flags.DEFINE_string(
            "data_dir", None, "Folder of prepared datasets. Default: ~/tensorflow_datasets."
        )
        number_flags.define_integer(
            "global_batch_size",
            96,
            "Examples of one step over all replicas; fastest if a multiple of their number.",
        )
    with section("training"):
        _define_training()
    with section("results"):
        flags.DEFINE_string(
            "model_dir",
            None,
            "Folder for the trained model and the summary of the run. Files of an earlier run are "
            "replaced. Default: runs/ and the name of the dataset.",
        )
        checkpoint_flag.define()
    flag_sections.leave_out(without)


def _define_where() -> None:
    flags.DEFINE_enum(
        "distribution_strategy",
        "auto",
        list(strategies.STRATEGIES),
        "How to distribute training. auto takes the TPU, the cluster that the environment "
        "describes, all GPUs of this host, or the CPU.",
    )
    number_flags.define_integer(
        "num_replicas",
        None,
        "Replicas of --distribution_strategy=mirrored: the first GPUs, or as many logical CPUs on "
        "a host without a GPU. Default: all GPUs, or one CPU.",
    )
    flags.DEFINE_string(
        "all_reduce",
        None,
        "How gradients are reduced. mirrored: auto, nccl, hierarchical_copy, "
        "reduction_to_one_device. multi_worker_mirrored: auto, ring, nccl, mpi. Default: auto.",
    )
    number_flags.define_integer(
        "shard",
        None,
        "What each replica of mirrored or multi_worker_mirrored keeps a part of, instead of a "
        "copy: 1 the optimizer's slots, 2 also gradients, 3 also the model's weights. More needs "
        "less memory and more communication; the result is the same. Default: 0, nothing.",
        integers(0, below=4),
    )
    flags.DEFINE_string(
        "tpu",
        None,
        "TPU of --distribution_strategy=tpu: local, or its name or address. Default: local.",
    )
    flags.DEFINE_enum(
        "precision",
        "auto",
        list(POLICIES),
        "Precision of the model. auto follows the hardware; float64 is for comparing runs.",
    )


def _define_training() -> None:
    number_flags.define_integer("train_epochs", 40, "Passes over the training data.")
    number_flags.define_integer(
        "train_steps",
        None,
        "Optimizer updates of the whole training, instead of --train_epochs. The last epoch may "
        "end early. Default: as many as the epochs have.",
    )
    flags.DEFINE_enum(
        "optimizer",
        "adam",
        list(OPTIMIZERS),
        "The optimizer. Each needs a different --learning_rate.",
    )
    number_flags.define_float(
        "learning_rate",
        3e-3,
        "Highest rate of the schedule. Usual values: adam 0.001 to 0.003, sgd 0.1, lion 0.0003.",
        POSITIVE,
    )
    flags.DEFINE_enum(
        "schedule",
        "cosine",
        list(SCHEDULES),
        "Learning rate schedule after the warm-up, over the remaining updates. cosine, linear, "
        "one_cycle and warmup_stable_decay end at 0, exponential and piecewise at a hundredth.",
    )
    number_flags.define_integer(
        "warmup_steps",
        0,
        "Optimizer updates in which the rate rises linearly from 0 to --learning_rate. They are "
        "part of the training, not added to it.",
        integers(at_least=0),
    )
    number_flags.define_float(
        "gradient_clip_norm",
        None,
        "Largest norm, over all weights, of the gradient of a global batch. A larger gradient is "
        "scaled down to it. Default: not clipped.",
        POSITIVE,
    )
    number_flags.define_integer(
        "microbatches",
        1,
        "Parts in which each replica computes its part of a global batch, one after the other, for "
        "one update. Needs less memory for activations and gives the update of the whole batch, "
        "except for dropout.",
    )
    number_flags.define_integer(
        "seed", 0, "Seed of weights, order and augmentation.", integers(0, below=2**31)
    )


def strategy(*, devices_per_replica: int = 1) -> tf.distribute.Strategy:
    """Builds the strategy that the flags describe.

    Args:
        devices_per_replica: Devices of each replica. More than 1 only with "mirrored".

    Raises:
        ValueError: If a flag is set that this strategy does not take, or a value is out of range.
    """
    name = FLAGS.distribution_strategy
    accepted = _STRATEGY_FLAGS.get(name, ())
    given = {flag: FLAGS[flag].value for flag in ("num_replicas", "all_reduce", "shard", "tpu")}
    for flag, value in given.items():
        if value is not None and flag not in accepted:
            takers = [taker for taker, taken in _STRATEGY_FLAGS.items() if flag in taken]
            raise ValueError(
                f"`--{flag}` must not be set with --distribution_strategy={name}. Received: "
                f"--{flag}={value}. Leave it out, or use --distribution_strategy="
                f"{' or '.join(takers)}."
            )
    chosen = {flag: value for flag, value in given.items() if value is not None}
    if devices_per_replica > 1:
        chosen["devices_per_replica"] = devices_per_replica
    return strategies.strategy_by_name(name, **chosen)


def train_steps(steps_per_epoch: int) -> int:
    """Returns the optimizer updates of the whole training.

    Args:
        steps_per_epoch: Global batches an epoch. Positive.
    """
    return int(FLAGS.train_steps or FLAGS.train_epochs * steps_per_epoch)


def schedule(num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the schedule that the flags describe, a function of the optimizer's updates.

    Args:
        num_steps: Optimizer updates of the whole training. Positive.

    Raises:
        ValueError: If the schedule takes no warm-up, or it is as long as the training.
    """
    return tfscale.schedules.schedule_by_name(
        FLAGS.schedule,
        learning_rate=FLAGS.learning_rate,
        num_steps=num_steps,
        warmup_steps=FLAGS.warmup_steps,
    )


def optimizer(
    num_steps: int, *, weight_decay: float | None = None, momentum: float | None = None
) -> keras.optimizers.Optimizer:
    """Builds the optimizer that the flags describe. Call it in the strategy's scope.

    Args:
        num_steps: Optimizer updates of the whole training. Positive.
        weight_decay: See `optimizer_by_name`. None means the optimizer's default.
        momentum: The same.

    Raises:
        ValueError: If flags contradict each other.
    """
    return tfscale.optimizers.optimizer_by_name(
        FLAGS.optimizer,
        schedule(num_steps),
        weight_decay=weight_decay,
        momentum=momentum,
        clip_norm=FLAGS.gradient_clip_norm,
    )
