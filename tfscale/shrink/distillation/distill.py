"""A student that learns from teachers, by plain `compile` and `fit` under any replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from strategies.extension import all_layers, is_asynchronous, number, pipeline_of
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under
from tfscale.shrink.distillation.features import FeaturePair, projection, with_features
from tfscale.shrink.distillation.inputs import check_inputs


class Distill(keras.Model):
    """A student whose loss also says how far it is from its teachers.

        loss = (1 - weight) * compiled loss
             + weight * sum over teachers k of w_k T^2 KL(softmax(t_k / T) || softmax(s / T))
             + sum over features of their losses

    with logits s of the student and t_k of teacher k. Compile and fit it like the student: the loss
    and metrics of `compile` see the student's outputs. Teachers are copied under the student's
    strategy, predict without dropout, and never change. Sample and class weights count in the
    second term as in the first. Afterwards use `student`, which is not changed otherwise.

    N replicas give the result of one device. `keras.distillation.Distiller` gives N times the
    gradient under a strategy of TensorFlow, and calls the student twice a step for features.

    Args:
        student: A functional or Sequential model with one output, made in the current scope.
        teachers: One such model or several, made anywhere, with the student's inputs and outputs.
            A teacher may take integers as floats, and some of the inputs of a dictionary by name.
        temperature: T, which softens the probabilities. Positive and finite.
        weight: Of the teachers' term, in [0, 1]. With 1 the labels are not used, and `compile`
            needs no loss.
        teacher_weights: w_k, not negative; they are divided by their sum. Equal by default.
        features: Inner layers to make alike.
        from_logits: Whether outputs are logits. False for probabilities, such as of a softmax.
        name: Of this model.

    Attributes:
        student: The trained model.
        teachers: The frozen copies.

    Raises:
        ValueError: If an argument is out of range, models do not fit, or it is not called in the
            scope of the student's strategy.

    Example:
        >>> teacher = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
        >>> model = Distill(student, teacher, temperature=4.0, weight=0.9)
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = model.fit(np.ones([8, 4]), np.zeros(8), verbose=0).history
        >>> sorted(history)
        ['distillation_loss', 'loss']

    Source: Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv:1503.02531,
    section 2.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: keras.Model | Sequence[keras.Model],
        *,
        temperature: float = 2.0,
        weight: float = 0.5,
        teacher_weights: Sequence[float] | None = None,
        features: Sequence[FeaturePair] = (),
        from_logits: bool = True,
        name: str = "distill",
    ) -> None:
        given = _listed(teachers)
        _check_numbers(temperature, weight)
        shares = _shares(teacher_weights, len(given))
        _check_scope(student)
        _check_models(student, given, features, from_logits)
        super().__init__(name=name)
        self.student = student
        self.teachers = [_frozen(each) for each in given]
        self.temperature, self.weight, self.from_logits = temperature, weight, from_logits
        self._shares, self._pairs = shares, list(features)
        self._whole_student = with_features(student, [pair.student for pair in features], "student")
        self._whole_teachers = [
            with_features(
                each, [pair.teacher for pair in features if pair.teacher_index == k], "teacher"
            )
            for k, each in enumerate(self.teachers)
        ]
        self._projections = [
            projection(
                student.get_layer(pair.student).output,
                self.teachers[pair.teacher_index].get_layer(pair.teacher).output,
                f"projection_{number}",
            )
            for number, pair in enumerate(features)
        ]
        self._distance = keras.metrics.Mean(name="distillation_loss")
        # By replica: what the student gave in the call that the loss is computed for.
        self._found: dict[int, list[Any]] = {}
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the student's outputs."""
        output, *features = keras.tree.flatten(self._whole_student(inputs, training=training))
        self._found[_replica()] = features
        return output

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the loss of this replica's examples: see the class."""
        features = self._found.pop(_replica())
        added = sum((ops.sum(each) for each in self.losses), start=0.0)
        if self.weight < 1:
            usual = super().compute_loss(x, y, y_pred, sample_weight, training)
            usual = (1 - self.weight) * usual + self.weight * added  # regularization counts whole
        else:
            usual = added
        by_example = self._distances(x, y_pred, features, sample_weight)
        self._distance.update_state(by_example)
        return usual + ops.mean(by_example)

    def _distances(self, x: Any, output: Any, features: list[Any], sample_weight: Any) -> Any:
        """Returns the teachers' terms and those of features for each example, [batch]."""
        taught = [keras.tree.flatten(each(x, training=False)) for each in self._whole_teachers]
        total = 0.0
        ours = self._log_probabilities(output)
        for share, (theirs, *_) in zip(self._shares, taught, strict=True):
            theirs = self._log_probabilities(theirs)
            divergence = ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)
            scale = self.weight * share * self.temperature**2
            total = total + scale * _by_example(divergence, sample_weight)
        following = [iter(found[1:]) for found in taught]
        for pair, layer, feature in zip(self._pairs, self._projections, features, strict=True):
            wanted = _exact(next(following[pair.teacher_index]))
            given = _exact(feature if layer is None else layer(feature))
            squares = ops.mean(ops.square(given - wanted), axis=-1)
            total = total + pair.weight * _by_example(squares, sample_weight)
        return total

    def _log_probabilities(self, outputs: Any) -> Any:
        logits = _exact(outputs)
        if not self.from_logits:
            logits = ops.log(ops.maximum(logits, keras.config.epsilon()))
        return ops.log_softmax(logits / self.temperature, axis=-1)


def _exact(tensor: Any) -> Any:
    """Returns half precision as float32, in which losses are computed."""
    return tensor if tensor.dtype == "float64" else ops.cast(tensor, "float32")


def _by_example(values: Any, sample_weight: Any) -> Any:
    """Returns weighted values, [batch, ...], as their mean for each example, [batch]."""
    if sample_weight is not None:
        weights = ops.cast(sample_weight, values.dtype)
        while len(weights.shape) > len(values.shape):
            weights = ops.squeeze(weights, axis=-1)
        while len(weights.shape) < len(values.shape):
            weights = ops.expand_dims(weights, axis=-1)
        values = values * weights
    axes = list(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def _replica() -> int:
    context = tf.distribute.get_replica_context()
    found = getattr(context, "replica_id_in_sync_group", 0)
    return found if isinstance(found, int) else 0


def _frozen(teacher: keras.Model) -> keras.Model:
    copy, _ = copy_under(teacher.dtype_policy, teacher, [], custom_objects_in(all_layers(teacher)))
    copy.trainable = False
    return copy


def _check_scope(student: keras.Model) -> None:
    if not isinstance(student, keras.Model):
        raise ValueError(
            f"`student` must be a Keras model. Received: {student!r}. Build it in the strategy's "
            "scope."
        )
    strategy = tf.distribute.get_strategy()
    if student.distribute_strategy is not strategy and (
        student.distribute_strategy is not None or tf.distribute.has_strategy()
    ):
        raise ValueError(
            "`Distill` must be made in the scope that its student was made in. Received: a student "
            f"of {type(student.distribute_strategy).__name__} in the scope of "
            f"{type(strategy).__name__}. Make both within `with strategy.scope():`."
        )
    if is_asynchronous(strategy) or pipeline_of(student) is not None:
        raise ValueError(
            "`student` must be trained in synchronous steps on whole replicas. Received: "
            f"{type(strategy).__name__}{' and a pipeline' if pipeline_of(student) else ''}. Distil "
            "under strategies.mirrored_strategy() or multi_worker_mirrored_strategy()."
        )


def _listed(teachers: Any) -> list[keras.Model]:
    given = [teachers] if isinstance(teachers, keras.Model) else teachers
    if not isinstance(given, Sequence) or not all(isinstance(m, keras.Model) for m in given):
        raise ValueError(
            f"`teachers` must be a Keras model, or several in a list. Received: {teachers!r}. "
            "Load files with keras.models.load_model."
        )
    return list(given)


def _check_numbers(temperature: float, weight: float) -> None:
    rule, cure = "positive and finite", "Values from 1 to 10 are usual."
    number("temperature", temperature, rule, lambda value: value > 0, cure=cure)
    cure = "Leave it out for 0.5."
    number("weight", weight, "in [0, 1]", lambda value: 0 <= value <= 1, cure=cure)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise ValueError("`teachers` must be at least one model. Received: none. Pass a model.")
    given: Any = [1.0] * count if weights is None else weights
    fits = hasattr(given, "__len__") and len(given) == count and all(map(_is_share, given))
    if not fits or sum(given) == 0:
        raise ValueError(
            f"`teacher_weights` must be {count} numbers that are finite and not negative, not all "
            f"0. Received: teacher_weights={weights!r}. Leave it out for equal ones."
        )
    return [each / sum(given) for each in given]


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < math.inf


def _check_models(
    student: keras.Model,
    teachers: Sequence[keras.Model],
    features: Sequence[FeaturePair],
    from_logits: bool,
) -> None:
    if not isinstance(features, Sequence) or not all(
        isinstance(pair, FeaturePair) for pair in features
    ):
        raise ValueError(
            f"`features` must be a list of FeaturePair. Received: features={features!r}. Write "
            '[FeaturePair("layer of the student", "layer of the teacher")].'
        )
    for pair in features:
        if pair.teacher_index >= len(teachers):
            raise ValueError(
                f"`teacher_index` must be below the number of teachers, {len(teachers)}. Received: "
                f"{pair!r}. The first teacher is 0."
            )
    masking = [
        each.name
        for each in all_layers(student)
        if isinstance(each, keras.layers.Masking) or getattr(each, "mask_zero", False)
    ]
    if masking and len(with_features(student, [], "student").outputs[0].shape) > 2:
        raise ValueError(
            "`student` must not mask positions of its outputs, which the teachers' term would "
            f"count. Received: layer {masking[0]!r}. Make it without a mask, and fit with a "
            "sample_weight of 0 for them."
        )
    models = [("student", student), *(("teacher", each) for each in teachers)]
    for argument, model in models:
        output = with_features(model, [], argument).outputs[0]
        # A Sequential model that was built by a call has the size of that batch.
        if tuple(output.shape[1:]) != tuple(student.outputs[0].shape[1:]):
            raise ValueError(
                f"`teachers` must give outputs of the student's shape, "
                f"{tuple(student.outputs[0].shape)}. Received: {tuple(output.shape)} of "
                f"{model.name!r}. Put a layer with the student's classes at its end."
            )
        activation = getattr(model.layers[-1], "activation", None)
        if from_logits and activation in (keras.activations.softmax, keras.activations.sigmoid):
            raise ValueError(
                f"`from_logits` must be False if outputs are probabilities. Received: from_logits="
                f"True and {argument} {model.name!r}, which ends with "
                f"{activation.__name__}. Pass from_logits=False."
            )
    check_inputs(student, teachers)
