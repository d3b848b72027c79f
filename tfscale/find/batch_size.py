"""Finds a batch size: the largest that fits, the fastest, and the gradient noise scale."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strategies.extension import (
    cluster_from_environment,
    number,
    one_of,
    whole_number,
)
from tfscale.cli.modules import search_current_folder
from tfscale.cli.sizes import shown_bytes
from tfscale.files.room import free_memory
from tfscale.find.batch_probe import Request
from tfscale.find.probing import Probe, probe

_SEVERAL = "multi_worker_mirrored"
_STRATEGIES = ("one_device", "mirrored", _SEVERAL)
_SMALLEST, _LARGEST = 8, 65536
"""Of each worker."""
_PART_OF_MEMORY = 0.9
_HALVINGS = 3
"""Of the interval between a size that fits and its double: to an eighth of it."""


@dataclass(frozen=True)
class FoundBatchSize:
    """The batch sizes that were tried; print it for a table.

    Attributes:
        probes: Those tried, ascending.
        largest: The largest that fits.
        fastest: Of those that fit, the one with the most examples a second.
        noise_scale: The gradient noise scale in examples at the weights after the measured steps:
            with a batch of this size, training needs about twice the examples, and about twice the
            steps, of the least of each; much larger batches waste examples. It grows during
            training. None if it is not known.
    """

    probes: tuple[Probe, ...]
    largest: int
    fastest: int
    noise_scale: float | None

    def __str__(self) -> str:
        head = ("batch", "examples/s", "host memory", "GPU memory", "")
        lines = [head, *(_cells(each) for each in self.probes)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        table = "\n".join(
            "  ".join(
                cell.ljust(width) if k == len(head) - 1 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        noise = "not known" if self.noise_scale is None else f"{self.noise_scale:,.0f} examples"
        return (
            f"{table}\n\nlargest that fits: {self.largest:,}\nfastest: {self.fastest:,}\n"
            f"gradient noise scale after these few steps: {noise}"
        )


def find_batch_size(
    make: str | Callable[[int], tuple[Any, Any]],
    *,
    strategy: str = "one_device",
    num_replicas: int | None = None,
    smallest: int | None = None,
    largest: int | None = None,
    steps: int = 10,
    memory_limit: int | None = None,
    seconds: float = 300.0,
    say: Callable[[str], None] | None = None,
) -> FoundBatchSize:
    """Finds the largest batch that fits into memory, and the fastest.

    Each size is tried in a process of its own, because a process that needs too much memory is
    killed on a CPU, and may leave a GPU in disorder. Nothing happens to this one. Sizes are doubled
    until one does not fit, and then bisected.

    With several workers all call it, and all get the same result. Each tries its part of a batch on
    its own devices, at the same time as the others: a size fits if it fits all, and its speed is
    that of the slowest. Gradients are not reduced between workers meanwhile, so the speed is an
    upper limit. This process joins the cluster, and on GPUs leaves their memory to other processes
    (`set_memory_growth`).

    Args:
        make: A function that other processes can import, or "module:function". It is called with a
            batch size in the strategy's scope, and returns a compiled model and data: arrays (x,
            y), of which rows are repeated as needed, or batches of that size. The size is that of
            the global batch, with several workers of a worker's part of it.
        strategy: "one_device" or "mirrored", of each process, or "multi_worker_mirrored" in each
            worker of a cluster.
        num_replicas: Replicas of "mirrored"; None for every GPU, or 2 on CPUs.
        smallest: The first size, a multiple of the workers. None: 8 for each worker.
        largest: No larger size is tried. At least `smallest`. None: 65,536 for each worker.
        steps: Measured in each process. At least 3.
        memory_limit: Bytes of the host for a process. None: 90 % of what is available now, divided
            by the workers that are on this host.
        seconds: Deadline of a process. A size that takes longer does not fit.
        say: Takes lines of progress.

    Returns:
        The sizes and what they measured.

    Raises:
        ValueError: If an argument is wrong or differs between workers, or not even `smallest` fits.
        ProbeFailed: If training raises an error that is not about memory.

    Example:
        >>> try:
        ...     find_batch_size(lambda batch_size: (model, data))  # nothing can import it
        ... except ValueError as error:
        ...     print(str(error)[:58])
        `make` must be a function that another process can import,

    Source: the noise scale, McCandlish et al. 2018, arXiv:1812.06162.
    """
    target = _target(make)
    one_of("strategy", strategy, _STRATEGIES)
    if num_replicas is not None:
        if strategy != "mirrored":
            raise ValueError(
                '`num_replicas` must be None unless `strategy` is "mirrored". Received: '
                f"num_replicas={num_replicas!r}, strategy={strategy!r}. Leave it out."
            )
        whole_number("num_replicas", num_replicas)
    if smallest is not None:
        smallest = whole_number("smallest", smallest)
    if largest is not None:
        largest = whole_number("largest", largest)
    steps = whole_number("steps", steps, at_least=3)
    number("seconds", seconds, "positive", lambda value: value > 0)
    if memory_limit is not None:
        whole_number("memory_limit", memory_limit, cure="Pass bytes, such as 4 * 2**30.")
    _refuse_one_of_several(strategy)
    workers, count = None, 1
    if strategy == _SEVERAL:
        from tfscale.find.agreement import Workers  # imports TensorFlow

        workers = Workers(seconds)
        count = workers.count
        arguments = {"smallest": smallest, "largest": largest, "steps": steps, "seconds": seconds}
        workers.refuse_other_arguments({"make": target, **arguments})
        strategy = workers.strategy
    if memory_limit is None:
        memory_limit = _free_memory() // (1 if workers is None else workers.on_this_host)
    smallest = _SMALLEST * count if smallest is None else smallest
    if smallest % count:
        raise ValueError(
            f"`smallest` must be a multiple of the {count} workers, of which each has an equal "
            f"part. Received: smallest={smallest}. Pass {smallest // count * count + count}."
        )
    largest = _LARGEST * count if largest is None else largest // count * count
    whole_number("largest", largest, at_least=smallest, cure="Pass a larger one.")
    say = say or (lambda line: None)
    probes: dict[int, Probe] = {}

    def attempt(size: int) -> Probe:
        request = Request(
            target=target,
            path=[search_current_folder()],
            strategy=strategy,
            num_replicas=num_replicas,
            batch_size=size,
            steps=steps,
            has_noise=not probes,
        )
        return probe(request, memory_limit=memory_limit, seconds=seconds)

    def fits(size: int) -> bool:
        say(f"batch size {size:,}")
        probes[size] = attempt(size) if workers is None else workers.agreed(size, attempt)
        return probes[size].fits

    if not fits(smallest):
        raise ValueError(
            f"`smallest` must be a batch size that fits. Received: smallest={smallest}: "
            f"{probes[smallest].why}. Pass a smaller one, or more `memory_limit` or `seconds`."
        )
    good, bad = smallest, None
    while bad is None and good < largest:
        size = min(2 * good, largest)
        good, bad = (size, None) if fits(size) else (good, size)
    for _ in range(_HALVINGS):
        if bad is not None and bad - good > count:
            middle = (good + bad) // (2 * count) * count
            good, bad = (middle, bad) if fits(middle) else (good, middle)
    tried = tuple(probes[size] for size in sorted(probes))
    fitting = [each for each in tried if each.fits]
    return FoundBatchSize(
        probes=tried,
        largest=good,
        fastest=max(fitting, key=lambda each: each.examples_per_second or 0.0).batch_size,
        noise_scale=probes[smallest].noise_scale,
    )


def _refuse_one_of_several(strategy: str) -> None:
    cluster = cluster_from_environment()
    if strategy != _SEVERAL and cluster is not None and cluster.num_workers > 1:
        raise ValueError(
            f'`strategy` must be "{_SEVERAL}" in one of {cluster.num_workers} workers, which would '
            f'find different sizes. Received: strategy={strategy!r}. Pass "{_SEVERAL}".'
        )


def _free_memory() -> int:
    available = free_memory()
    if available is None:
        raise ValueError(
            "`memory_limit` must be given on this system, which does not tell the memory that is "
            "available. Received: memory_limit=None. Pass bytes."
        )
    return int(_PART_OF_MEMORY * available)


def _target(make: Any) -> str:
    if isinstance(make, str):
        if re.fullmatch(r"\w+(\.\w+)*:\w+", make):
            return make
    else:
        module, name = getattr(make, "__module__", None), getattr(make, "__qualname__", "<")
        if module not in (None, "__main__", "builtins") and name.isidentifier():
            return f"{module}:{name}"
    raise ValueError(
        "`make` must be a function that another process can import, or 'module:function'. "
        f"Received: make={make!r}. Put it into a file of its own, at the top level."
    )


def _cells(each: Probe) -> tuple[str, ...]:
    speed = "" if each.examples_per_second is None else f"{each.examples_per_second:,.0f}"
    memory = [
        "" if size is None else shown_bytes(size) for size in (each.host_bytes, each.device_bytes)
    ]
    return (f"{each.batch_size:,}", speed, *memory, each.why)
