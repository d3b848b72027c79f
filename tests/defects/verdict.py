"""What a run shows, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.defects.row import WEIGHTS, Findings, Row
from tests.defects.runner import RAISED
from tests.parity.children import Outcome

FIXED, REFUSED, NOT_FIXED = "fixed", "refused", "**NOT FIXED**"
NO_LONGER = "stock no longer shows it"

EQUAL = 1e-9
"""Relative, in the norm: far above the rounding of a few steps in float64 (1e-15), far below the
effect of any defect (1e-3, but 1e-8 where moments cancel)."""

LONGEST = 110
_REFUSALS = ("ValueError", "NotImplementedError", "RuntimeError")
_FRAME = re.compile(
    r'\s*(File "|Detected at|Stack trace|in user code|Graph execution error'
    r"|Exception encountered when calling|<stack traces unavailable>|\d+ root error)"
)
_PLACE = re.compile(r"/\S+/site-packages/")
_OBJECT = re.compile(r"<(?:\w+\.)*(\w+) object at 0x\w+>")
_FUNCTION_NODE = re.compile(r"\{\{function_node \w+(?:/[\w:]+)*\}\} ")
_COLOUR = re.compile(r"\x1b\[\d*m")
_BEFORE_TYPE = re.compile(r"^(.*?)\b(\w+(?:Error|Exception): )")


@dataclass(frozen=True)
class Verdict:
    """The result of one way in a row.

    Attributes:
        is_right: Whether it matches one device, or the right result of the row.
        is_refusal: Whether it is an error that names the cure.
        text: One line for the table.
    """

    is_right: bool
    is_refusal: bool
    text: str


def judge(row: Row, outcome: Outcome, right: Findings, seconds: float) -> Verdict:
    """Judges the outcome of a row.

    Args:
        row: The row.
        outcome: The outcome of its run.
        right: The right result; empty if an error is right.
        seconds: The deadline of its run.
    """
    if outcome.kind == "hung":
        return Verdict(False, False, f"hung > {seconds:.0f} s")
    if outcome.kind == "crashed":
        refuses = bool(row.refused) and row.refused in outcome.detail
        refuses = refuses and outcome.detail.removeprefix(RAISED).startswith(_REFUSALS)
        ends = bool(row.ends_with) and row.ends_with in outcome.detail
        text = _rule_and_cure(outcome.detail, row.refused) if refuses else _error(outcome.detail)
        return Verdict(ends, refuses, text)
    is_equal = all(is_close(found[k], v) for found in outcome.findings for k, v in right.items())
    parts = [_finding(k, v, outcome.findings) for k, v in right.items() if _is_news(k, v, outcome)]
    text = "; ".join(parts) or "no error"
    return Verdict(is_equal and not row.ends_with, False, text)


def status(stock: Verdict, ours: Verdict) -> str:
    """Returns the last column of a row, from the first two."""
    if not (ours.is_right or ours.is_refusal):
        return NOT_FIXED
    if stock.is_right:
        return NO_LONGER
    return FIXED if ours.is_right else REFUSED


def is_close(found: Any, wanted: Any) -> bool:
    """Returns whether numbers agree to rounding; integers must be the same."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        return False
    return bool(np.linalg.norm(found - wanted) <= EQUAL * (np.linalg.norm(wanted) or 1.0))


def _is_news(name: str, wanted: Any, outcome: Outcome) -> bool:
    """Right numbers of steps are left out if there are weights."""
    findings = outcome.findings
    is_beside_weights = name != WEIGHTS and all(WEIGHTS in found for found in findings)
    return not (is_beside_weights and all(is_close(found[name], wanted) for found in findings))


def _finding(name: str, wanted: Any, findings: Sequence[Findings]) -> str:
    values = [np.asarray(found[name], np.float64) for found in findings]
    if np.size(wanted) > 1:
        same_shape = all(value.shape == np.shape(wanted) for value in values)
        furthest = max(np.abs(v - wanted).max() for v in values) if same_shape else np.nan
        return f"dW {furthest:.1e}" if name == WEIGHTS else f"{name} off by {furthest:.1e}"
    texts = list(dict.fromkeys(_text(value) for value in values))
    if len(texts) > 1:
        texts = [f"{text} on worker {i}" for i, text in enumerate(map(_text, values))]
    is_right = all(is_close(value, wanted) for value in values)
    said = f"{name}: {', '.join(texts)}"
    return said if is_right else f"{said} (right: {_text(wanted)})"


def _text(value: Any) -> str:
    numbers = np.ravel(np.asarray(value, np.float64))
    return " ".join(f"{number:.4g}" for number in dict.fromkeys(numbers.tolist()))


def _error(detail: str) -> str:
    """The type of an exception and its message, without the frames that TensorFlow adds."""
    if not detail.startswith(RAISED):
        lines = [line for line in detail.splitlines() if line.strip()]
        return _shortened(f"the process died: {lines[-1] if lines else ''}")
    kind, _, message = detail.removeprefix(RAISED).partition(": ")
    lines = [line for line in message.splitlines() if line.strip() and not _FRAME.match(line)]
    if message.lstrip().startswith("in user code"):
        lines = [line for line in lines if _BEFORE_TYPE.match(line)][-1:] or lines[-1:]
        return _shortened(lines[0].strip() if lines else kind)
    return _shortened(f"{kind}: {' '.join(lines)}" if lines else kind)


def _rule_and_cure(detail: str, cure: str) -> str:
    kind, _, message = detail.removeprefix(RAISED).partition(": ")
    sentences = re.split(r"(?<=[.:?]) (?=[A-Z`\[])", message)
    named = next((sentence for sentence in sentences if cure in sentence), sentences[-1])
    parts = dict.fromkeys([sentences[0], named])
    return _one_line(f"{kind}: {' ... '.join(parts)}")


def _shortened(text: str) -> str:
    text = _one_line(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3].rstrip()}..."


def _one_line(text: str) -> str:
    text = _OBJECT.sub(r"\1", _PLACE.sub("", _FUNCTION_NODE.sub("", _COLOUR.sub("", text))))
    return " ".join(text.split())
