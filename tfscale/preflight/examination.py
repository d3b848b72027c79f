"""A preflight: a model and its data, the step that a TPU would run, and what is wrong with it."""

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
    half_outputs,
    support,
    traced_forward_pass,
    traced_train_step,
)
from tfscale.preflight.batches import ReplicaBatch, replica_batch
from tfscale.preflight.finding import FAILS, WARNS, Finding, Place
from tfscale.preflight.operations import scan
from tfscale.preflight.source_locations import (
    LayerPlaces,
    error_place,
    function_place,
    refused_place,
)
from tfscale.preflight.target import Target
from tfscale.verify.user_model import Subject, in_one_line

_LONGEST_ERROR = 300


@dataclass
class Preflight:
    """What came of it.

    Attributes:
        subject: "module:function".
        target: What it was looked at for.
        rows: Examples of one replica, 0 where no batch came about.
        num_operations: Operations looked at.
        is_compiled: Whether XLA's CPU compiler took the step; None where it was not asked.
        findings: In the order they were found; failures first.
        versions: What it was done with.
        date: When, in UTC.
        step: The step, for whoever compiles it for the chip; None where it could not be traced.
    """

    subject: str
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
        """Whether nothing has to be changed."""
        return not any(finding.severity == FAILS for finding in self.findings)


def preflight(
    subject: Subject, target: Target, *, batch_size: int, say: Callable[[str], None]
) -> Preflight:
    """Looks at the training step of a model as a TPU would be given it; level 1: TensorFlow alone.

    Args:
        subject: The user's function.
        target: The chips.
        batch_size: Examples of a global batch where the data are arrays. Positive.
        say: Told what is going on.

    Raises:
        WrongUsage: If the function cannot be called or returns something else.
    """
    result = Preflight(subject.target, target)
    layers = LayerPlaces()
    strategy = support(TpuStandIn(target.num_replicas))
    place = function_place(getattr(subject.module, subject.target.partition(":")[2], None))
    say(f"building the model for {target.num_replicas} replica(s)")
    with strategy.scope(), layers.noting():
        model, data = subject.build()
        batch = replica_batch(data, target.num_replicas, batch_size, place)
        result.rows = batch.rows
        result.findings += batch.findings
        result.findings += _setting_findings(model, place)
        say(f"tracing the step of one replica, {batch.rows} examples")
        _trace(result, model, batch)
    if result.step is not None:
        _look_at(result, result.step.graph, layers, say)
        if batch.is_static:
            say("compiling it with XLA")
            _compile(result, result.step, layers, batch)
    else:
        _look_at_forward_pass(result, model, batch, strategy, layers, say)
    result.findings += _half_findings(model, place)
    result.findings.sort(key=lambda finding: finding.severity != FAILS)
    return result


def _setting_findings(model: Any, place: Place | None) -> list[Finding]:
    """Looks at how the model was compiled, and puts right what would end the preflight here."""
    findings = []
    if model.run_eagerly:
        text, cure = "run_eagerly=True: a TPU runs graphs only", "Compile without it."
        findings.append(Finding(FAILS, "setting", text, cure, place))
        model.run_eagerly = False
    if model.jit_compile:
        text = "jit_compile=True, which is refused on a TPU: it compiles the whole step already"
        cure = "Use compile(jit_compile='auto')."
        findings.append(Finding(FAILS, "setting", text, cure, place))
        model.jit_compile = False
    wide = [v.path for v in model.trainable_variables if v.dtype == "float64"]
    if wide:
        text = f"{len(wide)} float64 weights, such as {wide[0]}: a TPU computes them in parts"
        cure = 'Use tfscale.set_precision("auto", strategy), mixed_bfloat16 on a TPU, or float32.'
        findings.append(Finding(WARNS, "float64", text, cure, place))
    return findings


def _half_findings(model: Any, place: Place | None) -> list[Finding]:
    cure = 'Give the last layer dtype="float32".'
    return [
        Finding(WARNS, "half output", f"the output {name} ends in {dtype}", cure, place)
        for name, dtype in half_outputs(model).items()
    ]


def _trace(result: Preflight, model: Any, batch: ReplicaBatch) -> None:
    try:
        result.step = traced_train_step(model, batch.spec, rows_vary=batch.rows_vary)
    except Exception as error:
        text = f"the step cannot be traced: {in_one_line(error)[:_LONGEST_ERROR]}"
        cure = (
            "Let one step of `fit` run on this machine first. While a graph is made there are no "
            "values: use TensorFlow or Keras operations alone."
        )
        result.findings.append(Finding(FAILS, "trace", text, cure, error_place(error)))


def _look_at(
    result: Preflight, graph: Any, layers: LayerPlaces, say: Callable[[str], None]
) -> None:
    result.num_operations = len(graph.get_operations())
    say(f"looking at {result.num_operations} operations and what they call")
    result.findings += scan(graph, layers)


def _look_at_forward_pass(
    result: Preflight,
    model: Any,
    batch: ReplicaBatch,
    strategy: tf.distribute.Strategy,
    layers: LayerPlaces,
    say: Callable[[str], None],
) -> None:
    """Finds at least what the model itself holds, where its step could not be traced."""
    with strategy.scope():
        try:
            step = traced_forward_pass(model, batch.spec)
        except Exception:
            return  # what stops it has been told of
    _look_at(result, step.graph, layers, say)


def _compile(result: Preflight, step: TracedStep, layers: LayerPlaces, batch: ReplicaBatch) -> None:
    """Asks XLA itself, whose word is the last: it may drop an operation before it compiles."""
    is_expected = all(finding.kind not in ("operation", "host") for finding in result.findings)
    try:
        text = step.compiled("hlo")
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        result.is_compiled = False
        if is_expected:
            said = f"XLA refuses the step: {in_one_line(error)[:_LONGEST_ERROR]}"
            cure = "The operation it names is the one to replace, or to do in the input pipeline."
            place = refused_place(error, step.graph, layers)
            result.findings.append(Finding(FAILS, "compiler", said, cure, place))
        return
    result.is_compiled = True
    result.findings = [_dropped(finding) for finding in result.findings]
    is_known = any(finding.kind == "dynamic" for finding in result.findings)
    if "<=" in text and not is_known and not batch.rows_vary:
        said = "some sizes in the compiled step depend on the data"
        cure = "It compiles, for the largest size there can be."
        result.findings.append(Finding(WARNS, "dynamic", said, cure))


def _dropped(finding: Finding) -> Finding:
    """Says of an operation that XLA lacks that it did not get as far as XLA."""
    if finding.kind != "operation":
        return finding
    text = f"{finding.text}, but here TensorFlow left it out before it compiled the step"
    return dataclasses.replace(finding, severity=WARNS, text=text)
