"""What launchers and the rendezvous say to each other: one JSON object a line, with a largest size.

The connection is neither encrypted nor authenticated. So everything that arrives is checked before
it is used: the kind of message, the names and the types of its values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

PROTOCOL = 1
LONGEST_MESSAGE = 1 << 18  # Bytes: the addresses of a thousand workers are 30 KB.
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Hello:
    """The first message of a launcher: what it was started with, which must be the same everywhere.

    Attributes:
        protocol: `PROTOCOL`.
        job_name: `--job_name`.
        min_workers: MIN of `--num_workers=MIN:MAX`.
        max_workers: MAX.
        workers_per_host: Workers of each launcher.
        command: Digest of the command; see `digest`.
        address: The host in the addresses of its workers; an IPv6 address in brackets.
        token: What only the launcher that runs the rendezvous knows.
    """

    protocol: int
    job_name: str
    min_workers: int
    max_workers: int
    workers_per_host: int
    command: str
    address: str
    token: str

    def difference(self, other: Hello) -> str:
        """Returns how another launcher differs from this one, which runs the rendezvous, or ""."""
        for name, flag in _SAME.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                said = "" if name == "command" else f": {theirs!r}, and there {mine!r}"
                return f"its {flag} differs{said}"
        return ""


_SAME = {
    "protocol": "version of tfscale",
    "job_name": "--job_name",
    "min_workers": "MIN of --num_workers=MIN:MAX",
    "max_workers": "MAX of --num_workers=MIN:MAX",
    "workers_per_host": "--workers_per_host",
    "command": "command",
}


@dataclass(frozen=True)
class Offer:
    """The launcher has no workers, and can start some.

    Attributes:
        ports: A free port for each of its workers.
        room: Bytes of memory that are free on its host; None if unknown.
    """

    ports: tuple[int, ...]
    room: int | None


@dataclass(frozen=True)
class Failing:
    """Workers of this launcher have failed. It is ending the others.

    Attributes:
        sentence: Which worker, and how.
        status: Exit status, as a shell would show it.
        is_own: Whether it failed independently of the other workers.
    """

    sentence: str
    status: int
    is_own: bool


@dataclass(frozen=True)
class Ended:
    """All workers of this launcher have ended.

    Attributes:
        succeeded: Whether all ended with status 0.
        saved: Whether all ended with status 42: preempted, all saved.
        peak: Largest memory of one worker in bytes; None if unknown.
    """

    succeeded: bool
    saved: bool
    peak: int | None


@dataclass(frozen=True)
class Leaving:
    """The launcher will end, once its workers have.

    Attributes:
        reason: Such as "SIGTERM received".
        status: Its exit status, if not everything is saved.
    """

    reason: str
    status: int


@dataclass(frozen=True)
class Alive:
    """Nothing but a sign of life, in both directions."""


@dataclass(frozen=True)
class Welcome:
    """The answer to `Hello`.

    Attributes:
        job: Identifies the job over restarts: TFSCALE_JOB_ID.
    """

    job: str


@dataclass(frozen=True)
class Refused:
    """The other answer to `Hello`."""

    reason: str


@dataclass(frozen=True)
class Start:
    """Start workers.

    Attributes:
        restart: Number of earlier starts of the job.
        addresses: "host:port" of every worker of the job.
        first: Index of the launcher's first worker.
    """

    restart: int
    addresses: tuple[str, ...]
    first: int


@dataclass(frozen=True)
class Stop:
    """End the workers: SIGTERM, and SIGKILL after the grace period."""


@dataclass(frozen=True)
class Note:
    """A sentence for the launcher's standard error, without its end mark."""

    text: str


@dataclass(frozen=True)
class Finish:
    """The job is over.

    Attributes:
        status: Exit status of every launcher.
        sentence: Why, without the end mark.
        restarts: Number of restarts.
    """

    status: int
    sentence: str
    restarts: int


Message: TypeAlias = (
    Hello | Offer | Failing | Ended | Leaving | Alive | Welcome | Refused | Start | Stop | Note
    | Finish
)  # fmt: skip
FROM_LAUNCHERS = (Hello, Offer, Failing, Ended, Leaving, Alive)
FROM_RENDEZVOUS = (Welcome, Refused, Start, Stop, Note, Finish, Alive)


def digest(command: Sequence[str]) -> str:
    """Returns a text that is the same for the same command only, and does not show it."""
    return hashlib.sha256("\0".join(command).encode(errors="surrogateescape")).hexdigest()


def encoded(message: Message) -> bytes:
    """Returns a message as a line."""
    values = {"tfscale": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def decoded(line: bytes, kinds: tuple[type[Any], ...]) -> Message:
    """Returns the message in a line.

    Args:
        line: The line, with or without its end.
        kinds: The classes that are accepted.

    Raises:
        ValueError: If the line is something else.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    name = values.pop("tfscale", None)
    kind = next((each for each in kinds if each.__name__ == name), None)
    if kind is None:
        raise ValueError("its kind is unknown")
    fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    if set(values) != set(fields):
        raise ValueError(f"a {name} has other values")
    for each, value in values.items():
        if not _IS_RIGHT[fields[each]](value):
            raise ValueError(f"`{each}` of a {name} has another type")
        if isinstance(value, list):
            values[each] = tuple(value)
    message: Message = kind(**values)
    return message


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": _is_integer,
    "int | None": lambda value: value is None or _is_integer(value),
    "str": lambda value: isinstance(value, str),
    "tuple[int, ...]": lambda value: isinstance(value, list) and all(map(_is_integer, value)),
    "tuple[str, ...]": lambda value: (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    ),
}
