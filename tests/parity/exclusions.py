"""What the sweep leaves out, and why. Each rule is a sentence about a combination of fields.

There are two kinds: combinations without a meaning or that Keras refuses on one device, and
inherent exceptions, in which N replicas cannot match one device. Some of these are not in the zoo
at all:

* dropout and other random numbers, which differ;
* BatchNormalization without `synchronized=True`, whose statistics are those of a replica batch;
* state of a user's layer that is not a mean or sum over rows, such as a running maximum;
* a loss that divides by its own count, or that compares rows of the batch with each other: these
  need sums and rows of the whole batch from `tfscale`, which the reference, stock Keras, lacks;
* metrics that are refused: a state that is not a sum, not an extreme and not equal everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.parity.configuration import DIVIDED, PIPELINES, Configuration, devices_of
from tests.parity.kinds import DATASETS, NEW, STAGED, kind_of
from tests.parity.parallel import RULES, RUNS


@dataclass(frozen=True)
class Exclusion:
    """A rule and its reason.

    Attributes:
        reason: Why the combination is left out.
        applies: Returns whether the rule applies to a configuration.
    """

    reason: str
    applies: Callable[[Configuration], bool]


CLASSIFYING = ("categorical", "sparse")

_KEEPING_BY_BATCH = ("cnn_batchnorm", "deep_batchnorm", "own_step")
_READS_GRADIENTS = ("own_accumulation", "skipped_steps")
_UPDATES_IN_CONDITIONS = ("own_accumulation", "every_other_step", "skipped_steps")
_PARALLEL = (*PIPELINES, *DIVIDED)
_CLIPS_BY_NORM = ("clipnorm", "global_clipnorm")
_OF_WHOLE_MATRICES = ("lamb", "adafactor", "muon")
_OF_OWN_STEPS = ("layers", "gradients", "conditions", "parts")


def _divides_batches(configuration: Configuration) -> bool:
    kind = kind_of(configuration.model)
    is_of_step = configuration.model in _KEEPING_BY_BATCH or kind.concern in _OF_OWN_STEPS
    return kind.has_compiled_loss and not is_of_step


EXCEPTIONS = (
    Exclusion(
        "Dice is a ratio of sums over the whole batch, not a mean over rows",
        lambda c: c.loss == "dice",
    ),
)

IMPOSSIBLE = (
    Exclusion(
        "class weights need a single output of classes",
        lambda c: (
            c.weights == "class"
            and (c.loss not in CLASSIFYING or c.model in ("two_outputs", "lstm"))
        ),
    ),
    Exclusion(
        "Keras refuses class weights for Python generators",
        lambda c: c.weights == "class" and c.data in ("generator", "endless_generator"),
    ),
    Exclusion(
        "a step that computes its own loss takes neither weights, loss nor reduction",
        lambda c: (
            not kind_of(c.model).has_compiled_loss
            and (c.weights != "none" or c.loss != "mse" or c.reduction != "mean")
        ),
    ),
    Exclusion(
        "a model without a compiled loss or a test_step has nothing to validate with",
        lambda c: not kind_of(c.model).can_evaluate and c.validation != "none",
    ),
    Exclusion(
        "a model decides which values of a field have a meaning: a square that overflows needs "
        "mse, a loss class replaces the drawn loss; run eagerly, stock Keras cannot log a variable",
        lambda c: any(
            not kind_of(c.model).allows(f, getattr(c, f)) for f, _ in kind_of(c.model).only
        ),
    ),
    Exclusion(
        "new kinds are judged in float64: their faults do not come from rounding",
        lambda c: c.model in NEW and c.precision != "float64",
    ),
    Exclusion(
        "a step without weights, or one that unpacks x and y, takes none",
        lambda c: not kind_of(c.model).takes_weights and c.weights != "none",
    ),
    Exclusion(
        "a step that does not scale its loss is still divided by the scale",
        lambda c: not kind_of(c.model).scales_loss and c.loss_scaling,
    ),
    Exclusion(
        "bare x is passed as arrays or datasets; generators and pipelines yield tuples",
        lambda c: not kind_of(c.model).takes_targets and c.data not in ("arrays", *DATASETS),
    ),
    Exclusion(
        "ScheduleFreeAdamW is built for all weights at once, not for two optimizers' parts",
        lambda c: kind_of(c.model).builds_optimizers and c.optimizer == "schedule_free_adamw",
    ),
    Exclusion(
        "after fit Keras writes an optimizer's averages over all weights, also another optimizer's",
        lambda c: kind_of(c.model).builds_optimizers and c.ema != "none",
    ),
    Exclusion(
        "in float64 stock Muon multiplies a schedule's rate by a float32 and crashes",
        lambda c: c.optimizer == "muon" and c.schedule != "constant" and c.precision == "float64",
    ),
    Exclusion(
        "the two outputs have fixed losses; only the reduction of the first one is drawn",
        lambda c: c.model == "two_outputs" and c.loss != "mse",
    ),
    Exclusion(
        "an unreduced loss is a vector, which Keras cannot add to a penalty",
        lambda c: c.reduction == "none",
    ),
    Exclusion(
        "strings, sparse tensors, None and parts without rows need datasets: what Keras "
        "makes of arrays, PyDatasets and generators is dense, numeric and in rows",
        lambda c: not kind_of(c.model).takes_arrays and c.data not in DATASETS,
    ),
    Exclusion(
        "`input_pipeline` refuses a batch that the replicas do not divide, or larger than an epoch",
        lambda c: c.data == "pipeline" and (c.batch % c.num_replicas != 0 or c.batch > c.rows),
    ),
    Exclusion(
        "ScheduleFreeAdamW that stock Keras builds inside a traced step starts from zero, not from "
        "the weights; so it is built before, which needs a model that is built",
        lambda c: (
            c.optimizer == "schedule_free_adamw"
            and c.model in ("subclass", "raw_step", "autoencoder", "scalar_beside", "shared_beside")
        ),
    ),
    Exclusion(
        "what overflows is a float target, and half precision",
        lambda c: (
            c.overflow and (c.model not in ("mlp", "subclass") or c.loss != "mse" or not c.is_half)
        ),
    ),
    Exclusion(
        "loss scaling that wraps twice: mixed_float16 has its own",
        lambda c: c.loss_scaling and c.precision == "mixed_float16",
    ),
    Exclusion(
        "stock Keras shows a result that is a variable as validation left it, in the epoch's logs",
        lambda c: c.model == "own_metrics" and c.validation != "none",
    ),
    Exclusion(
        "a tf.function in an eager step is run eagerly on replicas, where schedules are float32",
        lambda c: c.model == "function_step" and c.run_eagerly and c.schedule != "constant",
    ),
    Exclusion(
        "oneDNN's gradient of a max pooling aborts the process in bfloat16, on one device too",
        lambda c: c.model == "cnn" and c.precision == "mixed_bfloat16",
    ),
    Exclusion(
        "microbatches need Keras's own train_step; what layers keep, they keep by microbatch; the "
        "oracle of half precision has parts of its own",
        lambda c: c.microbatches > 1 and (c.is_half or not _divides_batches(c)),
    ),
    Exclusion(
        "a step that computes with gradients is refused where each replica has a part of them",
        lambda c: (
            c.shard > 1 and (kind_of(c.model).concern == "gradients" or c.model in _READS_GRADIENTS)
        ),
    ),
    Exclusion(
        "an update in a condition is refused where replicas exchange parts or norms in it",
        lambda c: (
            bool(c.shard)
            and c.model in _UPDATES_IN_CONDITIONS
            and (c.num_workers == 1 or c.clip in _CLIPS_BY_NORM or c.loss_scaling)
        ),
    ),
    Exclusion(
        "weights of which each replica of a process has a part are not assigned in a condition",
        lambda c: c.shard == 3 and c.model == "slow_weights" and c.num_workers == 1,
    ),
    Exclusion(
        "the microbatch oracle has no mean over zero rows",
        lambda c: c.is_half and min(c.batch, (c.rows - 1) % c.batch + 1) < c.num_replicas,
    ),
    Exclusion(
        "the microbatch oracle adds up gradients of means over rows, of models with one output",
        lambda c: (
            c.is_half
            and (
                c.model not in ("mlp", "cnn", "subclass", "add_loss")
                or c.reduction != "mean"
                or c.run_eagerly
            )
        ),
    ),
)


PARALLEL = (
    Exclusion(
        "pipelines and tensor parallelism are judged in float64; the longer models are for them",
        lambda c: (c.strategy in _PARALLEL or c.model in STAGED) and c.precision != "float64",
    ),
    Exclusion(
        "a pipeline needs Keras's own `call` and `train_step`, and a place to cut for each stage",
        lambda c: c.runs > RUNS.get(c.model, 1),
    ),
    Exclusion(
        "interleaved is two runs of layers on a device, and microbatches that stages divide; of "
        "the others each device has one; replicas of one device have neither",
        lambda c: (
            (c.pipeline_schedule != "gpipe" and c.strategy not in PIPELINES)
            or (c.virtual_stages == 2) != (c.pipeline_schedule == "interleaved")
            or (c.virtual_stages == 2 and c.microbatches % devices_of(c.strategy) != 0)
        ),
    ),
    Exclusion(
        "tensor parallelism needs a matrix that devices can share",
        lambda c: c.strategy in DIVIDED and c.model not in RULES,
    ),
    Exclusion(
        "tensor parallelism refuses optimizers that look at whole matrices, as clipnorm does",
        lambda c: (
            c.strategy in DIVIDED and (c.clip == "clipnorm" or c.optimizer in _OF_WHOLE_MATRICES)
        ),
    ),
)


def why_excluded(configuration: Configuration) -> str | None:
    """Returns why the sweep leaves `configuration` out, or None if it does not."""
    for exclusion in (*IMPOSSIBLE, *PARALLEL, *EXCEPTIONS):
        if exclusion.applies(configuration):
            return exclusion.reason
    return None
