"""Does the stages of a chain to a model, and says what each of them cost."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

import strategies
from strategies.extension import (
    all_layers,
    announce,
    compile_arguments,
    is_multi_worker,
)
from tfscale.files import whole_files
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under
from tfscale.preparation.recompilation import (
    own_compile_arguments,
    own_optimizer,
)
from tfscale.shrink.chain.chain import AWARE, Chain
from tfscale.shrink.chain.checks import (
    check_model,
    check_validation,
    chosen_file_format,
    kept_layers,
    rate_of,
)
from tfscale.shrink.chain.costs import (
    LITERT,
    StageCost,
    cost_of,
    file_of_model,
    kernels_of,
    table_of,
)
from tfscale.shrink.chain.finished_stages import FinishedStages
from tfscale.shrink.chain.training_data import TrainingData, training_data
from tfscale.shrink.clustering import Cluster
from tfscale.shrink.pruning import CubicSparsity, KeepZeros, OneShot, Prune
from tfscale.shrink.quantization import quantization_aware, quantize
from tfscale.shrink.quantization.calibration import calibration_batches
from tfscale.shrink.structured import cut, mask_channels

_RATES = {"channels": 1.0, "prune": 1.0, "cluster": 0.1, "quantize": 0.1}
"""Of the learning rate. Pruned weights are trained at the full rate again: Renda et al. 2020,
arXiv:2003.02389. The gradient of a common value is the sum of those of its weights."""
_PRUNED_BY = 2 / 3
"""The part of the pruning stage after which the last weight is pruned."""
_CHANGES = 50
"""Changes of the sparsity until then, at most."""


@dataclass(frozen=True)
class Compressed:
    """A smaller model, and what each stage cost.

    Attributes:
        model: The model after the last stage, compiled. With `quantize="aware"` it computes with
            rounded numbers, as its file does.
        chain: What was done.
        stages: The model before ("float") and after each stage.
        file_format: "litert" or "keras".
    """

    model: keras.Model
    chain: Chain
    stages: tuple[StageCost, ...]
    file_format: str
    _content: bytes = field(repr=False)

    @property
    def times_smaller(self) -> float:
        """How many times the file is smaller than that of the model before, both by gzip."""
        return self.stages[0].gzip_bytes / self.stages[-1].gzip_bytes

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the file of the last stage.

        Args:
            path: The new file; an existing one is replaced.

        Raises:
            OSError: If it cannot be written.
        """
        with whole_files(path) as (file,):
            file.write(self._content)

    def __str__(self) -> str:
        return table_of(self.stages)


def compress(
    model: keras.Model,
    chain: Chain,
    train: Any,
    *,
    validation: Any,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    calibration: Any = None,
    file_format: str | None = None,
    stages_dir: str | os.PathLike[str] | None = None,
    verbose: int | str = 0,
) -> Compressed:
    """Does the stages of a chain to a copy of a trained model, and measures after each of them.

    The model trains under its own strategy, with the loss, metrics and kind of optimizer that it is
    compiled with. In each stage the learning rate falls from `learning_rate`, or from a tenth of it
    when clustered and quantized, to 0 along half a cosine.

    Args:
        model: Trained, compiled, and made under a strategy of this package. It is not changed. With
            `channels` and `quantize="aware"` a Functional or Sequential model.
        chain: The stages.
        train: What the stages train on: `(x, y)` or `(x, y, sample_weight)` of arrays, a
            `tfscale.data` pipeline, a `tf.data.Dataset` of batches or a `keras.utils.PyDataset`.
        validation: What the measures are of, in the same forms. Not used for training.
        learning_rate: Positive. None: the optimizer's own, if that is a number.
        batch_size: Rows of a step on all replicas, for arrays; None for 32.
        steps_per_epoch: Of a dataset of unknown length.
        calibration: Inputs to find ranges with; see `quantization_aware`. None: the first of
            `train`.
        file_format: Of the files that are measured: "litert" or "keras". None: "keras" if the chain
            quantizes with "int8" or "int4", else "litert".
        stages_dir: A folder for the models after finished stages and a checkpoint after each epoch,
            on a disk that all workers see. Called again with the same arguments after it was
            killed, `compress` goes on after the last whole epoch, and with a PyDataset after the
            last finished stage; at the end it removes them.
        verbose: That of `fit`, on the chief.

    Returns:
        The smaller model with its file, and a `StageCost` for each stage.

    Raises:
        ValueError: If an argument is impossible, or a stage cannot be done to the model. Whether a
            model can be quantized is found out before the first stage.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> keras.utils.set_random_seed(0)
        >>> with strategy.scope():
        ...     layers = [keras.Input((1,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile("adam", "mse")
        >>> chain = tfscale.shrink.Chain(sparsity=0.5, clusters=4, quantize="aware", epochs=1)
        >>> result = compress(model, chain, (rows, targets), validation=(rows, targets))
        >>> [(stage.name, stage.zeros, stage.values <= 4) for stage in result.stages[1:]]
        [('prune', 0.5, False), ('cluster', 0.5, True), ('quantize', 0.5, True)]

    Source: the order and what it keeps, the collaborative optimization of the TensorFlow Model
    Optimization Toolkit.
    """
    return _Compression(
        model,
        chain,
        train,
        validation,
        learning_rate=learning_rate,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        calibration=calibration,
        file_format=chosen_file_format(chain, file_format),
        stages_dir=stages_dir,
        verbose=verbose,
    ).run()


class _Compression:
    """The stages, and what they have in common; see `compress`."""

    def __init__(
        self,
        model: keras.Model,
        chain: Chain,
        train: Any,
        validation: Any,
        *,
        learning_rate: float | None,
        batch_size: int | None,
        steps_per_epoch: int | None,
        calibration: Any,
        file_format: str,
        stages_dir: str | os.PathLike[str] | None,
        verbose: int | str,
    ) -> None:
        check_model(model, chain)
        check_validation(validation)
        self._model, self._chain, self._validation = model, chain, validation
        self._strategy = model.distribute_strategy
        self._is_chief = strategies.is_chief(self._strategy)
        self._verbose = verbose if self._is_chief else 0
        self._batch_size, self._file_format = batch_size, file_format
        self._compiled = compile_arguments(model)
        self._rate = rate_of(self._compiled["optimizer"], learning_rate)
        self._data: TrainingData = training_data(
            train,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            several_workers=is_multi_worker(self._strategy),
        )
        self._calibration = self._data.examples if calibration is None else calibration
        if chain.quantize is not None and self._calibration is None:
            raise ValueError(
                "`calibration` must be given when several workers train on a tf.data.Dataset, of "
                "which each reads other batches. Received: calibration=None. Pass some hundred "
                "inputs, the same on all workers."
            )
        self._finished = FinishedStages(
            stages_dir,
            model=model,
            chain=chain,
            compiled=self._compiled,
            rate=self._rate,
            steps=self._data.steps,
            writes=self._is_chief,
        )
        self._keep: list[str] = []
        self._costs: list[StageCost] = []
        self._content = b""

    def run(self) -> Compressed:
        began = time.monotonic()
        with self._strategy.scope():
            model, _ = copy_under(
                self._model.dtype_policy,
                self._model,
                [],
                custom_objects_in(all_layers(self._model)),
            )
        self._keep = kept_layers(self._chain.keep, [self._model, model])
        if any(self._chain.epochs_of(stage) for stage in self._chain.stages[:-1]):
            self._check_quantization(model)
        self._compile(model, "prune")
        self._measure(model, "float", "before", began)
        stages: dict[str, Callable[[keras.Model], keras.Model]] = {
            "channels": self._cut,
            "prune": self._prune,
            "cluster": self._cluster,
            "quantize": self._quantize,
        }
        for name in self._chain.stages:
            began, text = time.monotonic(), self._chain.described(name)
            if (cost := self._finished.cost(name)) is not None:
                with self._strategy.scope():
                    model = self._finished.model(name)
                self._costs.append(cost)
                continue
            if self._is_chief:
                announce(f"{text} ...")
            model = stages[name](model)
            self._measure(model, name, text, began)
            if name != self._chain.stages[-1]:
                self._finished.add(name, model, self._costs[-1])
                with self._strategy.scope():
                    model = self._finished.as_loaded(model)
        self._finished.clear()
        return Compressed(model, self._chain, tuple(self._costs), self._file_format, self._content)

    def _check_quantization(self, model: keras.Model) -> None:
        """Finds out whether the model can be quantized, before anything is trained."""
        if self._chain.quantize == AWARE:
            with self._strategy.scope():
                aware = quantization_aware(model, calibration=self._calibration)
            file_of_model(aware, LITERT)
        elif self._chain.quantize is not None:
            self._quantized_by_keras(model)

    def _cut(self, model: keras.Model) -> keras.Model:
        mask_channels(model, self._chain.channels)
        with self._strategy.scope():
            smaller = cut(model)
        self._train(smaller, "channels", [])
        return smaller

    def _prune(self, model: keras.Model) -> keras.Model:
        sparsity, epochs = self._chain.sparsity, self._chain.epochs_of("prune")
        schedule: Any = OneShot(sparsity)
        if epochs:
            until = max(1, int(_PRUNED_BY * self._updates(epochs)))
            every = -(-until // _CHANGES)
            schedule = CubicSparsity(sparsity, end=until // every * every, every=every)
        pruning = Prune(
            schedule, pattern=self._chain.pattern, scope=self._chain.scope, keep=self._keep
        )
        self._train(model, "prune", [pruning])
        return model

    def _cluster(self, model: keras.Model) -> keras.Model:
        self._train(model, "cluster", self._kept())
        return model

    def _quantize(self, model: keras.Model) -> keras.Model:
        if self._chain.quantize != AWARE:
            return self._quantized_by_keras(model)
        with self._strategy.scope():
            smaller = quantization_aware(model, calibration=self._calibration)
        self._train(smaller, "quantize", self._kept())
        return smaller

    def _quantized_by_keras(self, model: keras.Model) -> keras.Model:
        assert self._chain.quantize is not None
        # One batch: the rows serve the report by layer only, which a chain does not show.
        rows = next(calibration_batches(model, self._calibration))
        with self._strategy.scope():
            return quantize(model, self._chain.quantize, calibration=rows).model

    def _kept(self) -> list[keras.callbacks.Callback]:
        """Returns what keeps the zeros and values of earlier stages."""
        if self._chain.clusters:
            return [Cluster(self._chain.clusters, keep=self._keep)]
        return [KeepZeros(keep=self._keep)] if self._chain.sparsity else []

    def _train(
        self, model: keras.Model, stage: str, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        self._compile(model, stage)
        epochs = self._chain.epochs_of(stage)
        if epochs == 0:
            _change_once(model, callbacks)
            return
        saves = self._finished.checkpoints(stage) if self._data.can_be_resumed else []
        model.fit(
            **self._data.arguments,
            epochs=epochs,
            callbacks=[*callbacks, *saves],
            verbose=self._verbose,
        )

    def _compile(self, model: keras.Model, stage: str) -> None:
        """Compiles a model as the first one is, with a fresh optimizer for a stage."""
        steps = max(1, self._updates(self._chain.epochs_of(stage)))
        rate = keras.optimizers.schedules.CosineDecay(self._rate * _RATES[stage], steps)
        policy = self._model.dtype_policy
        with self._strategy.scope():
            optimizer = own_optimizer(self._compiled["optimizer"], rate)
            model.compile(optimizer, **own_compile_arguments(self._compiled, policy, policy))
            if trainable := model.trainable_variables:
                model.optimizer.build(trainable)

    def _updates(self, epochs: int) -> int:
        """Returns how often weights are updated in so many epochs."""
        optimizer = self._model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return epochs * self._data.steps // (optimizer.gradient_accumulation_steps or 1)

    def _measure(self, model: keras.Model, name: str, text: str, began: float) -> None:
        content = file_of_model(model, self._file_format)
        if not model.compiled:  # Keras has quantized it; a compiled one is saved by a copy
            self._compile(model, name)
        metrics = _evaluated(model, self._validation, self._batch_size)
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise ValueError(
                "`learning_rate` must be small enough for a finite loss. Received: loss "
                f"{metrics['loss']} after {text!r}, learning_rate={self._rate:g}. Pass a smaller "
                "one, or look for NaN in the data."
            )
        cost = cost_of(name, text, kernels_of(model), metrics, content)
        self._costs.append(dataclasses.replace(cost, seconds=time.monotonic() - began))
        self._content = content


def _evaluated(
    model: keras.Model, validation: Any, batch_size: int | None = None
) -> dict[str, float]:
    """Returns what `evaluate` gives for data in a form that `compress` takes, by name."""
    arguments = {"x": validation}
    if isinstance(validation, tuple):
        arguments = dict(zip(("x", "y", "sample_weight"), validation, strict=False))
        arguments["batch_size"] = batch_size
    found = model.evaluate(**arguments, verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


def _change_once(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Lets callbacks do what they do before the first step, without one."""
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_train_end()
