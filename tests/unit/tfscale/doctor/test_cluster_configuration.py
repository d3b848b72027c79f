from __future__ import annotations

import socket
from pathlib import Path

import pytest

from strategies import Cluster
from tests.ports import free_ports
from tfscale.doctor.cluster_configuration import examine_cluster, resolved
from tfscale.doctor.port_holder import holder_of

ELSEWHERE = ["192.0.2.7"]  # of TEST-NET-1, RFC 5737


def cluster(own: str, *others: str) -> Cluster:
    return Cluster({"worker": (own, *others)}, "worker", 0)


def found(
    of: Cluster,
    names: dict[str, list[str] | str],
    root: Path = Path("/none"),
    environ: dict[str, str] | None = None,
) -> list[tuple[bool, str]]:
    findings = examine_cluster(of, names, environ=environ or {}, root=root)
    return [(each.is_problem, each.found) for each in findings]


def test_two_workers_of_one_host_have_no_findings() -> None:
    first, second = free_ports(2)
    both = cluster(f"127.0.0.1:{first}", f"127.0.0.1:{second}")
    assert found(both, {"127.0.0.1": ["127.0.0.1"]}) == []


def test_this_hosts_own_name_on_loopback_is_a_remark() -> None:
    # As Debian's installer writes it; other hosts may resolve the name better.
    (port,) = free_ports(1)
    names: dict[str, list[str] | str] = {"first": ["127.0.1.1"], "second": ELSEWHERE}
    ((is_problem, text),) = found(cluster(f"first:{port}", "second:2222"), names)
    assert not is_problem
    assert "This host's own name first resolves to 127.0.1.1 here" in text


def test_another_hosts_name_on_loopback_is_a_problem() -> None:
    names: dict[str, list[str] | str] = {"first": ELSEWHERE, "second": ["127.0.0.1"]}
    (port,) = free_ports(1)
    texts = found(cluster(f"first:{port}", "second:2222"), names)
    assert (True, texts[0][1]) == texts[0]
    assert "worker 1 has the address second:2222, which means every host itself" in texts[0][1]
    assert "first (192.0.2.7) is no address of this host" in texts[1][1]
    assert not texts[1][0]


def test_a_port_of_outgoing_connections_is_a_remark(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    bounds = tmp_path / "proc/sys/net/ipv4/ip_local_port_range"
    bounds.parent.mkdir(parents=True)
    bounds.write_text(f"{port}\t{port + 100}\n")
    ((is_problem, text),) = found(cluster(f"127.0.0.1:{port}"), {}, tmp_path)
    assert not is_problem
    assert f"({port} to {port + 100})" in text


@pytest.mark.parametrize(
    ("variables", "is_named"),
    [
        ({}, False),
        ({"HTTP_PROXY": "http://p:1"}, False),  # gRPC reads small letters only
        ({"http_proxy": "http://p:1"}, True),
        ({"https_proxy": "http://p:1"}, True),
        ({"grpc_proxy": "http://p:1"}, True),
        ({"http_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, False),
        ({"http_proxy": "http://p:1", "no_proxy": "example.org, 127.0.0.0/8"}, False),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, True),
        ({"http_proxy": "http://p:1", "no_proxy": "127.0.0.1", "no_grpc_proxy": "x"}, True),
    ],
)
def test_a_proxy_between_tasks_is_a_problem(variables: dict[str, str], is_named: bool) -> None:
    first, second = free_ports(2)
    both = cluster(f"127.0.0.1:{first}", f"127.0.0.1:{second}")
    texts = found(both, {"127.0.0.1": ["127.0.0.1"]}, environ=variables)
    assert [is_problem for is_problem, _ in texts] == [True] * is_named
    # A cluster of one task sends nothing.
    assert found(cluster(f"127.0.0.1:{first}"), {}, environ=variables) == []


def test_names_are_resolved_to_addresses_or_to_the_error() -> None:
    answers = resolved(["127.0.0.1", "localhost", "no-such-host.invalid", "a" * 70])
    assert answers["127.0.0.1"] == ["127.0.0.1"]
    assert set(answers["localhost"]) <= {"127.0.0.1", "::1"}
    assert isinstance(answers["no-such-host.invalid"], str)
    assert isinstance(answers["a" * 70], str)  # no valid label


def test_the_holder_of_a_free_port_is_not_named() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        assert "this one" in holder_of(port)
    assert holder_of(port).startswith("another process")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
def test_a_port_that_is_taken_by_ipv6_only_is_named_too() -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind(("::", 0))
        server.listen()
        port = server.getsockname()[1]
        ((is_problem, text), *_) = found(cluster(f"127.0.0.1:{port}"), {}, Path("/"))
    assert is_problem
    assert text.startswith(f"Port {port} of worker 0 is taken by process ")
