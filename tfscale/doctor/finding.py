"""What an examination of the doctor finds, and its cure."""

from __future__ import annotations

from dataclasses import dataclass

EXAMINATIONS = ("releases", "wheels", "cluster", "host", "storage", "accelerators")
"""In the order of the report. The flags --peers and --health_check add two more."""
ORDER = (*EXAMINATIONS, "peers", "health")


@dataclass(frozen=True)
class Finding:
    """One fault, or one thing worth knowing.

    Attributes:
        examination: Where it was found: one of `ORDER`.
        found: One or two sentences.
        cure: What to do, in one sentence.
        is_problem: Whether a job would fail or lose much of its speed. Otherwise it is a remark.
    """

    examination: str
    found: str
    cure: str
    is_problem: bool = True


def problem(examination: str, found: str, cure: str) -> Finding:
    """Returns a fault, with which the doctor ends with status 1."""
    return Finding(examination, found, cure)


def remark(examination: str, found: str, cure: str) -> Finding:
    """Returns something worth knowing, which may be right as it is."""
    return Finding(examination, found, cure, is_problem=False)
