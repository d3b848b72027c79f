"""The time of an all-reduce by its size, fitted to measured times.

A message of n bytes takes alpha + n beta seconds (Hockney 1994). A ring of W workers sends
2 (W - 1) messages one after another, each of the W-th part of the values:

    t(n, W) = 2 (W - 1) (alpha + n beta / W)

A step with several workers costs more than its all-reduces: gradients are packed, weighted and
unpacked, and the workers compare notes. That is c + n d seconds, on any number of workers; it is
measured on models that send n bytes and compute next to nothing.

Sources: Hockney 1994, "The communication challenge for MPP", Parallel Computing 20, section 2;
Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH",
section 4.5; Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

FORMULA = "2 (W - 1) (alpha + n beta / W) for n bytes on W workers"
SOURCE = "Hockney 1994; Thakur et al. 2005, section 4.5; Patarasuk and Yuan 2009"


@dataclass(frozen=True)
class LinkLaw:
    """What a link between two workers costs.

    Attributes:
        latency: Seconds of a message without content: alpha. Not negative.
        seconds_per_byte: The inverse of the bandwidth: beta. Not negative.
        workers: Workers that it was measured on; 0 if it was not measured.
        largest_bytes: Largest size that was measured.
        relative_error: Of the fit, from 0 on: the largest of all measured sizes.
        step_latency: Seconds that a step with several workers takes beyond its all-reduces: c.
        step_seconds_per_byte: The same for each byte of its gradients: d.
        host_share: Part of the time that the processors of a worker are busy with an all-reduce,
            and cannot compute. From 0 to 1.
    """

    latency: float
    seconds_per_byte: float
    workers: int = 0
    largest_bytes: float = 0.0
    relative_error: float = 0.0
    step_latency: float = 0.0
    step_seconds_per_byte: float = 0.0
    host_share: float = 0.0

    def around(self, size: float) -> float:
        """Returns the seconds of a step with so many bytes of gradients beyond its all-reduces."""
        return self.step_latency + size * self.step_seconds_per_byte

    def message(self, size: float) -> float:
        """Returns the seconds of a message of so many bytes from one worker to another."""
        return self.latency + size * self.seconds_per_byte

    def all_reduce(self, size: float, workers: int) -> float:
        """Returns the seconds of an all-reduce of so many bytes; 0 on one worker.

        Example:
            >>> LinkLaw(latency=0.5, seconds_per_byte=0.25).all_reduce(8, workers=2)
            3.0
        """
        return 2 * (workers - 1) * self.message(size / workers)

    def gather(self, size: float, workers: int) -> float:
        """Returns the seconds until all workers have all parts of so many bytes together.

        Example:
            >>> LinkLaw(latency=0.5, seconds_per_byte=0.25).gather(8, workers=2)
            1.5
        """
        return self.all_reduce(size, workers) / 2


def nominal(latency: float, bits_per_second: float, measured: LinkLaw | None = None) -> LinkLaw:
    """Returns the law of a link of which only the data sheet is known.

    Args:
        latency: Seconds of a message without content. Not negative.
        bits_per_second: Bandwidth. Positive.
        measured: Another link. What a step costs beyond its all-reduces is a matter of the workers,
            so it is taken from there; without it, it counts as nothing.

    Example:
        >>> nominal(latency=1e-5, bits_per_second=8e9).message(1e9)
        1.00001
    """
    law = LinkLaw(latency, 8.0 / bits_per_second)
    if measured is None:
        return law
    return replace(
        law,
        step_latency=measured.step_latency,
        step_seconds_per_byte=measured.step_seconds_per_byte,
    )


def fitted(
    times: Mapping[int, float],
    workers: int,
    *,
    more_of_steps: Mapping[int, float] | None = None,
    host_share: float = 0.0,
) -> LinkLaw:
    """Fits latency and bandwidth to measured all-reduces, by the smallest relative errors.

    Args:
        times: Seconds by bytes; at least two sizes. Positive.
        workers: That took part. At least 2.
        more_of_steps: By bytes of gradients: seconds by which a step with other workers is longer
            than one without. None if it was not measured.
        host_share: See `LinkLaw`.

    Raises:
        ValueError: If there are too few sizes or workers.

    Example:
        >>> law = fitted({100: 1.5, 200: 2.5, 400: 4.5}, workers=2)
        >>> round(law.latency, 6), round(law.seconds_per_byte, 6)
        (0.25, 0.01)
    """
    import numpy as np

    from tfscale.bench.cost_law import non_negative_least_squares

    if workers < 2:
        raise ValueError(
            f"`workers` must be at least 2. Received: workers={workers}. Measure under "
            "`tfscale launch --num_workers=2`."
        )
    if len(times) < 2:
        raise ValueError(
            f"`times` must have at least 2 sizes. Received: {sorted(times)}. Measure more sizes."
        )
    sizes = np.array(list(times), float)
    measured = np.array(list(times.values()), float)
    messages = 2.0 * (workers - 1)
    matrix = np.stack([np.full_like(sizes, messages), messages * sizes / workers], axis=1)
    latency, seconds_per_byte = non_negative_least_squares(
        matrix / measured[:, None], np.ones(len(sizes))
    )
    errors = (matrix @ [latency, seconds_per_byte]) / measured - 1
    law = LinkLaw(
        latency=float(latency),
        seconds_per_byte=float(seconds_per_byte),
        workers=workers,
        largest_bytes=float(sizes.max()),
        relative_error=float(np.abs(errors).max()),
        host_share=host_share,
    )
    if not more_of_steps:
        return law
    more = np.array([(1.0, size) for size in more_of_steps])
    around = [seconds - law.all_reduce(n, workers) for n, seconds in more_of_steps.items()]
    step_latency, by_byte = non_negative_least_squares(more, around)
    return replace(law, step_latency=float(step_latency), step_seconds_per_byte=float(by_byte))
