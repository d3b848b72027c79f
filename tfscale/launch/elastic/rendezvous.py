"""Where the launchers of an elastic job meet, and with how many workers it runs."""

from __future__ import annotations

from dataclasses import dataclass

from strategies import Cluster
from strategies.extension import number, truth, whole_number

_MOST_WORKERS = 4096


@dataclass(frozen=True)
class Rendezvous:
    """The rendezvous of a job, the same for the launchers of all hosts but for `host_address`.

    The launcher that `address` belongs to runs the rendezvous; the others connect to it. So its
    launcher must run as long as the job.

    Attributes:
        address: "host:port". A host is a name, an IPv4 address, or an IPv6 address in brackets.
        min_workers: Fewest workers to train with. A positive multiple of `workers_per_host`.
        max_workers: Most workers. A multiple of `workers_per_host`, at least `min_workers`.
        workers_per_host: Workers of every launcher. Positive.
        job_name: A launcher with another name is refused; for two jobs whose addresses may be
            confused.
        host_address: Name or IP address under which the other hosts reach the workers of this one.
            None takes the local end of the connection to the rendezvous.
        settle_seconds: How long no host must join before the job starts with fewer than
            `max_workers`, and before it restarts with those that have joined. At least 0.
        join_seconds: How long to wait for `min_workers`, and for the rendezvous. Positive.
        checks_memory: Whether a start with fewer workers than before needs room for their larger
            shares of the global batch.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> Rendezvous("10.0.0.1:29400", min_workers=2, max_workers=4).max_hosts
        4
    """

    address: str
    min_workers: int
    max_workers: int
    workers_per_host: int = 1
    job_name: str = ""
    host_address: str | None = None
    settle_seconds: float = 5.0
    join_seconds: float = 600.0
    checks_memory: bool = True

    def __post_init__(self) -> None:
        _refuse_other_address("rendezvous", self.address, self.address)
        if self.host_address is not None:
            _refuse_other_address("host_address", self.host_address, f"{self.host_address}:1")
        if not isinstance(self.job_name, str):
            raise ValueError(
                f"`job_name` must be a string. Received: job_name={self.job_name!r}. Omit it."
            )
        each = whole_number("workers_per_host", self.workers_per_host)
        for name in ("min_workers", "max_workers"):
            count = whole_number(name, getattr(self, name))
            if count % each or count > _MOST_WORKERS:
                raise ValueError(
                    f"`{name}` must be a multiple of `workers_per_host`, at most {_MOST_WORKERS}. "
                    f"Received: {name}={count}, workers_per_host={each}. The job counts workers, "
                    "not hosts."
                )
        if self.min_workers > self.max_workers:
            raise ValueError(
                "`min_workers` must be at most `max_workers`. Received: "
                f"min_workers={self.min_workers}, max_workers={self.max_workers}. "
                f"Example: --num_workers={self.max_workers}:{self.min_workers}."
            )
        rule, cure = "finite and at least 0", "Pass 0 to start with those that are there."
        number("settle_seconds", self.settle_seconds, rule, lambda seconds: seconds >= 0, cure=cure)
        rule, cure = "positive and finite", "Omit it for the default of 600 s."
        number("join_seconds", self.join_seconds, rule, lambda seconds: seconds > 0, cure=cure)
        truth("checks_memory", self.checks_memory)

    @property
    def host(self) -> str:
        """The host of the address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.address.rpartition(":")[2])

    @property
    def min_hosts(self) -> int:
        """Fewest hosts to train with."""
        return self.min_workers // self.workers_per_host

    @property
    def max_hosts(self) -> int:
        """Most hosts to train with."""
        return self.max_workers // self.workers_per_host


def _refuse_other_address(name: str, value: object, address: str) -> None:
    try:
        if not isinstance(value, str):
            raise ValueError("it is no text")
        Cluster({"worker": (address,)}, "worker", 0)
    except ValueError:
        form = "host:port" if name == "rendezvous" else "a host without a port"
        raise ValueError(
            f"`{name}` must be {form}: a name, an IPv4 address, or an IPv6 address in brackets. "
            f'Received: {name}={value!r}. Examples: "10.0.0.1:29400", "[fd00::1]:29400".'
        ) from None
