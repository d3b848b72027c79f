"""Several workers that try the same batch sizes, each on its devices, and agree on what fits."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable
from typing import Any

from strategies import multi_worker_mirrored_strategy
from strategies.extension import exchange
from tfscale.find.probing import Probe, ProbeFailed

_MARGIN_SECONDS = 120.0
"""Beyond the deadline of a process: to start it, and to end it."""


class Workers:
    """The workers of this process's cluster, which it joins.

    All workers make the same calls in the same order, and get the same results.

    Args:
        seconds: Deadline of a process that tries a size.

    Attributes:
        count: How many workers there are.
        on_this_host: How many of them are on this host.
        strategy: Name of the strategy of each one's processes.

    Raises:
        ValueError: If the environment describes no cluster, or its devices are in use.
    """

    def __init__(self, seconds: float) -> None:
        self.strategy = "mirrored" if _shared_gpus() else "one_device"
        self._strategy = multi_worker_mirrored_strategy()
        self._seconds = seconds
        host = socket.gethostname()
        hosts = exchange(self._strategy, "find_batch_size", host)
        self.count, self.on_this_host = len(hosts), hosts.count(host)

    def refuse_other_arguments(self, arguments: dict[str, Any]) -> None:
        """Compares what the workers were called with.

        Raises:
            ValueError: If it differs, on all workers.
        """
        texts = exchange(self._strategy, "arguments", json.dumps(arguments))
        called = [json.loads(text) for text in texts]
        for name in arguments:
            values = [each[name] for each in called]
            if values.count(values[0]) != len(values):
                raise ValueError(
                    f"`{name}` must be the same on all workers. Received: {values!r}, by worker. "
                    "Pass the same."
                )

    def agreed(self, size: int, attempt: Callable[[int], Probe]) -> Probe:
        """Tries a batch size on all workers.

        Args:
            size: Of all workers together, a multiple of their number.
            attempt: Tries a size on this one.

        Returns:
            What fits all, measured by the slowest worker: the speed is its own, times the workers;
            the memory is the largest; the noise scale is that of the first worker.

        Raises:
            ValueError: If it raises one on any worker.
            ProbeFailed: The same.
        """
        own: dict[str, Any]
        try:
            own = {"probe": dataclasses.asdict(attempt(size // self.count))}
        except (ValueError, ProbeFailed) as error:
            own = {"error": str(error), "is_usage": isinstance(error, ValueError)}
        texts = exchange(
            self._strategy,
            f"batch size {size}",
            json.dumps(own),
            deadline_seconds=self._seconds + _MARGIN_SECONDS,
        )
        answers = [json.loads(text) for text in texts]
        for worker, answer in enumerate(answers):
            if "error" in answer:
                kind = ValueError if answer["is_usage"] else ProbeFailed
                raise kind(f"worker {worker}: {answer['error']}")
        return _combined(size, [Probe(**answer["probe"]) for answer in answers])


def _combined(size: int, probes: list[Probe]) -> Probe:
    whys = [f"worker {k}: {each.why}" for k, each in enumerate(probes) if not each.fits]
    speeds = [each.examples_per_second for each in probes if each.examples_per_second is not None]
    host = [each.host_bytes for each in probes if each.host_bytes is not None]
    devices = [each.device_bytes for each in probes if each.device_bytes is not None]
    return Probe(
        size,
        fits=not whys,
        why=whys[0] if whys else "",
        examples_per_second=None if whys else len(probes) * min(speeds),
        host_bytes=max(host, default=None),
        device_bytes=max(devices, default=None),
        noise_scale=None if whys else probes[0].noise_scale,
    )


def _shared_gpus() -> bool:
    """Leaves the memory of GPUs to other processes. Returns whether there are any.

    Raises:
        ValueError: If this process has taken it already.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    try:
        for gpu in gpus:
            if not tf.config.experimental.get_memory_growth(gpu):
                tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        raise ValueError(
            "`strategy` must be found before this process uses its GPUs, whose memory it has taken "
            "for itself. Received: strategy='multi_worker_mirrored' after their first use. Call "
            "find_batch_size first, or tf.config.experimental.set_memory_growth."
        ) from error
    return bool(gpus)
