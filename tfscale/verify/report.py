"""Formats the result of `tfscale verify` as text and as JSON values."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tfscale.verify.comparison import LEAST_FLOOR, TIMES_FLOOR, Quantity
from tfscale.verify.verification import Verification

_WIDTH = 100
_MOST_LAYERS = 8
_SENTENCES = {
    "equal": "equal: results on {replicas} match those of one device",
    "mismatch": "mismatch in {off}: results on {replicas} differ from those of one device",
    "inconclusive": (
        "inconclusive: rounding, or random numbers that the model draws, changes {off} by more "
        "than a percent on one device. Use fewer --steps, or --precision=float64"
    ),
    "refused": "not supported under the strategy: {text}",
    "raised": "training fails under the strategy only: {text}",
    "crashed": "training crashes under the strategy only: {text}",
    "hung": "training does not end under the strategy: {text}",
}


def as_text(result: Verification) -> str:
    """Formats a verification for a reader.

    Args:
        result: The verification.
    """
    request = result.request
    shared = "" if request.parallel is None else f", {request.parallel}"
    lines = [
        f"{request.target} under {request.strategy}, {_replicas(result)}{shared}: "
        f"{request.steps} steps" + (f", {result.precision}" if result.precision else "")
    ]
    if result.quantities:
        lines += ["", *_table(result.quantities)]
        lines += _wrapped(
            f"  floor: effect of permuted rows on one device, at least "
            f"{LEAST_FLOOR[result.precision]:.0e} in {result.precision}; a ratio of up to "
            f"{TIMES_FLOOR:.0f} is rounding."
        )
    if result.notes:
        lines += ["", "notes", *_listed(result.notes)]
    lines += ["", *_wrapped(f"verdict: {verdict_sentence(result)}.")]
    if result.is_equal:
        return "\n".join(lines)
    to_check = [*result.causes, *([result.layer_hint] if result.layer_hint else [])]
    if to_check:
        lines += ["", "check", *_listed(to_check)]
    if result.layers:
        lines += ["", *_layer_table(result)]
    if result.tail:
        lines += ["", "last lines of the process", *(f"  {line}" for line in result.tail)]
    return "\n".join(lines)


def as_json(result: Verification) -> dict[str, Any]:
    """Returns a verification as JSON values. Infinity is the string "inf"."""
    return {
        **asdict(result.request),
        "num_replicas": result.num_replicas,
        "num_workers": result.num_workers,
        "precision": result.precision,
        "verdict": result.verdict,
        "text": result.text,
        "quantities": [
            {**_finite(asdict(quantity)), **_finite({"ratio": quantity.ratio})}
            for quantity in result.quantities
        ],
        "causes": result.causes,
        "layer_hint": result.layer_hint,
        "layers": [_finite(asdict(row)) for row in result.layers],
        "notes": result.notes,
        "tail": result.tail,
    }


def verdict_sentence(result: Verification) -> str:
    """Returns the verdict as a sentence, without the full stop."""
    off = [q.name for q in result.quantities if q.verdict == result.verdict]
    sentence = _SENTENCES[result.verdict].format(
        off=", ".join(off) or "the results of another worker",
        replicas=_replicas(result),
        text=result.text,
    )
    return sentence.rstrip(".")


def _replicas(result: Verification) -> str:
    replicas = f"{result.num_replicas} replica{'' if result.num_replicas == 1 else 's'}"
    return replicas if result.num_workers == 1 else f"{replicas} of {result.num_workers} workers"


def _table(quantities: Iterable[Quantity]) -> list[str]:
    lines = [f"  {'quantity':<12} {'difference':>10} {'floor':>8} {'ratio':>8}"]
    for row in quantities:
        if row.verdict == "not compared":
            lines += _wrapped(f"  {row.name:<12} not compared: {row.reason}", " " * 15)
            continue
        numbers = f"{row.difference:>10.1e} {row.floor:>8.1e} {row.ratio:>8.1f}"
        if row.name == "iterations":
            numbers = f"{row.difference:>10.0f} {'':>8} {'':>8}"
        elif row.ratio >= 1e5:
            numbers = f"{row.difference:>10.1e} {row.floor:>8.1e} {row.ratio:>8.0e}"
        where = f"  {row.worst.partition('/')[2]}" if row.verdict == "mismatch" else ""
        lines.append(f"  {row.name:<12} {numbers}  {row.verdict}{where}".rstrip())
    return lines


def _layer_table(result: Verification) -> list[str]:
    size = max([len("layer"), *(len(row.layer) for row in result.layers[:_MOST_LAYERS])])
    lines = [f"  {'layer':<{size}}   gradient  statistics  weights (in the order of the model)"]
    for row in result.layers[:_MOST_LAYERS]:
        lines.append(
            f"  {row.layer:<{size}}   {row.gradients:>8.1e}    {row.statistics:>8.1e} "
            f" {row.weights:>7.1e}"
        )
    more = len(result.layers) - _MOST_LAYERS
    return [*lines, f"  and {more} more: --json"] if more > 0 else lines


def _listed(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in _wrapped(f"  - {text}", "    ")]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: "inf" if isinstance(value, float) and math.isinf(value) else value
        for name, value in values.items()
    }
