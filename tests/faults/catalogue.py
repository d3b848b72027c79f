"""All faults in the order of the table, and the cases that `--only` selects."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults import (
    cost,
    disks,
    failures,
    latency,
    links,
    shortage,
    signals,
    stalls,
    starting,
)
from tests.faults.fault import FAULTS, Fault
from tests.faults.resume import Chain, chains
from tests.faults.training import KINDS

_MODULES = (signals, failures, stalls, shortage, disks, starting, links)
"""In the order of their cases in the table."""


@dataclass(frozen=True)
class Chosen:
    """The cases to run.

    Attributes:
        faults: Cases of the table of faults.
        chains: Cases of the table of resumed trainings.
        costs: Topologies whose cost of determinism is measured.
        latencies: Faults whose restarts are measured part by part.
    """

    faults: list[Fault]
    chains: list[Chain]
    costs: list[str]
    latencies: list[str]


def chosen(only: str) -> Chosen:
    """Returns the cases whose name contains one of some words.

    Args:
        only: Words separated by commas; "" for all cases.

    Raises:
        ValueError: If a word is in no name.
    """
    every_chain, every_fault = chains(), sorted(FAULTS.values(), key=_place)
    names = [chain.name for chain in every_chain] + [fault.name for fault in every_fault]
    names += [cost.NAME, latency.NAME]
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(word in name for name in names):
            raise ValueError(
                f"`only` must be words of the names of cases. Received: only={only!r}; no name "
                f"contains {word!r}. Choose from {', '.join(names)}."
            )

    def is_chosen(name: str) -> bool:
        return not words or any(word in name for word in words)

    return Chosen(
        [fault for fault in every_fault if is_chosen(fault.name)],
        [chain for chain in every_chain if is_chosen(chain.name)],
        list(KINDS) if is_chosen(cost.NAME) else [],
        list(latency.KINDS) if is_chosen(latency.NAME) else [],
    )


def _place(fault: Fault) -> int:
    return [module.__name__ for module in _MODULES].index(fault.run.__module__)
