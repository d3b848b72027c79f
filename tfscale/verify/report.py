"""What `tfscale verify` prints: for a reader, and for a program."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tfscale.verify.tolerances import LEAST_FLOOR, TIMES_FLOOR, Quantity
from tfscale.verify.verification import Verification

_WIDTH = 100
_MOST_LAYERS = 8
_SENTENCES = {
    "equal": "equal: {replicas} train what one device trains",
    "mismatch": "mismatch in {off}: {replicas} do not train what one device trains",
    "not judged": (
        "not judged: rounding alone, or random numbers that the model draws, moves {off} by more "
        "than a percent on one device. Take fewer --steps, or --precision=float64"
    ),
    "refused": "refused under the strategy: {text}",
    "raised": "the training fails under the strategy only: {text}",
    "crashed": "the training crashes under the strategy only: {text}",
    "hung": "the training does not end under the strategy: {text}",
}


def as_text(result: Verification) -> str:
    """Lays a verification out for a reader.

    Args:
        result: What came of it.
    """
    request = result.request
    lines = [
        f"{request.target} under {request.strategy}, {_replicas(result)}: {request.steps} steps"
        + (f", {result.precision}" if result.precision else "")
    ]
    if result.quantities:
        lines += ["", *_table(result.quantities)]
        lines += _wrapped(
            f"  floor: what permuted rows change on one device, at least "
            f"{LEAST_FLOOR[result.precision]:.0e} in {result.precision}; a ratio up to "
            f"{TIMES_FLOOR:.0f} is rounding."
        )
    if result.notes:
        lines += ["", "notes", *_listed(result.notes)]
    lines += ["", *_wrapped(f"verdict: {verdict_sentence(result)}.")]
    if result.is_equal:
        return "\n".join(lines)
    looked_at = [*result.suspects, *([result.blame] if result.blame else [])]
    if looked_at:
        lines += ["", "look at", *_listed(looked_at)]
    if result.layers:
        lines += ["", *_layer_table(result)]
    if result.tail:
        lines += ["", "last lines of the process", *(f"  {line}" for line in result.tail)]
    return "\n".join(lines)


def as_json(result: Verification) -> dict[str, Any]:
    """Returns a verification as JSON values; what is infinite as the string "inf"."""
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
        "suspects": result.suspects,
        "blame": result.blame,
        "layers": [_finite(asdict(row)) for row in result.layers],
        "notes": result.notes,
        "tail": result.tail,
    }


def verdict_sentence(result: Verification) -> str:
    """Returns the verdict in a sentence without its full stop."""
    off = [q.name for q in result.quantities if q.verdict == result.verdict]
    sentence = _SENTENCES[result.verdict].format(
        off=", ".join(off) or "what another worker found",
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
