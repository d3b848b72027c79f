"""An embedding layer whose table is divided over several variables."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import current_step, truth, whole_number
from tfscale.parallel.initial_rows import InitialRows
from tfscale.parallel.rules_by_row import (
    check_constraint,
    check_regularizer,
    refuse_rule_of_whole_variables,
)


@keras.saving.register_keras_serializable(package="tfscale")
class ShardedEmbedding(keras.layers.Layer):
    """A sharded embedding table: row i is row `i // num_shards` of shard `i % num_shards`.

    Choose it under `parameter_server_strategy` for a table that is too large for one server. With
    as many shards as servers, each server has one shard and its optimizer slots. A worker fetches
    only the rows of its batch, and sends back only their gradients. Adjacent rows are on different
    servers, because vocabularies are often sorted by frequency. In synchronous training
    (`mirrored_strategy`, `multi_worker_mirrored_strategy`) each replica has all shards, so results
    are correct but memory is not saved. XLA cannot compile the layer, so it does not run on TPUs.

    Training matches `keras.layers.Embedding` for every rule that treats rows or elements
    separately, or all variables together, such as `global_clipnorm`. Rules that depend on single
    variables would train another model, so `clipnorm`, LARS, Lamb and Adafactor are an error under
    tfscale's strategies; stock Keras does not check this. Ids outside of the table are an error; in
    Keras negative ids count from the end.

    The table is saved as a whole, so weights can be loaded into another number of shards. Optimizer
    slots cannot, and Keras warns that it omits them; `resharded` keeps them. `embeddings` is the
    whole table, as used by `keras.layers.Embedding.set_weights`.

    Args:
        input_dim: Rows of the table; ids are in `[0, input_dim)`. Positive.
        output_dim: Elements of a row. Positive.
        num_shards: Number of shards, from 1 to `input_dim`.
        embeddings_initializer: Draws the table, which does not depend on the number of shards. The
            whole table is drawn on the chief and must fit in its memory, except with `RowUniform`.
        embeddings_regularizer: Must be a sum over rows, such as L1 and L2.
        embeddings_constraint: Must treat each row independently: `MaxNorm(axis=1)`, not `axis=0`.
        mask_zero: Whether id 0 is padding, which later layers ignore.
        activity_regularizer: Regularizer of the output.
        trainable: Whether the table is trained.
        dtype: The layer's dtype or policy.
        name: The layer's name.

    Raises:
        ValueError: If an argument is out of range, or a regularizer, a constraint or the optimizer
            does not treat rows independently.

    Example:
        >>> table = ShardedEmbedding(5, 1, num_shards=2)
        >>> table.build()
        >>> [tuple(part.shape) for part in table.trainable_variables]
        [(3, 1), (2, 1)]
        >>> tuple(table(np.array([[0, 4, 3]])).shape)
        (1, 3, 1)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_shards: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        input_dim = whole_number("input_dim", input_dim, cure="Count rows.")
        output_dim = whole_number("output_dim", output_dim, cure="Count elements of a row.")
        num_shards = whole_number("num_shards", num_shards, cure="Count shards.")
        mask_zero = truth("mask_zero", mask_zero)
        if num_shards > input_dim:
            raise ValueError(
                f"`num_shards` must be at most `input_dim`={input_dim}, so that each shard has a "
                f"row. Received: num_shards={num_shards!r}. Use fewer shards."
            )
        super().__init__(
            activity_regularizer=activity_regularizer, trainable=trainable, dtype=dtype, name=name
        )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.num_shards = num_shards
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = keras.constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.supports_jit = False  # the number of ids per shard depends on the data
        self.autocast = False  # rows are cast, not the whole table
        if num_shards > 1:
            check_constraint(self.embeddings_constraint)
            check_regularizer(self.embeddings_regularizer)
        self._parts: list[Any] = []

    def build(self, input_shape: Any = None) -> None:
        """Creates one variable per shard."""
        if self._parts:
            return
        shape = (self.input_dim, self.output_dim)
        initial = InitialRows(
            self.embeddings_initializer, shape, self.num_shards, self.variable_dtype
        )
        for shard, initializer in enumerate(initial.of_shards()):
            part = self.add_weight(
                name=f"embeddings_shard{shard}of{self.num_shards}",
                shape=(len(range(shard, self.input_dim, self.num_shards)), self.output_dim),
                initializer=initializer,
                regularizer=self.embeddings_regularizer,
                constraint=self.embeddings_constraint,
                autocast=False,
            )
            initial.fill(part, shard)
            self._parts.append(part)
        self.built = True

    @property
    def embeddings(self) -> tf.Tensor:
        """A copy of the whole table, [input_dim, output_dim], in the variables' dtype."""
        self._require_parts()
        indices = [
            tf.range(shard, self.input_dim, self.num_shards) for shard in range(self.num_shards)
        ]
        return tf.dynamic_stitch(indices, [tf.convert_to_tensor(p.value) for p in self._parts])

    def call(self, inputs: Any) -> tf.Tensor:
        """Looks up ids: maps integers of any shape to floats of that shape plus [output_dim]."""
        if self.num_shards > 1:
            _refuse_optimizer_of_step()
        ids = tf.convert_to_tensor(inputs)
        if ids.dtype not in (tf.int32, tf.int64):
            ids = tf.cast(ids, tf.int32)
        flat = tf.reshape(ids, [-1])
        is_known = tf.logical_and(flat >= 0, flat < tf.constant(self.input_dim, flat.dtype))
        refusal = f"`inputs` of {self.name!r} must be ids in [0, {self.input_dim}). Received:"
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.reduce_all(is_known), [refusal, ids])]
        ):
            flat = tf.identity(flat)
        rows = tf.cast(self._looked_up(flat), self.compute_dtype)
        output = tf.reshape(rows, tf.concat([tf.shape(ids), [self.output_dim]], axis=0))
        output.set_shape([*ids.shape, self.output_dim])
        return output

    def _looked_up(self, ids: tf.Tensor) -> tf.Tensor:
        # Gather from the variable, not its value, which would be sent to the worker as a whole.
        if self.num_shards == 1:
            return tf.gather(self._parts[0].value, ids)
        shards = tf.constant(self.num_shards, ids.dtype)
        owners = tf.cast(ids % shards, tf.int32)
        places = tf.dynamic_partition(tf.range(tf.size(ids)), owners, self.num_shards)
        wanted = tf.dynamic_partition(ids // shards, owners, self.num_shards)
        found = [
            tf.gather(part.value, rows) for part, rows in zip(self._parts, wanted, strict=True)
        ]
        return tf.dynamic_stitch(places, found)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns where ids are not padding, or None without `mask_zero`."""
        return keras.ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the ids plus `output_dim`."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Returns the symbolic output."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def save_own_variables(self, store: Any) -> None:
        """Writes the whole table, like `keras.layers.Embedding`, for any number of shards."""
        if self.built:
            store["0"] = np.asarray(self.embeddings)

    def load_own_variables(self, store: Any) -> None:
        """Loads a whole table and divides it into this layer's shards.

        Raises:
            ValueError: If the layer is not built, or the table has another size.
        """
        self._require_parts()
        shapes = [tuple(store[key].shape) for key in store.keys()]  # noqa: SIM118 (no mapping)
        if shapes != [(self.input_dim, self.output_dim)]:
            raise ValueError(
                f"`store` must contain one table of {self.input_dim} rows of {self.output_dim} for "
                f"{self.name!r}. Received: shapes={shapes!r}. Build the layer with the sizes of "
                "the saved one; only the number of shards may differ."
            )
        table = store["0"]
        for shard, part in enumerate(self._parts):
            part.assign(table[shard :: self.num_shards])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "num_shards": self.num_shards,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
            "embeddings_constraint": keras.constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
        }

    def _require_parts(self) -> None:
        if not self.built:
            raise ValueError(
                f"{self.name!r} must be built before its table is read or loaded. Received: "
                "built=False. Call build(), or the model on a batch."
            )


def _refuse_optimizer_of_step() -> None:
    step = current_step()
    for layer in step.layers if step is not None else ():
        refuse_rule_of_whole_variables(getattr(layer, "optimizer", None))
