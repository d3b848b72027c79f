"""What the processes of an all-reduce benchmark do: the sizes, and the turns.

This module needs the standard library only, because the peers' programs use it too.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tfscale.bench.turns import Turns

_UNITS = {"KB": 2**10, "MB": 2**20}
_BYTES_IN_A_TURN = 2**27
_MOST_IN_A_TURN = 100
FLOAT_BYTES = 4

Reduce = Callable[[int], None]
"""Adds up over all ranks as often as it is asked to, and waits for the last sum."""
NewReduce = Callable[[int], Reduce]
"""Returns the function of a size in bytes, after it has checked the sum of one call."""


@dataclass(frozen=True)
class Reduction:
    """The settings of an all-reduce benchmark.

    Attributes:
        sizes: Bytes to add up, in the order of the turns. Positive multiples of 4.
        rounds: Turns of each engine and size; the first is not counted. At least 2.
        threads: Threads of the host, divided among the ranks. Positive.
        timeout_seconds: Deadline of start-up and of each turn. Positive.
        patience_seconds: How long a process waits for its turn. Positive.
    """

    sizes: tuple[int, ...]
    rounds: int
    threads: int
    timeout_seconds: float
    patience_seconds: float

    def threads_of(self, processes: int) -> int:
        """Returns the threads of each of `processes` processes, at least 1."""
        return max(1, self.threads // max(1, processes))

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Reduction:
        """Returns the settings that `to_json` wrote."""
        values = json.loads(text)
        return Reduction(**{**values, "sizes": tuple(values["sizes"])})


def calls_of(size: int) -> int:
    """Returns how many all-reduces of a size are one turn: small ones are too short for a clock.

    Example:
        >>> calls_of(2**10), calls_of(25 * 2**20), calls_of(2**30)
        (100, 5, 2)
    """
    return max(2, min(_MOST_IN_A_TURN, _BYTES_IN_A_TURN // size))


def size_of(text: str) -> int:
    """Returns the bytes of a size such as "25MB".

    Raises:
        ValueError: If the text is something else.

    Example:
        >>> size_of("25MB")
        26214400
    """
    number, unit = text[:-2], text[-2:].upper()
    if not (number.isascii() and number.isdigit() and int(number) and unit in _UNITS):
        raise ValueError(f"must be a whole number of KB or MB. Received: {text!r}. Example: 25MB")
    return int(number) * _UNITS[unit]


def size_name(size: int) -> str:
    """Returns the name of a size that `size_of` has returned.

    Example:
        >>> size_name(2**10), size_name(25 * 2**20)
        ('1 KB', '25 MB')
    """
    unit = "KB" if size % _UNITS["MB"] else "MB"
    return f"{size // _UNITS[unit]} {unit}"


def expected_sum(num_ranks: int) -> float:
    """Returns the sum over the ranks of 1 for the first rank, 2 for the second, and so on.

    Example:
        >>> expected_sum(3)
        6.0
    """
    return num_ranks * (num_ranks + 1) / 2


def check_sum(found: float, num_ranks: int) -> None:
    """Checks an element of a sum of the ranks' numbers.

    Raises:
        RuntimeError: If it is not `expected_sum`.
    """
    if found != expected_sum(num_ranks):
        raise RuntimeError(
            f"The sum over {num_ranks} ranks must be {expected_sum(num_ranks)}. Received: {found}."
        )


def reduce_in_turns(reduction: Reduction, turns: Turns, new_reduce: NewReduce) -> None:
    """Runs the turns of one rank: in every round one turn for each size.

    Args:
        reduction: The settings.
        turns: The connection to the benchmark.
        new_reduce: Builds the function that is timed.
    """
    reduce = {size: new_reduce(size) for size in reduction.sizes}
    for size in reduction.sizes:
        reduce[size](calls_of(size))
    turns.ready(0.0)
    for _ in range(reduction.rounds):
        for size in reduction.sizes:
            turns.start()
            reduce[size](calls_of(size))
            turns.finish()


@dataclass(frozen=True)
class Rank:
    """The command line of a rank: what every program of this benchmark is started with.

    Attributes:
        turns: The connection to the benchmark. Close it at the end.
        engine: Name of the engine.
        num_ranks: Ranks that add up.
        threads: Threads of this process.
        reduction: The settings.
    """

    turns: Turns
    engine: str
    num_ranks: int
    threads: int
    reduction: Reduction

    @staticmethod
    def from_command_line() -> Rank:
        """Reads ADDRESS ENGINE NUM_RANKS THREADS REDUCTION, and connects."""
        address, engine, num_ranks, threads, text = sys.argv[1:]
        reduction = Reduction.from_json(text)
        turns = Turns(address, reduction.patience_seconds)
        return Rank(turns, engine, int(num_ranks), int(threads), reduction)
