"""Finds a chain that makes a model small enough, or as small as its quality allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strategies.extension import number, sequence, whole_number
from tfscale.shrink.chain.chain import AWARE, Chain
from tfscale.shrink.chain.compressing import Compressed


@dataclass(frozen=True)
class FoundChain:
    """What a search has found.

    Attributes:
        best: The result that meets the limits; None if none does.
        tried: All results that were trained, in their order.
        lost: By result of `tried`, how much worse the metric is than the model's before.
    """

    best: Compressed | None
    tried: tuple[Compressed, ...]
    lost: tuple[float, ...]


def search_chain(
    attempt: Callable[[Chain], Compressed],
    ladder: Sequence[Chain],
    *,
    metric: str,
    higher_is_better: bool,
    target_size: int | None = None,
    max_accuracy_loss: float | None = None,
) -> FoundChain:
    """Searches a ladder of chains, from the mildest to the strongest.

    With `target_size`, the mildest chain whose file is small enough. With `max_accuracy_loss`, the
    strongest that does not lose more, by bisection. With both, the first, if it does not lose too
    much. Sizes are estimated without training, so only a few chains are trained; what is returned
    is measured.

    Args:
        attempt: Compresses the model by a chain; see `compress`. It is also called with chains
            without training. Measure on data that choose, and the result on other data.
        ladder: Each chain makes smaller files than the one before, and loses more; see
            `chain_ladder`.
        metric: A name in `StageCost.metrics`, such as "accuracy".
        higher_is_better: Whether a larger metric is better.
        target_size: Bytes of the file compressed by gzip, at most.
        max_accuracy_loss: How much worse the metric may become, in its own unit: 0.01 for a point
            of accuracy. Not negative.

    Returns:
        The chain, and all that were trained.

    Raises:
        ValueError: If there is no limit, or there is no such metric.

    Example:
        >>> ladder = chain_ladder(epochs=2)
        >>> print(ladder[0], "...", ladder[-1], sep="; ")
        quantized (aware); ...; 75 % of channels cut, 90 % zeros, 8 values, quantized (aware)
    """
    if target_size is None and max_accuracy_loss is None:
        raise ValueError(
            "`target_size` or `max_accuracy_loss` must be given. Received: neither. Without a "
            "limit call compress with one chain."
        )
    if target_size is not None:
        whole_number("target_size", target_size)
    if max_accuracy_loss is not None:
        number("max_accuracy_loss", max_accuracy_loss, "not negative", lambda loss: loss >= 0)
    ladder = sequence("ladder", ladder)
    if not ladder:
        raise ValueError("`ladder` must have a chain at least. Received: none.")
    search = _Search(attempt, metric, higher_is_better)
    if target_size is not None:
        best = search.small_enough(ladder, target_size)
        is_too_bad = (
            best is not None
            and max_accuracy_loss is not None
            and search.lost[-1] > max_accuracy_loss
        )
        return search.found(None if is_too_bad else best)
    assert max_accuracy_loss is not None
    return search.found(search.good_enough(ladder, max_accuracy_loss))


class _Search:
    def __init__(
        self, attempt: Callable[[Chain], Compressed], metric: str, higher_is_better: bool
    ) -> None:
        self._attempt = attempt
        self._metric = metric
        self._sign = 1.0 if higher_is_better else -1.0
        self.tried: list[Compressed] = []
        self.lost: list[float] = []

    def found(self, best: Compressed | None) -> FoundChain:
        return FoundChain(best, tuple(self.tried), tuple(self.lost))

    def small_enough(self, ladder: Sequence[Chain], target_size: int) -> Compressed | None:
        """Returns the mildest chain whose file is small enough, or None."""
        for chain in ladder:
            estimate = self._attempt(chain.without_training()).stages[-1].gzip_bytes
            # Training changes a size a little, so what is nearly small enough is tried too.
            if estimate > _NEARLY * target_size:
                continue
            result = self._trained(chain)
            if result.stages[-1].gzip_bytes <= target_size:
                return result
        return None

    def good_enough(self, ladder: Sequence[Chain], max_accuracy_loss: float) -> Compressed | None:
        """Returns the strongest chain that does not lose too much, by bisection, or None."""
        best, low, high = None, 0, len(ladder)
        while low < high:
            middle = (low + high) // 2
            result = self._trained(ladder[middle])
            if self.lost[-1] <= max_accuracy_loss:
                best, low = result, middle + 1
            else:
                high = middle
        return best

    def _trained(self, chain: Chain) -> Compressed:
        result = self._attempt(chain)
        before, after = result.stages[0].metrics, result.stages[-1].metrics
        if self._metric not in before:
            raise ValueError(
                f"`metric` must be one of {', '.join(before)}. Received: metric={self._metric!r}. "
                "Compile the model with it."
            )
        self.tried.append(result)
        self.lost.append(self._sign * (before[self._metric] - after[self._metric]))
        return result


_NEARLY = 1.05


def chain_ladder(
    *, quantize: str | None = AWARE, epochs: int = 5, cuts: bool = True, keep: Sequence[str] = ()
) -> list[Chain]:
    """Returns chains from the mildest to the strongest, for `search_chain`.

    Args:
        quantize: As in `Chain`, at the end of each.
        epochs: Of each stage.
        cuts: Whether the strongest cut channels, for models where they can go.
        keep: As in `Chain`.

    Example:
        >>> print(*chain_ladder(epochs=3, cuts=False)[:3], sep="; ")
        quantized (aware); 50 % zeros, quantized (aware); 70 % zeros, quantized (aware)
    """
    rungs: list[tuple[float, float, int]] = [
        (0.0, 0.0, 0),
        (0.0, 0.5, 0),
        (0.0, 0.7, 0),
        (0.0, 0.8, 16),
        (0.0, 0.9, 16),
        *([(0.25, 0.8, 16), (0.5, 0.8, 16), (0.5, 0.9, 16), (0.75, 0.9, 8)] if cuts else []),
        *([] if cuts else [(0.0, 0.95, 16), (0.0, 0.95, 8)]),
    ]
    return [
        Chain(
            channels=channels,
            sparsity=sparsity,
            clusters=clusters,
            quantize=quantize,
            epochs=epochs,
            keep=keep,
        )
        for channels, sparsity, clusters in rungs
        if quantize is not None or sparsity
    ]
