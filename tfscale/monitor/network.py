"""Bytes that the host has sent and received, by the kernel's counters."""

from __future__ import annotations

from pathlib import Path

from tfscale.files.control_groups import text_of

_LOOPBACK = "lo"
_RECEIVED, _SENT = 0, 8


def network_bytes(root: Path = Path("/")) -> dict[str, int]:
    """Returns the bytes since the host, or the container, was started; {} where it is not known.

    All its processes count. Interfaces of hardware count if there are some, because a bridge or a
    bond counts the same bytes once more; else all interfaces do. What processes of the host send
    each other is "loopback".

    Args:
        root: Folder with `proc` and `sys`.

    Example:
        >>> sorted(network_bytes()) in ([], ["loopback", "received", "sent"])
        True
    """
    counters = {}
    for line in text_of(root / "proc/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = numbers.split()
        counters[name.strip()] = int(fields[_RECEIVED]), int(fields[_SENT])
    if not counters:
        return {}
    _, loopback = counters.pop(_LOOPBACK, (0, 0))
    hardware = [name for name in counters if (root / f"sys/class/net/{name}/device").exists()]
    own = [counters[name] for name in hardware or counters]
    return {
        "sent": sum(sent for _, sent in own),
        "received": sum(received for received, _ in own),
        "loopback": loopback,
    }
