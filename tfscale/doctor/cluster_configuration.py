"""What can be wrong with a cluster, seen from one host: addresses, names, and its own port."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import strategies
from strategies.extension import cluster_from_environment, host_and_port
from tfscale.doctor.finding import Finding, problem, remark
from tfscale.doctor.port_holder import holder_of
from tfscale.doctor.threads import each_within
from tfscale.files.control_groups import text_of
from tfscale.files.output_files import reason

NAME_SECONDS = 5.0

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXIES = ("no_grpc_proxy", "no_proxy")
_FIRST_FREE_PORT = 1024


def read_cluster(
    environ: Mapping[str, str] | None = None,
) -> tuple[strategies.Cluster | None, list[Finding]]:
    """Reads the cluster that the environment describes.

    Args:
        environ: The environment. None means that of this process.

    Returns:
        The cluster, or None if there is none or it is broken; and the findings.
    """
    try:
        return cluster_from_environment(environ), []
    except (ValueError, RuntimeError) as error:
        return None, [problem("cluster", str(error), "")]


def cluster_facts(cluster: strategies.Cluster) -> dict[str, Any]:
    """Returns a cluster as JSON values."""
    return {
        "source": cluster.source,
        "jobs": {job: list(addresses) for job, addresses in cluster.jobs.items()},
        "task": own_task(cluster),
    }


def own_task(cluster: strategies.Cluster) -> str:
    """Returns the name of this process's task, such as "worker 1"."""
    return f"{cluster.task_type} {cluster.task_index}"


def tasks_of(cluster: strategies.Cluster) -> dict[str, str]:
    """Returns the address of each task by its name.

    Example:
        >>> tasks_of(strategies.Cluster({"worker": ("a:2222",)}, "worker", 0))
        {'worker 0': 'a:2222'}
    """
    return {
        f"{job} {index}": address
        for job, addresses in cluster.jobs.items()
        for index, address in enumerate(addresses)
    }


def resolved(hosts: Iterable[str], seconds: float = NAME_SECONDS) -> dict[str, list[str] | str]:
    """Looks up names, all at the same time.

    Args:
        hosts: Names and addresses.
        seconds: Deadline.

    Returns:
        The addresses of each host, or the error as text.
    """
    found: dict[str, list[str] | str] = {}

    def look_up(host: str) -> None:
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found[host] = sorted({str(answer[4][0]) for answer in answers})
        except (OSError, UnicodeError) as error:
            found[host] = str(error)

    distinct = list(dict.fromkeys(hosts))
    each_within(seconds, look_up, distinct)
    return {host: found.get(host, f"no answer within {seconds:g} s") for host in distinct}


def is_loopback(address: str) -> bool:
    """Returns whether a numeric address means the host itself, whichever host that is."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def examine_cluster(
    cluster: strategies.Cluster,
    names: Mapping[str, list[str] | str],
    *,
    environ: Mapping[str, str],
    root: Path = Path("/"),
) -> list[Finding]:
    """Judges a cluster by what this host knows.

    Args:
        cluster: The cluster.
        names: What each host of it resolves to here; see `resolved`.
        environ: The environment.
        root: Folder with `proc`.
    """
    return [
        *_of_names(names),
        *_of_loopback(cluster, names),
        *_of_own_port(cluster, names, root),
        *_of_proxies(cluster, environ),
    ]


def _of_names(names: Mapping[str, list[str] | str]) -> Iterator[Finding]:
    for host, answer in names.items():
        if isinstance(answer, str):
            # In Kubernetes a name appears with its pod. `--peers` waits for it.
            yield remark(
                "cluster",
                f"The name {host} does not resolve on this host: {answer}.",
                "Correct it in the cluster, or add it to DNS or /etc/hosts; --peers waits for it.",
            )


def _of_loopback(
    cluster: strategies.Cluster, names: Mapping[str, list[str] | str]
) -> Iterator[Finding]:
    def all_loopback(address: str) -> bool:
        answer = names.get(host_and_port(address)[0])
        return isinstance(answer, list) and bool(answer) and all(map(is_loopback, answer))

    tasks = tasks_of(cluster)
    here = {task: address for task, address in tasks.items() if all_loopback(address)}
    elsewhere = [task for task in tasks if task not in here]
    if not here or not elsewhere:
        return
    for task, address in here.items():
        host, _ = host_and_port(address)
        is_name = host != "localhost" and not is_loopback(host)
        if is_name and task == own_task(cluster):
            # Right for this host alone, as Debian's installer writes it. Others may know better.
            yield remark(
                "cluster",
                f"This host's own name {host} resolves to {', '.join(names[host])} here, which "
                "other hosts cannot reach.",
                "Remove it from the line of 127.0.0.1 or 127.0.1.1 in /etc/hosts, if other tasks "
                "do not reach this one: see --peers.",
            )
        else:
            yield problem(
                "cluster",
                f"{task} has the address {address}, which means every host itself "
                f"({', '.join(names[host])}), but {elsewhere[0]} is elsewhere: "
                f"{tasks[elsewhere[0]]}.",
                "Give each task an address that the other hosts reach; remove the name from the "
                "line of 127.0.0.1 in /etc/hosts.",
            )


def _of_own_port(
    cluster: strategies.Cluster, names: Mapping[str, list[str] | str], root: Path
) -> Iterator[Finding]:
    address = tasks_of(cluster).get(own_task(cluster))
    if address is None:
        return
    host, port = host_and_port(address)
    try:
        listening_socket(port).close()
    except OSError as error:
        yield port_finding(own_task(cluster), port, error, root)
    answer = names.get(host)
    if isinstance(answer, list) and answer and not any(map(_is_of_this_host, answer)):
        yield remark(
            "cluster",
            f"{own_task(cluster)} is this process, but {host} ({', '.join(answer)}) is no address "
            "of this host.",
            "Check the index of this task, unless the address is translated (a service, NAT).",
        )
    bounds = text_of(root / "proc/sys/net/ipv4/ip_local_port_range").split()
    if len(bounds) == 2 and int(bounds[0]) <= port <= int(bounds[1]):
        yield remark(
            "cluster",
            f"Port {port} is among those that the kernel gives to outgoing connections "
            f"({bounds[0]} to {bounds[1]}), one of which may take it first.",
            f"Choose a port below {bounds[0]}.",
        )


def port_finding(task: str, port: int, error: OSError, root: Path = Path("/")) -> Finding:
    """Returns the problem of a task that cannot listen on its port.

    Args:
        task: Its name.
        port: The port.
        error: What `listening_socket` raised.
        root: Folder with `proc`.
    """
    if error.errno == errno.EADDRINUSE:
        return problem(
            "cluster",
            f"Port {port} of {task} is taken by {holder_of(port, root)}.",
            "End that process, or give the task another port.",
        )
    low = f"Choose a port of {_FIRST_FREE_PORT} or more."
    return problem(
        "cluster",
        f"{task} cannot listen on port {port}: {reason(error)}.",
        low if port < _FIRST_FREE_PORT else "Choose another port.",
    )


def listening_socket(port: int) -> socket.socket:
    """Listens on a port of all interfaces, by IPv6 and IPv4, as TensorFlow's server does.

    Raises:
        OSError: If the port is taken or may not be used.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is known and switched off
                raise
    return socket.create_server(("", port))


def _is_of_this_host(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _of_proxies(cluster: strategies.Cluster, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Finds a proxy between tasks. With TensorFlow 2.21 a cluster then waits for itself."""
    proxy = next((name for name in _PROXIES if environ.get(name)), None)
    exceptions = next((environ[name] for name in _NO_PROXIES if environ.get(name)), "")
    spared = [entry.strip() for entry in exceptions.split(",") if entry.strip()]
    tasks = tasks_of(cluster)
    hosts = dict.fromkeys(host_and_port(address)[0] for address in tasks.values())
    through = [host for host in hosts if not any(_spares(entry, host) for entry in spared)]
    if proxy is not None and through and len(tasks) > 1:
        yield problem(
            "cluster",
            f"{proxy} is set, so gRPC sends what is for {', '.join(through[:4])} to that proxy.",
            f"Unset it for the job, or add the hosts: no_proxy={','.join(through[:4])}.",
        )


def _spares(entry: str, host: str) -> bool:
    """Returns whether an entry of no_proxy is the end of a host, or a network that has it."""
    if host.endswith(entry):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
