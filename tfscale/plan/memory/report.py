"""A memory plan as text and as JSON values."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfscale.cli.sizes import shown_bytes
from tfscale.plan.memory.costs import FORMULA, Configuration
from tfscale.plan.memory.device_memory import DeviceMemory
from tfscale.plan.memory.planning import MemoryPlan
from tfscale.plan.memory.traced_model import SLOT

_CHOICES = ("stages", "schedule", "tensor", "shard", "precision", "recompute", "microbatches")
_SIZES = (
    *("parameters", "slots", "gradients", "activations", "buffers", "padding", "other", "total"),
)
_HEADER = (*_CHOICES, *_SIZES, "peak at", "sends a step", "waits")
_IF_SEVERAL = ("stages", "schedule", "tensor", "precision", "recompute", "waits")
"""Columns that say nothing beyond their name in the verdict if all rows have one value."""


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
    values: dict[str, Any] = dataclasses.asdict(each)
    for memory, own in zip(
        [values["memory"], *values["devices"]], [each.memory, *each.devices], strict=True
    ):
        memory["total"] = own.total
    division: dict[str, Any] = values.pop("division")
    return values | division | {"bubble": each.bubble}


def as_text(function: str, plan: MemoryPlan) -> str:
    """Returns a plan as text.

    Args:
        function: What was planned, as `"module:function"`.
        plan: The plan.
    """
    devices = _devices(plan)
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
        *_by_device(plan),
        f"{FORMULA[0].upper()}{FORMULA[1:]}.",
        *(f"Note: {note}" for note in plan.notes),
        "",
        verdict(plan),
    ]
    return "\n".join(lines)


def verdict(plan: MemoryPlan) -> str:
    """Returns the result of a plan in a sentence."""
    limit, chosen = plan.memory_per_device, _chosen(plan)
    memory = chosen.memory
    if plan.cheapest is not None:
        of = "" if limit is None else f" of {shown_bytes(limit)}"
        policy = "" if chosen.precision == "as_is" else f", {chosen.precision}"
        policy += "" if chosen.recompute == "as_is" else f", recomputing {chosen.recompute}"
        way = f"{_division(chosen)}shard {chosen.shard}, {_microbatches(chosen)}{policy}"
        return f"Cheapest: {way}: {shown_bytes(memory.total)}{of} a device."
    sizes = {
        name: getattr(memory, name)
        for name in ("parameters", "slots", "gradients", "activations", "buffers")
    }
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"Nothing fits: the smallest, {_division(chosen)}shard {chosen.shard} with "
        f"{_microbatches(chosen)}, "
        f"needs {shown_bytes(memory.total)} a device, "
        f"{shown_bytes(plan.missing_bytes)} more than {shown_bytes(limit or 0)}. Most of it are "
        f"{largest}: {shown_bytes(sizes[largest])}. {_CURES[largest]}"
    )


def _chosen(plan: MemoryPlan) -> Configuration:
    """Returns the configuration of the verdict: the cheapest that fits, or else the smallest."""
    return plan.cheapest or min(plan.configurations, key=lambda each: each.memory.total)


def _division(each: Configuration) -> str:
    """Returns how the devices of a replica divide the model; "" if there is one."""
    division = each.division
    if division.pipeline_stages > 1:
        runs = division.pipeline_virtual_stages
        several = "" if runs == 1 else f" of {runs} runs of layers"
        return f"{division.pipeline_stages} stages{several}, {division.pipeline_schedule}, "
    if division.tensor_parallel > 1:
        return f"matrices over {division.tensor_parallel} devices, "
    return ""


def _microbatches(each: Configuration) -> str:
    return f"{each.microbatches} microbatch{'es' if each.microbatches > 1 else ''}"


_CURES = {
    "parameters": "Use more replicas with --shard=3, more --pipeline_stages, or a smaller model.",
    "slots": "Use more replicas with --shard=1 or more, more --pipeline_stages, or an optimizer "
    "with fewer or smaller slots (tfscale.optimizers.with_state_dtype).",
    "gradients": "Use more replicas with --shard=2 or more, more --pipeline_stages, or a smaller "
    "model.",
    "activations": "Use --recompute, more --microbatches, --precision=mixed_bfloat16 or a smaller "
    "--global_batch_size.",
    "buffers": "Make the largest layer smaller, or divide it in two.",
}


def _table(plan: MemoryPlan) -> list[str]:
    rows: list[tuple[str, ...]] = [(" ", *_HEADER)]
    for each in plan.configurations:
        mark = "*" if each is plan.cheapest else " " if each.fits else "-"
        division = each.division
        stages = str(division.pipeline_stages)
        if division.pipeline_virtual_stages > 1:
            stages += f" x {division.pipeline_virtual_stages}"
        rows.append(
            (
                *(mark, stages, division.pipeline_schedule, str(division.tensor_parallel)),
                *(str(each.shard), each.precision, each.recompute, str(each.microbatches)),
                *_sizes(each.memory),
                *(each.memory.peak_at, shown_bytes(each.communicated_bytes)),
                f"{each.bubble:.0%}",
            )
        )
    return _aligned(rows)


def _by_device(plan: MemoryPlan) -> list[str]:
    """Returns a table of the devices of a replica, for the configuration of the verdict."""
    each = _chosen(plan)
    if len(each.devices) == 1:
        return []
    of_stages = each.division.pipeline_stages > 1
    rows: list[tuple[str, ...]] = [("stage" if of_stages else "device", *_SIZES, "peak at")]
    rows += [
        (str(device), *_sizes(memory), memory.peak_at) for device, memory in enumerate(each.devices)
    ]
    lines = ["", "The devices of a replica:", *_aligned(rows)]
    if of_stages:
        kind = "stages" if each.division.pipeline_virtual_stages == 1 else "runs of layers"
        lines.append(
            f"After the first, {kind} begin at {', '.join(each.stages)}: balanced by estimated "
            "costs, where Pipeline measures. Pass these names to Pipeline(stages=) for this plan."
        )
    return [*lines, ""]


def _devices(plan: MemoryPlan) -> str:
    counts = [len(each.devices) for each in plan.configurations]
    if max(counts) == 1:
        return f"{plan.replicas} device{'s' if plan.replicas > 1 else ''}"
    several = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{plan.replicas} replica{'s' if plan.replicas > 1 else ''} of {several} devices"


def _sizes(memory: DeviceMemory) -> list[str]:
    sizes = (
        *(memory.parameters, memory.slots, memory.gradients, memory.activations),
        *(memory.buffers, memory.padding, memory.other + memory.batch, memory.total),
    )
    return [shown_bytes(size) for size in sizes]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    shown = [
        i
        for i, name in enumerate(rows[0])
        if name not in _IF_SEVERAL or len({row[i] for row in rows[1:]}) > 1
    ]
    widths = [max(len(row[i]) for row in rows) for i in shown]
    return [
        "  ".join(row[i].rjust(width) for i, width in zip(shown, widths, strict=True)).rstrip()
        for row in rows
    ]
