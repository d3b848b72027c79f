"""Planted faults: each is found at its line with its severity, and correct code has no findings."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.keras_support import support
from strategies.keras_support.step import replica_step, step_functions
from strategies.keras_support.step.tracing import traced_train_step
from strategies.tpu.cpu_stand_in import TpuStandIn
from tests.unit.tfscale.preflight import preflight_models
from tfscale.preflight.batches import replica_batch
from tfscale.preflight.examination import Preflight, preflight
from tfscale.preflight.report import as_json, as_text
from tfscale.preflight.target import parse_target
from tfscale.verify.user_model import UserModel

pytestmark = pytest.mark.own_process

MODELS = Path(preflight_models.__file__)
LINES = MODELS.read_text("utf-8").splitlines()


def examined(function: str, target: str = "v5e:2x2") -> Preflight:
    keras.backend.clear_session()
    user_model = UserModel(f"{preflight_models.__name__}:{function}")
    return preflight(user_model, parse_target(target), batch_size=16, say=lambda _: None)


def line_of(fault: str) -> int:
    (line,) = [i for i, line in enumerate(LINES, 1) if line.endswith(f"# fault: {fault}")]
    return line


def found(result: Preflight) -> list[tuple[str, str, int]]:
    """Severity, kind and line of what was found, all of it in the models' file."""
    places = [finding.location for finding in result.findings]
    assert {location.file for location in places if location is not None} == {str(MODELS)}
    return [(f.severity, f.kind, f.location.line if f.location else 0) for f in result.findings]


@pytest.fixture(scope="module")
def everything() -> Preflight:
    return examined("everything")


EVERYTHING = {
    "string": ("fails", "operation", "AsString"),
    "py_function": ("fails", "operation", "EagerPyFunc"),  # in a loop
    "ragged": ("fails", "operation", "RaggedTensorToTensor"),
    "crop": ("fails", "operation", "CropAndResize"),  # in a branch
    "rotation": ("fails", "operation", "ImageProjectiveTransformV3"),
    "metric": ("fails", "operation", "PyFunc"),
    "unique": ("warns", "dynamic", "Unique"),
    "print": ("warns", "host", "PrintV2"),
    "float64": ("warns", "float64", "Mul"),
}


@pytest.mark.parametrize("fault", list(EVERYTHING))
def test_a_planted_fault_is_found_at_its_line(everything: Preflight, fault: str) -> None:
    severity, kind, operation = EVERYTHING[fault]
    at_line = [
        (finding.severity, finding.kind, operation in finding.text)
        for finding in everything.findings
        if finding.location is not None and finding.location.line == line_of(fault)
    ]
    assert at_line == [(severity, kind, True)]


def test_nothing_else_is_found_and_failures_come_first(everything: Preflight) -> None:
    expected = {(severity, line_of(fault)) for fault, (severity, *_) in EVERYTHING.items()}
    expected.add(("fails", line_of("string") + 1))  # the length of the string
    severities = [severity for severity, *_ in found(everything)]
    assert {(severity, line) for severity, _, line in found(everything)} == expected
    assert severities == sorted(severities)
    assert (everything.is_fine, everything.is_compiled) == (False, False)


def test_a_layer_of_keras_is_named_with_the_line_that_made_it(everything: Preflight) -> None:
    layers = [f.location.layer for f in everything.findings if f.location and f.location.layer]
    assert layers == ["random_rotation (RandomRotation)"]


def test_data_and_settings_are_found_at_the_function_that_chose_them() -> None:
    result = examined("awkward")
    line = line_of("data and settings")
    assert found(result) == [
        ("fails", "shape", line),
        ("fails", "batch", line),
        ("fails", "setting", line),
        ("warns", "half output", line),
    ]
    texts = [finding.text for finding in result.findings]
    assert "(6, None, 8, 1)" in texts[0]
    assert texts[1] == "a batch of 6 does not divide evenly among 4 replicas"
    assert "jit_compile=True" in texts[2]
    assert texts[3].endswith("is bfloat16")


def test_an_operation_for_the_host_is_not_a_failure() -> None:
    result = examined("printing")
    assert found(result) == [("warns", "host", line_of("print alone"))]
    assert result.is_fine


def test_a_supported_operation_that_xla_rejects_is_found_at_its_line() -> None:
    result = examined("stitched")
    assert ("fails", "compiler", line_of("stitched")) in found(result)
    assert not result.is_compiled


def test_a_step_that_cannot_be_traced_does_not_hide_the_models_problems() -> None:
    result = examined("untraceable")
    assert ("fails", "trace", line_of("eager metric")) in found(result)
    assert ("fails", "operation", line_of("string")) in found(result)


X, Y = preflight_models.IMAGES


@pytest.mark.parametrize(
    ("data", "rows", "kinds"),
    [
        pytest.param((X, Y), 4, [], id="arrays of a whole batch"),
        pytest.param((X[:15], Y[:15]), 4, ["batch"], id="fewer examples than a batch"),
        pytest.param((X.astype(np.float64), Y), 4, ["float64"], id="float64"),
        pytest.param((np.array([["a"]] * 16), Y), 4, ["input"], id="strings"),
        pytest.param((tf.ragged.constant([[1.0]] * 16), Y), 4, ["input"], id="ragged"),
        pytest.param(({"a": X, "b": X}, Y), 4, [], id="a dict"),
        pytest.param(
            tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), 2, ["shape"], id="no static rows"
        ),
        pytest.param(
            tf.data.Dataset.from_tensor_slices((X, Y)).batch(8, drop_remainder=True),
            2,
            [],
            id="static rows",
        ),
    ],
)
def test_a_replica_batch_has_its_part_of_the_rows(data: Any, rows: int, kinds: list[str]) -> None:
    batch = replica_batch(data, 4, 16, None)
    assert (batch.rows, [finding.kind for finding in batch.findings]) == (rows, kinds)


def test_a_pipeline_gives_a_replica_batch_and_warns_of_a_smaller_last_batch() -> None:
    strategy = TpuStandIn(4)
    whole = tfscale.data.input_pipeline((X, Y), strategy, global_batch_size=8)
    assert (replica_batch(whole, 4, 1, None).findings, whole.element_spec[0].shape[0]) == ([], 2)
    rest = tfscale.data.input_pipeline((X, Y), strategy, global_batch_size=12)
    (finding,) = replica_batch(rest, 4, 1, None).findings
    assert (finding.severity, finding.kind) == ("warns", "last batch")


def test_a_clean_model_compiles_and_the_report_does_not_claim_that_it_runs() -> None:
    result = examined("clean")
    assert (result.is_compiled, result.findings, result.rows) == (True, [], 4)
    text = as_text(result, width=80)
    assert "verdict: compiles; 0 to fix, 0 to check." in text
    assert "Nothing was run, so memory, speed and numerical results are not shown." in " ".join(
        text.split()
    )
    assert as_json(result)["compiled_by_xla_cpu"] is True


def types(graph: Any) -> list[str]:
    return [operation.type for operation in graph.get_operations()]


def counted(graph: Any) -> collections.Counter[str]:
    """How many operations of each type there are; input and output differ between callers."""
    plumbing = ("Placeholder", "Identity", "IteratorGetNext", "NoOp", "Const")
    return collections.Counter(kind for kind in types(graph) if kind not in plumbing)


def test_the_examined_step_is_the_step_that_fit_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    original = replica_step.graph_function

    def noted(function: Any, *arguments: Any, **keywords: Any) -> Any:
        traced.append(original(function, *arguments, **keywords))
        return traced[-1]

    for module in (replica_step, step_functions):
        monkeypatch.setattr(module, "graph_function", noted)
    strategy = strategies.one_device_strategy("CPU:0")
    with strategy.scope():
        model, (x, y) = preflight_models.clean()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4, drop_remainder=True)
    model.fit(data, verbose=0)
    graphs = [concrete.graph for f in traced for concrete in f._list_all_concrete_functions()]
    run = [graph for graph in graphs if "IteratorGetNext" in types(graph)]
    assert len(run) == 1, [graph.name for graph in graphs]
    step = traced_train_step(model, data.element_spec)
    own, looked = counted(run[0]), counted(step.graph)
    # `fit` reads the metrics' results once more, outside of the replica's step.
    reads = {"ReadVariableOp", "DivNoNan", "Greater", "Cast", "SelectV2"}
    assert {kind: n for kind, n in own.items() if kind not in reads} == {
        kind: n for kind, n in looked.items() if kind not in reads
    }
    assert looked["AssignSubVariableOp"] > 0


def test_many_replicas_reduce_in_one_pack_before_they_update() -> None:
    def reductions(num_replicas: int) -> int:
        with support(TpuStandIn(num_replicas)).scope():
            model, (x, y) = preflight_models.clean()
        spec = (tf.TensorSpec([4, *x.shape[1:]]), tf.TensorSpec([4, *y.shape[1:]]))
        step = traced_train_step(model, spec)
        return types(step.graph).count("MulNoNan")

    # The packed gradients are weighted by examples; a single replica needs no weight.
    assert (reductions(1), reductions(4)) == (0, 1)


def test_the_stand_in_raises_the_errors_of_a_tpu() -> None:
    with support(TpuStandIn(1)).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=True)
    message = r"`jit_compile` must not be True on a TPU.*jit_compile=True.*jit_compile='auto'"
    with pytest.raises(ValueError, match=message):
        model.fit(np.ones([4, 2]), np.ones([4, 1]), verbose=0)
