"""What the strategies send in a step, and how much of that computing hides.

Workers of this project send gradients in packs of 16 MiB, those of the last layers first. A pack
can travel while gradients of earlier layers are computed, one pack at a time:

    end_i = max(end_(i-1), ready_i) + t_i,    exposed = end_last - ready_last

where ready_i is when all gradients of pack i are there. The backward pass is taken to need two
thirds of the time of rows (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), and each gradient a
time in proportion to its bytes. One pack, a model below 16 MiB, hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Exchange:
    """The communication of a step.

    Attributes:
        exposed: Seconds that computing does not hide. Not negative.
        total: Seconds of all of it. At least `exposed`.
    """

    exposed: float
    total: float

    def __add__(self, other: Exchange) -> Exchange:
        return Exchange(self.exposed + other.exposed, self.total + other.total)


def blocking(seconds: float) -> Exchange:
    """Returns an exchange that nothing hides."""
    return Exchange(seconds, seconds)


def hidden_by_backward(
    pack_bytes: Sequence[float],
    pack_seconds: Sequence[float],
    backward_seconds: float,
    host_share: float = 0.0,
) -> Exchange:
    """Returns the exchange of packs that travel during the backward pass.

    Args:
        pack_bytes: Of each pack, in the order in which they travel.
        pack_seconds: Of each pack.
        backward_seconds: Of the backward pass. Not negative.
        host_share: Part of the time of communication in which the processors that compute are busy
            with it: that part hides nothing. From 0 to 1.

    Example:
        >>> hidden_by_backward([1, 1], [3.0, 3.0], backward_seconds=4.0)
        Exchange(exposed=4.0, total=6.0)
    """
    total, all_bytes = sum(pack_seconds), sum(pack_bytes)
    there, end = 0.0, 0.0
    for size, seconds in zip(pack_bytes, pack_seconds, strict=True):
        there += size
        ready = backward_seconds * there / all_bytes if all_bytes else backward_seconds
        end = max(end, ready) + seconds
    exposed = max(0.0, end - backward_seconds)
    return Exchange(exposed + host_share * (total - exposed), total)
