"""A memory plan as text and as JSON values."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfscale.cli.sizes import shown_bytes
from tfscale.plan.costs import FORMULA, Configuration
from tfscale.plan.planning import MemoryPlan
from tfscale.plan.traced_model import SLOT

_HEADER = (
    *("shard", "precision", "recompute", "microbatches", "parameters", "slots", "gradients"),
    *("activations", "buffers", "padding", "other", "total", "peak at", "sends a step"),
)


def as_json(function: str, plan: MemoryPlan, *, with_variables: bool = True) -> dict[str, Any]:
    """Returns a plan as JSON values; sizes in bytes.

    Args:
        function: What was planned, as `"module:function"`.
        plan: The plan.
        with_variables: Whether to list every variable.
    """
    cheapest = plan.cheapest
    return {
        "function": function,
        "replicas": plan.replicas,
        "global_batch_size": plan.global_batch_size,
        "memory_per_device": plan.memory_per_device,
        "optimizer": plan.optimizer,
        "num_parameters": plan.num_parameters,
        "fits": cheapest is not None,
        "missing_bytes": plan.missing_bytes,
        "cheapest": None if cheapest is None else plan.configurations.index(cheapest),
        "configurations": [_configuration(each) for each in plan.configurations],
        "variables": [
            {**dataclasses.asdict(variable), "bytes": variable.bytes}
            for variable in (plan.variables if with_variables else ())
        ],
        "order_of_costs": FORMULA,
        "notes": list(plan.notes),
    }


def _configuration(each: Configuration) -> dict[str, Any]:
    values = dataclasses.asdict(each)
    values["memory"]["total"] = each.memory.total
    return values


def as_text(function: str, plan: MemoryPlan) -> str:
    """Returns a plan as text.

    Args:
        function: What was planned, as `"module:function"`.
        plan: The plan.
    """
    devices = f"{plan.replicas} device{'s' if plan.replicas > 1 else ''}"
    limit = plan.memory_per_device
    each = "" if limit is None else f" of {shown_bytes(limit)}"
    slots = sum(v.bytes for v in plan.variables if v.role == SLOT)
    lines = [
        f"{function}: {plan.num_parameters:,} trainable parameters on {devices}{each}",
        f"{plan.optimizer} with {shown_bytes(slots)} of slots in all, batches of "
        f"{plan.global_batch_size} examples",
        "",
        *_table(plan),
        "",
        "A row is the device that needs most, at the moment it needs most. * = cheapest that fits, "
        "- = does not fit.",
        f"{FORMULA[0].upper()}{FORMULA[1:]}.",
        *(f"Note: {note}" for note in plan.notes),
        "",
        verdict(plan),
    ]
    return "\n".join(lines)


def verdict(plan: MemoryPlan) -> str:
    """Returns the result of a plan in a sentence."""
    limit, best = plan.memory_per_device, plan.cheapest
    if best is not None:
        total = shown_bytes(best.memory.total)
        of = "" if limit is None else f" of {shown_bytes(limit)}"
        parts = _microbatches(best)
        policy = "" if best.precision == "as_is" else f", {best.precision}"
        policy += "" if best.recompute == "as_is" else f", recomputing {best.recompute}"
        return f"Cheapest: shard {best.shard}, {parts}{policy}: {total}{of} a device."
    smallest = min(plan.configurations, key=lambda each: each.memory.total)
    memory = smallest.memory
    sizes = {
        name: getattr(memory, name)
        for name in ("parameters", "slots", "gradients", "activations", "buffers")
    }
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"Nothing fits: the smallest, shard {smallest.shard} with {_microbatches(smallest)}, "
        f"needs {shown_bytes(memory.total)} a device, "
        f"{shown_bytes(plan.missing_bytes)} more than {shown_bytes(limit or 0)}. Most of it are "
        f"{largest}: {shown_bytes(sizes[largest])}. {_CURES[largest]}"
    )


def _microbatches(each: Configuration) -> str:
    return f"{each.microbatches} microbatch{'es' if each.microbatches > 1 else ''}"


_CURES = {
    "parameters": "Use more replicas with --shard=3, or a smaller model.",
    "slots": "Use more replicas with --shard=1 or more, or an optimizer with fewer or smaller "
    "slots (tfscale.optimizers.with_state_dtype).",
    "gradients": "Use more replicas with --shard=2 or more, or a smaller model.",
    "activations": "Use --recompute, more --microbatches, --precision=mixed_bfloat16 or a smaller "
    "--global_batch_size.",
    "buffers": "Make the largest layer smaller, or divide it in two.",
}


def _table(plan: MemoryPlan) -> list[str]:
    rows: list[tuple[str, ...]] = [(" ", *_HEADER)]
    for each in plan.configurations:
        memory = each.memory
        mark = "*" if each is plan.cheapest else " " if each.fits else "-"
        sizes = (
            *(memory.parameters, memory.slots, memory.gradients, memory.activations),
            *(memory.buffers, memory.padding, memory.other + memory.batch, memory.total),
        )
        rows.append(
            (
                *(mark, str(each.shard), each.precision, each.recompute, str(each.microbatches)),
                *(shown_bytes(size) for size in sizes),
                *(memory.peak_at, shown_bytes(each.communicated_bytes)),
            )
        )
    # A column with one value for all rows says nothing beyond its name in the verdict.
    shown = [
        i
        for i, name in enumerate(rows[0])
        if name not in ("precision", "recompute") or len({row[i] for row in rows[1:]}) > 1
    ]
    widths = [max(len(row[i]) for row in rows) for i in shown]
    return [
        "  ".join(row[i].rjust(width) for i, width in zip(shown, widths, strict=True)).rstrip()
        for row in rows
    ]
