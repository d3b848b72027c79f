"""Private symbols of Keras that are called, not replaced; see `private_symbol`.

The sources of Keras 3.14, 3.15 and 3.16 are accepted. One fingerprint is that of all of them.
"""

from __future__ import annotations

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_finders import FINDER_SYMBOLS
from strategies.keras_support.patching.private_pipeline import PIPELINE_SYMBOLS
from strategies.keras_support.patching.private_sharding import SHARDING_SYMBOLS
from strategies.keras_support.patching.private_symbol import used
from strategies.keras_support.patching.private_tensor import TENSOR_SYMBOLS

_VARIABLE = "keras:Variable"
_LAYER = "keras:Layer"
_LOSS = "keras:Loss"
_MODEL = "keras:Model"
_EPOCH_ITERATOR = "keras.src.trainers.epoch_iterator:EpochIterator"
_ARRAY_DATA_ADAPTER = "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter"
_OPTIMIZER = "keras:Optimizer"
_BATCH_NORMALIZATION = "keras.layers:BatchNormalization"
_GENERATOR_DATA_ADAPTER = (
    "keras.src.trainers.data_adapters.generator_data_adapter:GeneratorDataAdapter"
)
_DATA_ADAPTER = "keras.src.trainers.data_adapters.data_adapter:DataAdapter"
_TFDATASET_ADAPTER = "keras.src.trainers.data_adapters.tf_dataset_adapter:TFDatasetAdapter"
_GLOBAL_STATE = "keras.src.backend.common.global_state"
_TENSORFLOW_TRAINER = "keras.src.backend.tensorflow.trainer"
_CLASS_WEIGHT = "keras.src.trainers.data_adapters.tf_dataset_adapter:make_class_weight_map_fn"

KERAS_SYMBOLS = (
    *SHARDING_SYMBOLS,
    *PIPELINE_SYMBOLS,
    *FINDER_SYMBOLS,
    *TENSOR_SYMBOLS,
    *used(
        Need.TRAINING,
        "keras_support",
        "TensorFlow's variable behind one of Keras's: whose copies, and their values",
        {
            f"{_VARIABLE}._value": "3e017ca2e5ef b82331caec83",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.context",
        "the dtype that an assigned value is converted to",
        {
            f"{_VARIABLE}._dtype": "91d2516b6022",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.context keras_support.state",
        "converts an assigned value as Keras does",
        {
            f"{_VARIABLE}._convert_to_tensor": "147bc8e16306",
        },
    ),
    *used(
        Need.PARAMETER_SERVERS,
        "keras_support.asynchronous",
        "leaves stateless updates of metrics to Keras",
        {
            "keras.src.backend.common.stateless_scope:in_stateless_scope": "de918b026e9e",
        },
    ),
    *used(
        Need.SAVING_IN_SCOPE,
        "keras_support.workers",
        "the attributes of an optimizer that Keras does not save",
        {
            f"{_GLOBAL_STATE}:get_global_attribute": "abc29405067f",
            f"{_GLOBAL_STATE}:set_global_attribute": "2cf4c072f3b7",
        },
    ),
    *used(
        Need.RECOMPUTATION,
        "keras_support.gradients",
        "the training flag and dtype of a layer's call, for its second pass",
        {
            f"{_GLOBAL_STATE}:get_global_attribute": "abc29405067f",
            f"{_GLOBAL_STATE}:set_global_attribute": "2cf4c072f3b7",
        },
    ),
    *used(
        Need.RECOMPUTATION,
        "keras_support.gradients",
        "the mask of a tensor that stands for another",
        {
            "keras.src.backend.common.masking:get_keras_mask": "960fa86967cd",
            "keras.src.backend.common.masking:set_keras_mask": "1fe150484168",
        },
    ),
    *used(
        Need.STATE_DTYPE,
        "keras_support.state",
        "reads slots of an optimizer in the dtype that it computes in",
        {
            "keras.src.backend.common.variables:AutocastScope": "0b66ebc9ee6f 7e640cc753ae",
        },
    ),
    *used(
        Need.RECOMPUTATION,
        "keras_support.model",
        "which layers are recomputed",
        {
            f"{_LAYER}._remat_mode": "40143aaad5f5 1cff49e76428",
            f"{_LAYER}.rematerialized_call": "973f03f115f4 c2a09ca01da6 89a3f5fb3be4",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients keras_support.model keras_support.state",
        "all layers of a model, at any depth",
        {
            f"{_LAYER}._flatten_layers": "1f56e05cbc8c",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.model",
        "the layers directly inside of one",
        {
            f"{_LAYER}._layers": "f34213e8797e",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.context keras_support.gradients",
        "what add_loss added, kept apart for each replica",
        {
            f"{_LAYER}._losses": "a7a353e9bc95",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients keras_support.model keras_support.state",
        "the state that a layer keeps itself",
        {
            f"{_LAYER}._non_trainable_variables": "57a73f61ac69",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.model",
        "the weights that a layer keeps itself",
        {
            f"{_LAYER}._trainable_variables": "9d6b8c1e8e61",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients",
        "the seeds that a skipped step has changed",
        {
            f"{_LAYER}._seed_generators": "26970a7dfc49",
        },
    ),
    *used(
        Need.COPIES,
        "keras_support.model",
        "the flag of one layer, without those inside of it",
        {
            f"{_LAYER}._trainable": "1fd28ac2ed09",
        },
    ),
    *used(
        Need.COPIES,
        "keras_support.model",
        "whether a layer was made with a dtype",
        {
            "keras:Operation._auto_config": "78d336317a83",
        },
    ),
    *used(
        Need.COPIES,
        "keras_support.model",
        "a loss in another precision",
        {
            f"{_LOSS}._dtype_policy": "724bdb801bf9",
            f"{_LOSS}._dtype": "16fc01a0610c",
        },
    ),
    *used(
        Need.COPIES,
        "keras_support.model",
        "what compile was called with",
        {
            f"{_MODEL}._compile_config": "04a331357ece",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.step",
        "the divisor of a masked loss, with Keras's own arithmetic",
        {
            "keras.src.losses.loss:apply_mask": "5392a8132f99 13a8eba5c51b",  # 3.14, 3.15
        },
    ),
    *used(
        Need.SYNCHRONIZED_BATCH_NORM,
        "keras_support.state",
        "the axes that moments are taken over",
        {
            f"{_BATCH_NORMALIZATION}._reduction_axes": "7fdd9712e6d4",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.metrics keras_support.step",
        "Keras's metric of the loss",
        {
            f"{_MODEL}._loss_tracker": "29de7f9a3be6",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.model",
        "makes variables from specifications",
        {
            f"{_MODEL}._symbolic_build": "f018063d58d8 1e2d4065a024",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.input keras_support.step",
        "the epoch in which a resumed fit begins",
        {
            f"{_MODEL}._initial_epoch": "57a86206662e",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.model",
        "the strategy that a model was made under",
        {
            f"{_MODEL}._distribute_strategy": "f5b00b0c39ff",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.dispatch",
        "what the replaced make_train_function and make_test_function call",
        {
            f"{_MODEL}._make_function": "172beed1e50b a878e07c64ae",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.model keras_support.step",
        "whether a step is Keras's own",
        {
            f"{_MODEL}.train_step": "b2e9113b7055",
            f"{_MODEL}.test_step": "5dfd0ff0405c",
        },
    ),
    *used(
        Need.PREDICT,
        "keras_support.step",
        "joins predictions",
        {
            f"{_TENSORFLOW_TRAINER}:reduce_per_replica": "6866aa1c9a00",
            f"{_TENSORFLOW_TRAINER}:concat": "db153aed72aa",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.input",
        "the executions of an epoch are those of a subclass",
        {
            f"{_EPOCH_ITERATOR}.__init__": "9a88722886ed",
            f"{_EPOCH_ITERATOR}._epoch_iterator": "e955e4436703",
            f"{_EPOCH_ITERATOR}._enumerate_iterator": "72caf4a53049",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.input",
        "what an epoch has read",
        {
            f"{_EPOCH_ITERATOR}._num_batches": "22cd5719284d",
            f"{_EPOCH_ITERATOR}._interrupted_warning": "c5d4556221a0",
            f"{_EPOCH_ITERATOR}._steps_seen": "46d76dbe6cf4",
            f"{_EPOCH_ITERATOR}._current_iterator": "a9a63b14c639",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.input",
        "base class of data adapters",
        {
            f"{_DATA_ADAPTER}.on_epoch_begin": "c66b7db88115",
            f"{_DATA_ADAPTER}.on_epoch_end": "d22e275e17ae",
        },
    ),
    *used(
        Need.WORKERS,
        "keras_support.input",
        "the first batch, which workers compare",
        {
            f"{_ARRAY_DATA_ADAPTER}._inputs": "61bf3e58d4f4",
            f"{_GENERATOR_DATA_ADAPTER}._first_batches": "23741a715168",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.input",
        "whether fit shuffles arrays",
        {
            f"{_ARRAY_DATA_ADAPTER}._shuffle": "d12bdf8c8a1f",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.asynchronous keras_support.input",
        "the dataset that fit was given",
        {
            f"{_TFDATASET_ADAPTER}.get_tf_dataset": "54673beefd99",
        },
    ),
    *used(
        Need.CLASS_WEIGHT,
        "keras_support.asynchronous keras_support.input",
        "class weights as weights of rows",
        {
            _CLASS_WEIGHT: "0804d86fa9fd 8a69b212f5fa ()81ed767b37f2",
        },
    ),
    *used(
        Need.TRAINING,
        "keras_support.gradients keras_support.model",
        "the variables that an optimizer updates",
        {
            f"{_OPTIMIZER}._trainable_variables": "6076d8d857b0",
        },
    ),
    *used(
        Need.PRUNING,
        "keras_support.gradients",
        "the moving averages of weights, which are pruned with them, and the steps so far",
        {
            f"{_OPTIMIZER}._model_variables_moving_average": "e69cee93dbc7",
            f"{_OPTIMIZER}._iterations": "9c90b09bd505",
        },
    ),
    *used(
        Need.LOCAL_UPDATES,
        "keras_support.local_sgd",
        "what local updates do not average",
        {
            f"{_OPTIMIZER}._iterations": "9c90b09bd505",
            f"{_OPTIMIZER}._learning_rate": "fe5cd7cef6b2",
        },
    ),
    *used(
        Need.MICROBATCHES,
        "keras_support.step",
        "computes a microbatch as Keras's train_step does",
        {
            f"{_LAYER}._call_has_training_arg": "f58de21a46fe",
            f"{_MODEL}._compute_loss": "3dd05bd44e41",
        },
    ),
    *used(
        Need.WORKERS,
        "keras_support.callback_order",
        "disables asynchronous calls of callbacks",
        {
            "keras.callbacks:CallbackList._async_train": "2d91a390ea67",
        },
    ),
    *used(
        Need.TENSORBOARD,
        "keras_support.workers",
        "tells TensorBoard its model before the folder is chosen",
        {
            "keras.callbacks:Callback._model": "ac124d79c31c",
        },
    ),
)
"""All private symbols of Keras in use, and all that sharded state uses."""
