"""What is done to a model to make it smaller, in the order that keeps what came before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.extension import number, one_of, sequence, whole_number
from tfscale.shrink.pruning import SCOPES
from tfscale.shrink.pruning.patterns import CHANNELS, UNSTRUCTURED, Pattern
from tfscale.shrink.pruning.schedules import checked_sparsity
from tfscale.shrink.pruning.weights import checked_expression, refuse_other_sparsity

STAGES = ("channels", "prune", "cluster", "quantize")
"""In the order in which they are done."""
AWARE = "aware"
WAYS = (AWARE, "int8", "int4")
"""How a chain may quantize."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The stages that make a model smaller: cut channels, prune, cluster, quantize.

    A stage that is not asked for is left out. Each is trained for some epochs, and keeps what the
    stages before it have done: the zeros of pruning stay in clustering and in quantization-aware
    training, and so do the common values of clustering.

    Attributes:
        channels: The fraction of channels that is cut out, in [0, 1).
        sparsity: The fraction of zeros in the kernels, in [0, 1).
        pattern: Of the zeros; see `Prune`. "n:m" has its own sparsity.
        scope: Of the sparsity; see `Prune`.
        clusters: The values that the numbers of a kernel share, besides zero; 0 for any.
        quantize: "aware" trains with 8-bit integers, and the LiteRT file computes with them;
            "int8" and "int4" are Keras's own, without training, in a `.keras` file, "int4" only
            alone; None: floats.
        epochs: Of each stage that trains; or by stage: "channels", "prune", "cluster", "quantize".
            With 0 the weights are changed once, and not trained.
        keep: Regular expressions that match the whole name or path of layers which are neither
            pruned nor clustered, or the path of one of their weights.

    Raises:
        ValueError: If a value is out of range, or nothing is to be done.

    Example:
        >>> chain = Chain(sparsity=0.8, clusters=16, quantize="aware", epochs={"prune": 10})
        >>> print(chain)
        80 % zeros, 16 values, quantized (aware)
        >>> chain.epochs_of("prune"), chain.epochs_of("cluster")
        (10, 5)
    """

    channels: float = 0.0
    sparsity: float = 0.0
    pattern: str = UNSTRUCTURED
    scope: str | None = None
    clusters: int = 0
    quantize: str | None = None
    epochs: int | Mapping[str, int] = 5
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        number("channels", self.channels, "from 0 up to, but not, 1", lambda part: 0 <= part < 1)
        pattern = _pattern(self.pattern)
        if pattern.sparsity is not None and self.sparsity == 0:
            object.__setattr__(self, "sparsity", pattern.sparsity)
        if self.sparsity != 0:
            checked_sparsity("sparsity", self.sparsity)
            refuse_other_sparsity("sparsity", self.sparsity, pattern)
        elif self.pattern != UNSTRUCTURED:
            raise ValueError(
                "`sparsity` must be given with a pattern of blocks. Received: "
                f"pattern={self.pattern!r}, sparsity={self.sparsity!r}. Pass 0.5, for example."
            )
        if self.scope is not None:
            one_of("scope", self.scope, SCOPES)
        whole_number("clusters", self.clusters, at_least=0)
        if self.quantize is not None:
            one_of("quantize", self.quantize, WAYS)
        if self.quantize == "int4" and (self.sparsity or self.clusters):
            raise ValueError(
                "`quantize` must not be 'int4' after pruning or clustering: Keras gives each group "
                "of weights an offset of its own, so zeros become other numbers. Received: "
                f"sparsity={self.sparsity!r}, clusters={self.clusters!r}. Pass 'int8' or 'aware'."
            )
        by_stage = self.epochs if isinstance(self.epochs, Mapping) else {"epochs": self.epochs}
        for stage, epochs in by_stage.items():
            if isinstance(self.epochs, Mapping):
                one_of("epochs", stage, STAGES)
            whole_number("epochs", epochs, at_least=0)
        for expression in sequence("keep", self.keep):
            checked_expression("keep", expression)
        if not self.stages:
            raise ValueError(
                "A chain must have a stage at least. Received: none. Pass channels, sparsity, "
                "clusters or quantize."
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in their order."""
        asked = (self.channels, self.sparsity, self.clusters, self.quantize)
        return tuple(name for name, value in zip(STAGES, asked, strict=True) if value)

    def epochs_of(self, stage: str) -> int:
        """Returns the epochs of a stage; 5 if `epochs` does not name it."""
        if isinstance(self.epochs, Mapping):
            return self.epochs.get(stage, _EPOCHS)
        return self.epochs

    def without_training(self) -> Chain:
        """Returns the same chain with 0 epochs: fast, and about as small."""
        return dataclasses.replace(self, epochs=0)

    def described(self, stage: str) -> str:
        """Returns what a stage does, in a few words."""
        zeros = "" if self.pattern == UNSTRUCTURED else f", {self.pattern}"
        texts: dict[str, Any] = {
            "channels": f"{100 * self.channels:g} % of channels cut",
            "prune": f"{100 * self.sparsity:g} % zeros{zeros}",
            "cluster": f"{self.clusters} values",
            "quantize": f"quantized ({self.quantize})",
        }
        return str(texts[stage])

    def __str__(self) -> str:
        return ", ".join(map(self.described, self.stages))


_EPOCHS = 5


def _pattern(name: str) -> Pattern:
    pattern = Pattern.named(name)
    if pattern.name == CHANNELS:
        raise ValueError(
            f"`pattern` must not be {CHANNELS!r} in a chain. Received: pattern={name!r}. Pass the "
            "fraction as `channels`, which cuts them out."
        )
    return pattern
