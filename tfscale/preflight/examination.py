"""Examines the step that a TPU would run: traces it, scans its operations, compiles it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import (
    TpuStandIn,
    TracedStep,
    outputs_in_half_precision,
    support,
    traced_forward_pass,
    traced_train_step,
)
from tfscale.preflight.batches import ReplicaBatch, replica_batch
from tfscale.preflight.findings import (
    FAILS,
    WARNS,
    Finding,
    LayerLocations,
    SourceLocation,
    error_location,
    function_location,
    rejected_location,
)
from tfscale.preflight.operations import scan
from tfscale.preflight.target import Target
from tfscale.verify.user_model import UserModel, in_one_line

_LONGEST_ERROR = 300


@dataclass
class Preflight:
    """The result of a preflight.

    Attributes:
        user_model: "module:function".
        target: The chips.
        rows: Examples of one replica; 0 if there is no batch.
        num_operations: Number of scanned operations.
        is_compiled: Whether XLA's CPU compiler accepted the step; None if it was not run.
        findings: The problems, failures first, then in the order they were found.
        versions: The versions of TensorFlow and Keras.
        date: Today, in UTC.
        step: The traced step, or None if it could not be traced.
    """

    user_model: str
    target: Target
    rows: int = 0
    num_operations: int = 0
    is_compiled: bool | None = None
    findings: list[Finding] = field(default_factory=list)
    versions: dict[str, str] = field(
        default_factory=lambda: {"tensorflow": tf.__version__, "keras": keras.__version__}
    )
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat()
    )
    step: TracedStep | None = None

    @property
    def is_fine(self) -> bool:
        """Whether there are no failures."""
        return not any(finding.severity == FAILS for finding in self.findings)


def preflight(
    user_model: UserModel, target: Target, *, batch_size: int, say: Callable[[str], None]
) -> Preflight:
    """Examines the training step of a model for a TPU with TensorFlow only (level 1).

    Args:
        user_model: The user's function.
        target: The chips.
        batch_size: Examples of a global batch if the data are arrays. Positive.
        say: Called with each line of progress.

    Raises:
        WrongUsage: If the function cannot be called or returns something else.
    """
    result = Preflight(user_model.target, target)
    layers = LayerLocations()
    strategy = support(TpuStandIn(target.num_replicas))
    location = function_location(
        getattr(user_model.module, user_model.target.partition(":")[2], None)
    )
    count = target.num_replicas
    say(f"building the model for {count} replica{'s' if count > 1 else ''}")
    with strategy.scope(), layers.recording():
        model, data = user_model.build()
        batch = replica_batch(data, target.num_replicas, batch_size, location)
        result.rows = batch.rows
        result.findings += batch.findings
        result.findings += _setting_findings(model, location)
        say(f"tracing the step of one replica, {batch.rows} examples")
        _trace(result, model, batch)
    if result.step is not None:
        _scan(result, result.step.graph, layers, say)
        if batch.is_static:
            say("compiling it with XLA")
            _compile(result, result.step, layers, batch)
    else:
        _scan_forward_pass(result, model, batch, strategy, layers, say)
    result.findings += _half_findings(model, location)
    result.findings.sort(key=lambda finding: finding.severity != FAILS)
    return result


def _setting_findings(model: Any, location: SourceLocation | None) -> list[Finding]:
    """Checks how the model was compiled, and changes settings that would stop the preflight."""
    findings = []
    if model.run_eagerly:
        text, cure = "run_eagerly=True, but a TPU runs graphs only", "Compile without it."
        findings.append(Finding(FAILS, "setting", text, cure, location))
        model.run_eagerly = False
    if model.jit_compile:
        text = (
            "jit_compile=True, which is an error on a TPU, where the whole step is compiled anyway"
        )
        cure = "Use compile(jit_compile='auto')."
        findings.append(Finding(FAILS, "setting", text, cure, location))
        model.jit_compile = False
    wide = [v.path for v in model.trainable_variables if v.dtype == "float64"]
    if wide:
        text = f"{len(wide)} float64 weights, such as {wide[0]}: a TPU emulates float64"
        cure = 'Use tfscale.set_precision("auto", strategy), which is mixed_bfloat16, or float32.'
        findings.append(Finding(WARNS, "float64", text, cure, location))
    return findings


def _half_findings(model: Any, location: SourceLocation | None) -> list[Finding]:
    cure = 'Pass dtype="float32" to the last layer.'
    return [
        Finding(WARNS, "half output", f"the output {name} is {dtype}", cure, location)
        for name, dtype in outputs_in_half_precision(model).items()
    ]


def _trace(result: Preflight, model: Any, batch: ReplicaBatch) -> None:
    try:
        result.step = traced_train_step(model, batch.spec, rows_vary=batch.rows_vary)
    except Exception as error:
        text = f"the step cannot be traced: {in_one_line(error)[:_LONGEST_ERROR]}"
        cure = (
            "Run one step of `fit` on this machine first. Tensors have no values while a graph is "
            "traced, so use only TensorFlow or Keras operations."
        )
        result.findings.append(Finding(FAILS, "trace", text, cure, error_location(error)))


def _scan(
    result: Preflight, graph: Any, layers: LayerLocations, say: Callable[[str], None]
) -> None:
    result.num_operations = len(graph.get_operations())
    say(f"checking {result.num_operations} operations and the functions they call")
    result.findings += scan(graph, layers)


def _scan_forward_pass(
    result: Preflight,
    model: Any,
    batch: ReplicaBatch,
    strategy: tf.distribute.Strategy,
    layers: LayerLocations,
    say: Callable[[str], None],
) -> None:
    """Checks at least the model's forward pass if its step could not be traced."""
    with strategy.scope():
        try:
            step = traced_forward_pass(model, batch.spec)
        except Exception:
            return  # the cause was reported already
    _scan(result, step.graph, layers, say)


def _compile(
    result: Preflight, step: TracedStep, layers: LayerLocations, batch: ReplicaBatch
) -> None:
    """Compiles the step with XLA, which decides: an operation may be removed before compilation."""
    is_expected = all(finding.kind not in ("operation", "host") for finding in result.findings)
    try:
        text = step.compiled("hlo")
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        result.is_compiled = False
        if is_expected:
            said = f"XLA rejects the step: {in_one_line(error)[:_LONGEST_ERROR]}"
            cure = "Replace the operation that it names, or move it to the input pipeline."
            location = rejected_location(error, step.graph, layers)
            result.findings.append(Finding(FAILS, "compiler", said, cure, location))
        return
    result.is_compiled = True
    result.findings = [_dropped(finding) for finding in result.findings]
    is_known = any(finding.kind == "dynamic" for finding in result.findings)
    if "<=" in text and not is_known and not batch.rows_vary:
        said = "some sizes in the compiled step depend on the data"
        cure = "It compiles for the largest possible size."
        result.findings.append(Finding(WARNS, "dynamic", said, cure))


def _dropped(finding: Finding) -> Finding:
    """Downgrades an operation that XLA lacks but that was removed before compilation."""
    if finding.kind != "operation":
        return finding
    text = f"{finding.text}, but TensorFlow removed it here before compiling the step"
    return dataclasses.replace(finding, severity=WARNS, text=text)
