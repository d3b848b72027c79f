"""The hosts of a job that spans several: where their workers listen, and which host this is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strategies import Cluster


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job, given by address; one launcher runs on each of them.

    Every host starts the same number of workers. Worker k of a host listens k ports above the
    host's own, and workers are numbered host by host: with two workers a host, ("a:2222", "b:2222")
    makes a:2222, a:2223, b:2222 and b:2223, the workers 0 to 3.

    Attributes:
        addresses: "host:port" of each host, the same list in the same order for every launcher.
            A host is a name, an IPv4 address, or an IPv6 address in brackets.
        index: Position of this host in `addresses`, from 0.

    Raises:
        ValueError: If an address is malformed or the index is not one of the list.

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
                    '`hosts` must hold addresses "host:port" with a port from 1 to 65535. '
                    f"Received: {address!r} in hosts={list(self.addresses)}. "
                    'Write for instance "10.0.0.1:2222" or "[fd00::1]:2222".'
                ) from None
        is_index = isinstance(self.index, int) and not isinstance(self.index, bool)
        if not is_index or not 0 <= self.index < len(self.addresses):
            raise ValueError(
                "`host_index` must be the position of this host in `hosts`, from 0 to "
                f"{len(self.addresses) - 1}. Received: host_index={self.index!r}. "
                "Every host's launcher gets the same list and its own index."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their ports."""
        return tuple(address.rpartition(":")[0] for address in self.addresses)

    def own_ports(self, num_workers: int) -> Sequence[int]:
        """Ports of this host's workers, in the order of their index."""
        port = int(self.addresses[self.index].rpartition(":")[2])
        return range(port, port + num_workers)

    def first_worker(self, num_workers: int) -> int:
        """Index of this host's first worker among those of all hosts."""
        return self.index * num_workers

    def worker_addresses(self, num_workers: int) -> tuple[str, ...]:
        """Addresses of the workers of all hosts, in the order of their index.

        Args:
            num_workers: Workers of each host. Positive.

        Raises:
            ValueError: If two workers would share an address, or a port would exceed 65535.
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
                f"`hosts` must leave each of its hosts {num_workers} ports in a row, none above "
                f"65535 and none of another's. Received: hosts={list(self.addresses)}. "
                f"Keep the ports of one host {num_workers} apart."
            ) from None
        return workers
