from __future__ import annotations

import pytest

from tfscale.launch import Hosts

TWO = ("a:2222", "b:2222")


def test_workers_are_numbered_host_by_host() -> None:
    three = ("a:2222", "10.0.0.2:3000", "[fd00::1]:4000")
    workers = Hosts(three, 0).worker_addresses(2)
    assert workers == (
        *("a:2222", "a:2223"),
        *("10.0.0.2:3000", "10.0.0.2:3001"),
        *("[fd00::1]:4000", "[fd00::1]:4001"),
    )
    for index in range(3):
        of_host = Hosts(three, index)
        first = of_host.first_worker(2)
        own = [int(address.rpartition(":")[2]) for address in workers[first : first + 2]]
        assert list(of_host.own_ports(2)) == own
        assert of_host.worker_addresses(2) == workers


@pytest.mark.parametrize(
    ("addresses", "index", "message"),
    [
        ((), 0, r"`hosts` must be a sequence of at least one address\. Received: hosts=\(\)"),
        ("a:2222", 0, r"`hosts` must be a sequence"),
        (("a:2222", "b"), 0, r"`hosts` must be addresses .* Received: 'b' in hosts="),
        (("a:2222", ""), 0, r"Received: '' in hosts="),
        (("a:70000",), 0, r"a port from 1 to 65535\. Received: 'a:70000'"),
        (TWO, 2, r"`host_index` must be .* from 0 to 1\. Received: host_index=2\."),
        (TWO, -1, r"`host_index` must be"),
    ],
)
def test_impossible_hosts_are_refused(addresses: tuple[str, ...], index: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hosts(addresses, index)


@pytest.mark.parametrize("addresses", [("a:2222", "a:2223"), ("a:2222", "A:2222"), ("a:65535",)])
def test_each_host_needs_ports_of_its_own(addresses: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"`hosts` must leave 2 consecutive ports for each"):
        Hosts(addresses, 0).worker_addresses(2)
