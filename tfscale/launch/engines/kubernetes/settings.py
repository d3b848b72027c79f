"""The settings that only the Kubernetes engine has: `--option NAME=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from strategies.extension import integers
from tfscale.cli.sizes import parsed_bytes

OPTIONS = {
    "image": "container image with tfscale and the program; required",
    "kind": "what is created: jobset (default), job (an Indexed Job with its Service), or trainjob "
    "(for Kubeflow Trainer v2)",
    "namespace": "namespace of the job (default: that of the kubectl context)",
    "context": "context of kubectl (default: its current one)",
    "service_account": "service account of the pods",
    "node_selector": "labels of the nodes to run on: LABEL=VALUE,LABEL=VALUE",
    "tolerations": "taints to tolerate: KEY[=VALUE][:EFFECT], with commas",
    "gpu_resource": "resource that --gpus_per_worker asks for (default: nvidia.com/gpu)",
    "shared_memory": "size of /dev/shm, such as 8GiB, part of the memory of the pod (default: 1GiB "
    "with GPUs, else that of the container runtime, often 64 MiB)",
    "claim": "PersistentVolumeClaim for logs and checkpoints, which all pods mount: ReadWriteMany",
    "mount": "where the pods mount the claim (default: /shared)",
    "port": "port of the workers (default: 2222); data workers also use the next one",
    "pull_policy": "Always, IfNotPresent or Never (default: that of Kubernetes)",
    "pull_secret": "secret for the image's registry",
    "run_as": "user and group of the processes: UID or UID:GID (default: those of the image)",
}
KINDS = ("jobset", "job", "trainjob")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(
    r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"[^\s]+")
_MOUNT = PurePosixPath("/shared")
_PORT = integers(1024, below=65535)


@dataclass(frozen=True)
class Settings:
    """The options, read. Each is described in `OPTIONS`."""

    image: str
    kind: str = "jobset"
    namespace: str = ""
    context: str = ""
    service_account: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    shared_memory: int | None = None
    claim: str = ""
    mount: PurePosixPath = _MOUNT
    port: int = 2222
    pull_policy: str = ""
    pull_secret: str = ""
    run_as: tuple[int, int] | None = None


def settings_of(options: Mapping[str, str]) -> Settings:
    """Returns the settings that options describe.

    Args:
        options: Names and values of `--option`.

    Raises:
        ValueError: If a name is unknown, a value is malformed, or `image` is missing. Names the
            option, the value and the cure.

    Example:
        >>> settings_of({"image": "digits:1", "tolerations": "gpu:NoSchedule"}).tolerations
        ({'key': 'gpu', 'operator': 'Exists', 'effect': 'NoSchedule'},)
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(
            f"`option` must be one of {', '.join(OPTIONS)} with --engine=kubernetes. "
            f"Received: {unknown[0]}={options[unknown[0]]!r}."
        )
    if "image" not in options:
        raise ValueError(
            "`--option image=...` must name a container image with tfscale and the program. "
            f"Received: {dict(options)!r}. Example: --option image=registry.example/digits:1."
        )
    if "mount" in options and "claim" not in options:
        raise ValueError(
            "`--option mount=...` must come with a claim to mount. Received: "
            f"mount={options['mount']!r}. Add --option claim=NAME, the name of a "
            "PersistentVolumeClaim."
        )
    return Settings(**{name: _READERS[name](name, text) for name, text in options.items()})


def _wrong(name: str, text: str, rule: str, example: str) -> ValueError:
    return ValueError(
        f"`--option {name}=...` must be {rule}. Received: {name}={text!r}. Example: "
        f"{name}={example}."
    )


def _matching(pattern: re.Pattern[str], rule: str, example: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if not pattern.fullmatch(text):
            raise _wrong(name, text, rule, example)
        return text

    return read


def _one_of(accepted: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in accepted:
            raise _wrong(name, text, f"one of {', '.join(accepted)}", accepted[0])
        return text

    return read


def _labels(name: str, text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    for key, equals, value in pairs:
        if not (equals and _LABEL.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            example = "cloud.google.com/gke-accelerator=nvidia-l4,disk=ssd"
            raise _wrong(name, text, "LABEL=VALUE, with commas between several", example)
    return {key: value for key, _, value in pairs}


def _tolerations(name: str, text: str) -> tuple[dict[str, str], ...]:
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(?P<key>[^=:]+)(=(?P<value>[^=:]*))?(:(?P<effect>\w+))?", part)
        fits = match is not None and _LABEL.fullmatch(match["key"])
        fits = fits and _LABEL_VALUE.fullmatch(match["value"] or "") if match else None
        if match is None or not fits or match["effect"] not in (None, *_EFFECTS):
            rule = f"KEY[=VALUE][:EFFECT], with commas, where EFFECT is {' or '.join(_EFFECTS)}"
            raise _wrong(name, text, rule, "nvidia.com/gpu=present:NoSchedule")
        toleration = {"key": match["key"], "operator": "Exists"}
        if match["value"] is not None:
            toleration |= {"operator": "Equal", "value": match["value"]}
        if match["effect"]:
            toleration["effect"] = match["effect"]
        found.append(toleration)
    return tuple(found)


def _size(name: str, text: str) -> int:
    try:
        return parsed_bytes(text)
    except ValueError as error:
        raise ValueError(f"`--option {name}=...` {error}") from error


def _folder(name: str, text: str) -> PurePosixPath:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/") or ":" in text:
        raise _wrong(name, text, "an absolute path below / without .. and :", "/shared")
    return path


def _port(name: str, text: str) -> int:
    found = _PORT.value(text)
    if found is None:
        raise _wrong(name, text, f"{_PORT.words}", "2222")
    return found


def _user(name: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,8})(:([1-9][0-9]{0,8}))?", text)
    if match is None:
        raise _wrong(name, text, "UID or UID:GID, positive numbers", "1000:1000")
    return int(match[1]), int(match[3] or match[1])


_NAME = _matching(_DNS_NAME, "a name of Kubernetes: lowercase letters, digits, - and .", "training")
_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "image": _matching(_IMAGE, "a container image", "registry.example/digits:1"),
    "kind": _one_of(KINDS),
    "namespace": _NAME,
    "context": _matching(_IMAGE, "a context of kubectl", "cluster-1"),
    "service_account": _NAME,
    "node_selector": _labels,
    "tolerations": _tolerations,
    "gpu_resource": _matching(_LABEL, "a resource of the nodes", "nvidia.com/gpu"),
    "shared_memory": _size,
    "claim": _NAME,
    "mount": _folder,
    "port": _port,
    "pull_policy": _one_of(_PULL_POLICIES),
    "pull_secret": _NAME,
    "run_as": _user,
}
