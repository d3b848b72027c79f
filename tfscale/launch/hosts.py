"""The hosts of a job that spans several hosts: their addresses and the index of this host."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strategies import Cluster
from tfscale.launch.events import Events, NameAnswered, SignalReceived, next_event
from tfscale.launch.output import say


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job. One launcher runs on each of them.

    Every host starts the same number of workers. Worker k of a host listens k ports above the
    host's port. Workers are numbered host by host: with two workers per host, ("a:2222", "b:2222")
    gives workers 0 to 3 the addresses a:2222, a:2223, b:2222 and b:2223.

    Attributes:
        addresses: "host:port" of each host, the same list in the same order for every launcher.
            A host is a name, an IPv4 address, or an IPv6 address in brackets.
        index: Position of this host in `addresses`, from 0.

    Raises:
        ValueError: If an address is malformed or the index is out of range.

    Example:
        >>> hosts = Hosts(("a:2222", "b:2222"), 1)
        >>> hosts.worker_addresses(2), hosts.first_worker(2)
        (('a:2222', 'a:2223', 'b:2222', 'b:2223'), 2)
    """

    addresses: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        is_sequence = isinstance(self.addresses, Sequence) and not isinstance(
            self.addresses, (str, bytes)
        )
        if not is_sequence or not self.addresses:
            raise ValueError(
                "`hosts` must be a sequence of at least one address. "
                f"Received: hosts={self.addresses!r}. Example: ('10.0.0.1:2222', '10.0.0.2:2222')."
            )
        for address in self.addresses:
            try:
                Cluster({"worker": (address,)}, "worker", 0)
            except ValueError:
                raise ValueError(
                    '`hosts` must be addresses "host:port" with a port from 1 to 65535. '
                    f"Received: {address!r} in hosts={list(self.addresses)}. "
                    'Examples: "10.0.0.1:2222", "[fd00::1]:2222".'
                ) from None
        is_index = isinstance(self.index, int) and not isinstance(self.index, bool)
        if not is_index or not 0 <= self.index < len(self.addresses):
            raise ValueError(
                "`host_index` must be the position of this host in `hosts`, from 0 to "
                f"{len(self.addresses) - 1}. Received: host_index={self.index!r}. "
                "Pass every host's launcher the same list and its own index."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their ports."""
        return tuple(address.rpartition(":")[0] for address in self.addresses)

    def own_ports(self, num_workers: int) -> Sequence[int]:
        """Returns the ports of this host's workers, by index."""
        port = int(self.addresses[self.index].rpartition(":")[2])
        return range(port, port + num_workers)

    def first_worker(self, num_workers: int) -> int:
        """Returns the index of this host's first worker among the workers of all hosts."""
        return self.index * num_workers

    def worker_addresses(self, num_workers: int) -> tuple[str, ...]:
        """Returns the addresses of the workers of all hosts, by index.

        Args:
            num_workers: Workers per host. Positive.

        Raises:
            ValueError: If two workers have the same address, or a port exceeds 65535.
        """
        every = range(len(self.addresses))
        workers = tuple(
            f"{self.names[host]}:{port}"
            for host in every
            for port in Hosts(self.addresses, host).own_ports(num_workers)
        )
        try:
            Cluster({"worker": workers}, "worker", 0)
        except ValueError:
            raise ValueError(
                f"`hosts` must leave {num_workers} consecutive ports for each entry, none above "
                f"65535 and none used by another entry. Received: hosts={list(self.addresses)}. "
                f"Keep the ports of entries for the same host {num_workers} apart."
            ) from None
        return workers


_AGAIN_SECONDS = 1.0


def await_names(names: Iterable[str], seconds: float, events: Events) -> int | None:
    """Resolves all names, with repeated attempts, and prints once which cannot be resolved.

    Each name has its own thread, because a look-up cannot be interrupted and may take longer than
    the deadline.

    Args:
        names: Names, IPv4 addresses, or IPv6 addresses in brackets.
        seconds: The deadline. Positive.
        events: Queue for the answers. A signal in it ends the wait. Other events are dropped.

    Returns:
        The number of the signal that ended the wait, or None if all names have addresses.

    Raises:
        OSError: If a name has no address at the deadline.
    """
    missing: dict[str, str] = dict.fromkeys(names, "the resolver does not respond")
    deadline = time.monotonic() + seconds
    over = threading.Event()
    for name in missing:
        threading.Thread(target=_ask, args=(name, events, over), daemon=True).start()
    said: set[str] = set()
    try:
        while missing:
            match next_event(events, deadline):
                case None:
                    raise OSError(
                        f"after {seconds:g} s there is still no address for "
                        + ", ".join(f"host {name!r} ({why})" for name, why in missing.items())
                        + ". Correct the name, or increase `start_seconds`."
                    )
                case SignalReceived(number):
                    return number
                case NameAnswered(name, None):
                    missing.pop(name, None)
                case NameAnswered(name, str(reason)) if name in missing:
                    missing[name] = reason
                    if name not in said:
                        said.add(name)
                        say(f"host {name!r} has no address ({reason}); trying for {seconds:g} s")
    finally:
        over.set()
    return None


def _ask(name: str, events: Events, over: threading.Event) -> None:
    while not over.is_set():
        reason = _why_without_address(name)
        events.put(NameAnswered(name, reason))
        if reason is None:
            return
        over.wait(_AGAIN_SECONDS)


def _why_without_address(name: str) -> str | None:
    try:
        socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError as error:  # A label that is empty or longer than 63 bytes.
        return str(error)
    return None
