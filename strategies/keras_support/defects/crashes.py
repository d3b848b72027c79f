"""Errors in place of training. See `registry`."""

from __future__ import annotations

from strategies.keras_support.context.inner_functions import FUNCTION_CALL
from strategies.keras_support.defects.fix import (
    GRADIENTS,
    KERAS,
    REDUCES_FIRST,
    TENSORFLOW,
    Fix,
)
from strategies.keras_support.gradients.optimizer_apply import APPLY
from strategies.keras_support.input.epoch_iterator import EPOCH_ITERATOR
from strategies.keras_support.model.model_build import BUILD
from strategies.keras_support.model.session_reset import GRAPH_RESET
from strategies.keras_support.model.variable_creation import CREATE, CREATE_LATER
from strategies.keras_support.model.variable_reads import FLOAT, INT
from strategies.keras_support.state.random_seeds import NEXT_SEED
from strategies.keras_support.step.step_functions import TEST, TRAIN
from strategies.keras_support.workers.chief_only_callbacks import (
    BACKUP_END,
    BACKUP_SAVE,
    CHECKPOINT,
    CSV_BEGIN,
    CSV_END,
    CSV_EPOCH,
    SAVED_ATTRIBUTES,
    TENSORBOARD,
)
from strategies.keras_support.workers.collective_calls import EVALUATE, FIT, PREDICT_CALL

CRASHES = (
    Fix(
        "C1",
        "fit and evaluate crash under several workers: `Attempt to convert a value (PerReplica)`",
        (BUILD, TRAIN, TEST),
        (f"{KERAS}20585", f"{TENSORFLOW}72388", f"{KERAS}20329"),
        "Keras builds from element_spec and reduces scalars with axis=None",
    ),
    Fix(
        "C2",
        "gradient_accumulation_steps crashes: `merge_call called while defining a new graph`",
        GRADIENTS,
        (f"{KERAS}17429",),
        REDUCES_FIRST,
    ),
    Fix(
        "C3",
        "ema_overwrite_frequency crashes: `merge_call called while defining a new graph`",
        GRADIENTS,
        (),
        REDUCES_FIRST,
    ),
    Fix(
        "C4",
        "steps_per_execution > 1 crashes: `You must feed a value for placeholder tensor`",
        (TRAIN, TEST, EPOCH_ITERATOR),
        (f"{KERAS}19246",),
        "Keras's loop over steps runs under tf.distribute",
    ),
    Fix(
        "C5",
        "a first batch that does not divide evenly crashes: `AddN must have the same size`",
        (BUILD,),
        (),
        "Keras builds from element_spec",
    ),
    Fix(
        "C6",
        "string inputs crash: AddN has no strings",
        (BUILD,),
        (f"{TENSORFLOW}80951", f"{KERAS}21172"),
        "Keras builds from element_spec",
    ),
    Fix(
        "C8",
        "ModelCheckpoint with one path for all workers: BlockingIOError",
        (CHECKPOINT, SAVED_ATTRIBUTES, CSV_BEGIN, CSV_EPOCH, CSV_END, TENSORBOARD),
        (),
        "Keras's callbacks write on the chief only",
    ),
    Fix(
        "C9",
        "BackupAndRestore with one path for all workers: BlockingIOError",
        (BACKUP_SAVE, BACKUP_END),
        (),
        "Keras's callbacks write on the chief only",
    ),
    Fix(
        "C10",
        "workers with data of different lengths meet in different collectives",
        (EPOCH_ITERATOR,),
        (),
        "Keras gives each replica its share of the global batch",
    ),
    Fix(
        "C11",
        "fewer files than workers: InvalidArgumentError",
        (EPOCH_ITERATOR,),
        (),
        "Keras gives each replica its share of the global batch",
    ),
    Fix(
        "C12",
        "jit_compile=True: variables of another device, no collectives: refused",
        (BUILD, TRAIN, TEST),
        (),
        "XLA compiles collectives between the replicas of one process",
    ),
    Fix(
        "C13",
        "a model, optimizer or metric made outside the scope: refused with its name",
        (BUILD, TRAIN, TEST),
        (),
        "Keras says which object was made outside the scope",
    ),
    Fix(
        "C26",
        "workers that pass fit other `epochs` or `validation_data`: `Socket closed`: refused",
        (FIT, EVALUATE, PREDICT_CALL),
        (),
        "Keras compares what workers pass",
    ),
    Fix(
        "C15",
        "fit crashes under parameter servers: `pass this dataset to ClusterCoordinator`",
        (EPOCH_ITERATOR, TRAIN, BUILD, APPLY),
        (f"{KERAS}18624",),
        "Keras hands steps to a ClusterCoordinator",
    ),
    Fix(
        "C16",
        "fewer rows than replicas, a lookup without an out-of-vocabulary bucket: InvalidArgument",
        (EPOCH_ITERATOR, TRAIN, TEST),
        (),
        "Keras gives a replica without examples nothing to compute",
    ),
    Fix(
        "C17",
        "a model with train_step and no usable call(): `Unable to automatically build the model`",
        (BUILD, CREATE, CREATE_LATER, TRAIN, TEST),
        (),
        "Keras leaves building to the first step under a strategy too, and makes variables for all",
    ),
    Fix(
        "C18",
        "keras.random, or an augmentation layer, in Dataset.map in the scope: UnliftableError",
        (NEXT_SEED, CREATE),
        (),
        "Keras's seed generators count draws of tf.data in a variable that a dataset can hold",
    ),
    Fix(
        "C19",
        "a batch with None in it crashes: `'NoneTensorSpec' object has no attribute 'shape'`",
        (BUILD, EPOCH_ITERATOR),
        (),
        "Keras builds from element_spec",
    ),
    Fix(
        "C22",
        "tf.cond around apply_gradients crashes: `merge_call called while defining a new graph`",
        GRADIENTS,
        (f"{KERAS}17429",),
        REDUCES_FIRST,
    ),
    Fix(
        "C23",
        "a tf.function that applies gradients crashes: `merge_call called in a tf.function`",
        (FUNCTION_CALL,),
        (),
        "TensorFlow lets replicas meet inside a tf.function",
    ),
    Fix(
        "C24",
        "float(optimizer.learning_rate), int(optimizer.iterations): TypeError",
        (FLOAT, INT),
        (),
        "Keras reads the first copy of a variable that replicas have copies of",
    ),
    Fix(
        "C25",
        "optimizer.apply inside the scope, outside of a step: `no attribute 'merge_call'`: refused",
        (APPLY,),
        (),
        "Keras says where gradients can be applied",
    ),
    Fix(
        "C27",
        "clear_session inside the scope, as keras-tuner calls it: `pop from empty list`: refused",
        (GRAPH_RESET,),
        (),
        "Keras keeps the strategies in scope when it resets TensorFlow's graph",
    ),
)
