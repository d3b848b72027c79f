"""Wrong results without an error. See `registry`."""

from __future__ import annotations

from strategies.keras_support.asynchronous.counters import ASSIGN_ADD, ASSIGN_SUB
from strategies.keras_support.context.inner_functions import MERGE_CALL
from strategies.keras_support.defects.fix import (
    GRADIENTS,
    KERAS,
    REDUCES_FIRST,
    TENSORFLOW,
    Fix,
)
from strategies.keras_support.gradients.optimizer_apply import APPLY
from strategies.keras_support.gradients.tape_gradients import GRADIENT
from strategies.keras_support.input.epoch_iterator import EPOCH_ITERATOR
from strategies.keras_support.metrics.metric_combination import DIRECT_ASSIGN
from strategies.keras_support.metrics.metric_reduction import EPOCH_LOGS, OUTPUT_LOSSES
from strategies.keras_support.model.compile_scope import COMPILE
from strategies.keras_support.model.model_build import BUILD
from strategies.keras_support.state.batch_norm import MOMENTS
from strategies.keras_support.state.layer_state import ASSIGN, VALUE
from strategies.keras_support.state.native_variables import NATIVE_ADD, NATIVE_ASSIGN, NATIVE_SUB
from strategies.keras_support.state.random_seeds import NEXT_SEED
from strategies.keras_support.step.loss_weighting import (
    ADDITIONAL_LOSS,
    REDUCE_LOSS,
    SCALE,
    UNSCALE,
)
from strategies.keras_support.step.step_functions import TEST, TRAIN
from strategies.keras_support.workers.chief_only_callbacks import (
    BACKUP_BEGIN,
)
from strategies.keras_support.workers.collective_calls import CALLBACKS

SILENT = (
    Fix(
        "S1",
        "mixed_float16: an inf on another replica than the first turns all weights to NaN",
        GRADIENTS,
        (f"{KERAS}18666", f"{KERAS}21366"),
        REDUCES_FIRST,
    ),
    Fix(
        "S2",
        "BatchNormalization: every replica keeps moving statistics of its own, one set is saved",
        (TRAIN, APPLY, MOMENTS),
        (f"{KERAS}20568", f"{KERAS}20601", f"{KERAS}21061"),
        "Keras averages moving statistics over the replicas and merges synchronized moments stably",
    ),
    Fix(
        "S3",
        "BatchNormalization: a replica without examples turns the statistics to NaN",
        (TRAIN, APPLY),
        (f"{TENSORFLOW}41657",),
        "Keras leaves an empty share out of the statistics",
    ),
    Fix(
        "S4",
        "clipnorm, global_clipnorm and clipvalue clip each replica's part: another training",
        GRADIENTS,
        (f"{TENSORFLOW}33929",),
        REDUCES_FIRST,
    ),
    Fix(
        "S5",
        "a batch that does not divide evenly weighs each replica alike, however few its examples",
        (TRAIN, TEST, APPLY, SCALE, UNSCALE, REDUCE_LOSS, OUTPUT_LOSSES),
        (f"{KERAS}20609",),
        "Keras weighs replicas by their examples",
    ),
    Fix(
        "S6",
        "fit on a generator loses the batches that were read ahead to build the model",
        (BUILD,),
        (),
        "Keras builds from element_spec",
    ),
    Fix(
        "S7",
        "data of unknown length counts one optimizer step too many an epoch",
        (TRAIN, EPOCH_ITERATOR),
        (),
        "Keras takes a step only after it has a batch",
    ),
    Fix(
        "S8",
        "each worker shuffles with a seed of its own: examples doubled and missed",
        (EPOCH_ITERATOR,),
        ("https://github.com/tensorflow/datasets/issues/1302",),
        "Keras shards before it shuffles, or agrees on the seed",
    ),
    Fix(
        "S9",
        "without auto-sharding every worker trains the same part, the rest is never seen",
        (EPOCH_ITERATOR,),
        (f"{TENSORFLOW}49828",),
        "Keras gives each replica its share of the global batch",
    ),
    Fix(
        "S10",
        "a metric made outside the scope counts each worker's own examples: refused",
        (BUILD, TRAIN, TEST),
        (),
        "Keras checks what scope a metric was made in",
    ),
    Fix(
        "S11",
        "dropout and random layers draw the same numbers on every replica",
        (NEXT_SEED, TRAIN),
        (),
        "Keras folds the replica's index into its seeds",
    ),
    Fix(
        "S12",
        "a loss computed by the user's own train_step counts once for every replica",
        (TRAIN, APPLY, SCALE, UNSCALE),
        (),
        "Keras averages gradients over the replicas",
    ),
    Fix(
        "S13",
        "a train_step that returns its own loss shows 0.0 in history",
        (EPOCH_LOGS, TRAIN),
        (f"{KERAS}19529",),
        "Keras shows what the step returned where no metric has recorded it",
    ),
    Fix(
        "S14",
        "parameter servers: workers overwrite each other's counts of steps, metrics and draws",
        (ASSIGN_ADD, ASSIGN_SUB, TRAIN, NEXT_SEED),
        (),
        "Keras adds to a variable in one operation, in assign_add and in every metric",
    ),
    Fix(
        "S15",
        "files of unequal size: workers count different steps",
        (EPOCH_ITERATOR,),
        (),
        "Keras gives each replica its share of the global batch",
    ),
    Fix(
        "S16",
        "batch-level logs average the replicas' results, wrong for counts and square roots",
        (TRAIN, TEST),
        (),
        "Keras reduces metric state before it takes the result",
    ),
    Fix(
        "S17",
        "keras.distribution trains on one device of the TensorFlow backend: refused",
        (BUILD, TRAIN, TEST),
        (),
        "keras.distribution works on the TensorFlow backend",
    ),
    Fix(
        "S18",
        "keras.distillation.Distiller counts its loss once for every replica",
        (TRAIN, APPLY, SCALE, UNSCALE),
        (),
        "Keras averages gradients over the replicas",
    ),
    Fix(
        "S19",
        "BackupAndRestore(save_freq=k) restarts an epoch on weights of its middle: refused",
        (BACKUP_BEGIN,),
        (f"{KERAS}17012",),
        "Keras restores the batch it was saved at",
    ),
    Fix(
        "S20",
        "masked losses and mean_with_sample_weight divide by each replica's own denominator",
        (TRAIN, TEST, REDUCE_LOSS, SCALE, UNSCALE, APPLY),
        (),
        "Keras adds numerators and denominators up over the replicas",
    ),
    Fix(
        "S23",
        "a vector given to add_loss counts 1/N: Keras sums it and then averages the replicas",
        (ADDITIONAL_LOSS, TRAIN, TEST, SCALE, UNSCALE, APPLY),
        (),
        "Keras adds sums up over the replicas",
    ),
    Fix(
        "S24",
        "a model made inside the scope and compiled outside: the loss in history is wrong",
        (COMPILE, TRAIN, TEST),
        (),
        "Keras makes the metrics of compile inside the model's own scope",
    ),
    Fix(
        "S21",
        "a train_step that clips gradients before it applies them clips each replica's own",
        (GRADIENT,),
        (),
        "tape.gradient averages over the replicas, or Keras hands train_step reduced gradients",
    ),
    Fix(
        "S22",
        "state of the user's own layers parts: every replica keeps its own, one is saved",
        (ASSIGN, VALUE, NATIVE_ASSIGN, NATIVE_ADD, NATIVE_SUB),
        (),
        "Keras averages what layers assign over the replicas",
    ),
    Fix(
        "S25",
        "rows of a position table count once for each replica in Adam, Adagrad and RMSprop",
        (GRADIENT, APPLY),
        (),
        "Keras adds up sparse rows whose indices do not come from the batch",
    ),
    Fix(
        "S33",
        "penalties of layers mix between replicas where one waits in the middle of a step",
        (MERGE_CALL,),
        (),
        "Keras keeps the losses of a layer apart for each replica",
    ),
    Fix(
        "S26",
        "weights loaded, or a rate set, on one worker only: workers train two models: refused",
        (CALLBACKS,),
        (),
        "Keras compares the workers' models, or broadcasts the first one's",
    ),
    Fix(
        "S31",
        "data cut by the user for each worker is cut again, and half of it trains: refused",
        (EPOCH_ITERATOR,),
        (),
        "Keras gives each replica its share of the global batch, and compares what it is cut from",
    ),
    Fix(
        "S27",
        "a tensor that all examples share is cut among the replicas: refused, or declared shared",
        (EPOCH_ITERATOR, TRAIN, TEST),
        (),
        "tf.distribute cuts nothing but rows of examples",
    ),
    Fix(
        "S28",
        "a metric that keeps a last value or a mean of its own: the replicas' copies are added up",
        (DIRECT_ASSIGN, TRAIN, TEST),
        (),
        "Keras lets a metric say how its state combines, and keeps to it",
    ),
    Fix(
        "S30",
        "a tracker made outside the scope is written by the replicas in turn: right, or refused",
        (DIRECT_ASSIGN, TRAIN, TEST),
        (),
        "Keras checks what scope a metric was made in",
    ),
)
