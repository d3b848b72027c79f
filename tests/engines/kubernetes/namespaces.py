"""Pods in network namespaces of this machine: what a kubelet does, without a container runtime.

Each pod has namespaces of its own for network (an address on a bridge), mounts (/etc/hosts, its
volumes), host name and processes (its command is process 1, which ignores signals that it does not
handle, as in a container). It gets the variables of its manifest, with fields and $(NAME) replaced,
and besides them only what an image would set. The image is this checkout and its environment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.programs import ROOT
from tfscale.launch.engines.kubernetes.controllers import Pod

_SUBNET = "10.213"
_MOUNTS = Path("/mnt")  # Hidden by a file system in memory, on which the volumes are mounted.


class NoNamespaces(RuntimeError):
    """Raised where network namespaces cannot be made. The text says why."""


@dataclass
class RunningPod:
    """A pod that was started.

    Attributes:
        pod: The pod.
        process: The program that holds its namespaces, and ends with its status.
        output: What it has printed.
    """

    pod: Pod
    process: subprocess.Popen[bytes]
    output: Path
    attempt: int

    def signal(self, number: int) -> None:
        """Sends a signal to the first process of the pod, as the kubelet does."""
        for child in _children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def status(self) -> int | None:
        """Returns its exit status as Kubernetes shows it, or None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code


@dataclass
class Host:
    """A machine with a bridge, to which pods are connected.

    Attributes:
        folder: For hosts files and output.
        claims: By the name of a PersistentVolumeClaim its folder.
    """

    folder: Path
    claims: dict[str, Path]
    name: str = field(default_factory=lambda: f"tk{secrets.token_hex(3)}")
    _made: list[str] = field(default_factory=list)

    def __enter__(self) -> Host:
        self._third = int(secrets.token_hex(1), 16)
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n")
        try:
            _ip("link", "add", self.name, "type", "bridge")
            _ip("addr", "add", f"{_SUBNET}.{self._third}.1/24", "dev", self.name)
            _ip("link", "set", self.name, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoNamespaces(f"no bridge can be made: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in self._made:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        subprocess.run(["ip", "link", "del", self.name], check=False)

    def start(self, pod: Pod, attempt: int) -> RunningPod:
        """Starts a pod. Its name resolves from now on."""
        number = len(self._made)
        namespace, address = f"{self.name}-{number}", f"{_SUBNET}.{self._third}.{number + 2}"
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        outer, inner = f"{self.name}o{number}", f"{self.name}i{number}"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "master", self.name, "up")
        _ip("link", "set", inner, "netns", namespace, "name", "eth0")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        self._publish(pod, address)
        output = self.folder / f"{pod.host}.attempt-{attempt}.{number}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *_namespaces(self._set_up(pod)), *pod.command()],
                env={**_image(), "HOSTNAME": pod.host, **pod.environment()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return RunningPod(pod, process, output, attempt)

    def _publish(self, pod: Pod, address: str) -> None:
        """Adds the record of a headless Service, or replaces it; all pods see the same file."""
        hosts = self.folder / "hosts"
        name = f"{pod.host}.{pod.subdomain}"
        kept = [line for line in hosts.read_text().splitlines() if name not in line.split()]
        full = f"{name}.default.svc.cluster.local"
        text = "\n".join([*kept, f"{address} {name} {full} {pod.host}"]) + "\n"
        with hosts.open("r+") as file:  # in place: the file is mounted
            file.write(text)
            file.truncate()

    def _set_up(self, pod: Pod) -> str:
        lines = [
            f"mount --bind {shlex.quote(str(self.folder / 'hosts'))} /etc/hosts",
            "mount -t tmpfs none /mnt",
            f"hostname {pod.host}",
        ]
        volumes = {each["name"]: each for each in pod.spec.get("volumes", [])}
        for mount in pod.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            path = Path(mount["mountPath"])
            if "emptyDir" in volume:
                lines.append(f"mount -t tmpfs none {path}")
                continue
            assert path.is_relative_to(_MOUNTS), f"mount claims below {_MOUNTS}"
            source = self.claims[volume["persistentVolumeClaim"]["claimName"]]
            lines.append(f"mkdir -p {path} && mount --bind {shlex.quote(str(source))} {path}")
        lines.append("touch /mnt/termination-log")
        lines.append('exec "$@"')
        return " && ".join(lines)


def _namespaces(set_up: str) -> list[str]:
    unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    return [*unshare, "--mount-proc", "sh", "-c", set_up, "sh"]


def _image() -> dict[str, str]:
    """Returns the variables that the image would set."""
    binaries = Path(sys.executable).parent
    return {
        "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/root",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def _children(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield int(child)


def ended(pods: list[RunningPod], grace_seconds: float) -> None:
    """Ends pods: SIGTERM, and SIGKILL after the grace."""
    for running in pods:
        running.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    for running in pods:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(max(0.1, deadline - time.monotonic()))
        if running.status() is None:
            running.signal(signal.SIGKILL)
            running.process.kill()
        running.process.wait(60)
