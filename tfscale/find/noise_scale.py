"""The gradient noise scale: how many examples a gradient needs before more of them are wasted.

Source: McCandlish et al. 2018, arXiv:1812.06162: the simple noise scale, section 2.2, estimated
from gradients of two batch sizes, appendix A.1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class NoiseScale:
    """Adds up gradients of equal batches of independent examples, all of the same weights.

    Args:
        batch_size: Examples of each. Positive.

    Example:
        >>> noise = NoiseScale(4)
        >>> for gradient in ([1.0, 3.0], [3.0, 1.0], [2.0, 2.0]):
        ...     noise.add([np.array(gradient)])
        >>> round(noise.estimate(), 3)
        1.091
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._count = 0
        self._squares = 0.0
        self._sum: list[np.ndarray] | None = None

    def add(self, gradients: Iterable[np.ndarray]) -> None:
        """Adds the gradient of the mean loss of a batch, by weight."""
        parts = [np.asarray(each, np.float64) for each in gradients]
        self._squares += sum(float(np.sum(part * part)) for part in parts)
        self._sum = (
            parts if self._sum is None else [a + b for a, b in zip(self._sum, parts, strict=True)]
        )
        self._count += 1

    def estimate(self) -> float | None:
        """Returns tr(S) / |G|^2 in examples, with the covariance S of an example's gradient.

        Returns:
            None if it is not known: of fewer than two batches, or where the estimate of |G|^2 is
            not positive, since noise hides the mean gradient.
        """
        if self._count < 2 or self._sum is None:
            return None
        small, large = self._batch_size, self._batch_size * self._count
        of_small = self._squares / self._count
        of_large = sum(float(np.sum(each * each)) for each in self._sum) / self._count**2
        signal = (large * of_large - small * of_small) / (large - small)
        noise = (of_small - of_large) / (1 / small - 1 / large)
        return noise / signal if signal > 0 else None
