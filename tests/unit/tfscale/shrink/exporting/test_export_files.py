"""Files of every format, run in every runtime. Needs tfscale[export]: `make export`."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.programs import completed, forked
from tests.unit.tfscale.shrink.exporting import export_models
from tests.unit.tfscale.shrink.exporting.test_export_rules import PROGRAM
from tfscale.shrink import Exported, export
from tfscale.shrink.exporting.formats import FORMATS
from tfscale.shrink.exporting.running import RunFailed

MISSING = [
    pip
    for each in FORMATS.values()
    for module, pip in each.packages.items()
    if importlib.util.find_spec(module) is None
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs tfscale[export]: {MISSING}")

REFUSED = {
    ("recommender of strings", "openvino"),
    ("recommender of strings", "litert int8"),
    ("recommender of integers", "litert"),
}
FLOAT = [
    (kind, each) for kind in export_models.KINDS for each in FORMATS if (kind, each) not in REFUSED
]
# How far a quantized file may be from Keras in float, as a part of the largest output.
BOUNDS = {"float16": 0.001, "dynamic": 0.02, "int8": 0.05, "int4": 0.2, "float8": 0.1}
# Neither Keras's float8 nor these of LiteRT quantize tables.
NO_EFFECT = {
    ("keras", "float8"),
    ("savedmodel", "float8"),
    ("litert", "int4"),
    ("litert", "dynamic"),
}
QUANTIZED = [
    (kind, each.name, way)
    for kind in ("cnn", "encoder", "recommender")
    for each in FORMATS.values()
    for way in each.quantizations
    if (kind, each.name) != ("encoder", "keras")
    if kind != "recommender" or (each.name, way) not in NO_EFFECT
]


def exported(kind: str, format_name: str, folder: Path, **options: Any) -> Exported:
    model, rows = export_models.KINDS[kind]()
    path = folder / f"file{FORMATS[format_name].suffix}"
    return export(model, format_name, path, data=rows, **options)


@pytest.mark.parametrize(("kind", "format_name"), FLOAT)
def test_a_float_file_gives_what_keras_gives(kind: str, format_name: str, tmp_path: Path) -> None:
    found = exported(kind, format_name, tmp_path)
    print(f"{kind}, {format_name}: {found.difference.largest:.2e}, {found.size_bytes} bytes")
    assert found.is_equal(1e-6)
    assert found.num_rows == export_models.ROWS
    assert found.needs_tensorflow is (format_name in ("keras", "savedmodel"))


@pytest.mark.parametrize(("kind", "format_name", "quantize"), QUANTIZED)
def test_a_quantized_file_is_near_keras(
    kind: str, format_name: str, quantize: str, tmp_path: Path
) -> None:
    found = exported(kind, format_name, tmp_path, quantize=quantize)
    print(f"{kind}, {format_name} {quantize}: {found.difference.largest:.2e}")
    assert found.difference.relative < BOUNDS[quantize]


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_a_cut_lookup_leaves_its_vocabulary_beside_the_file(
    format_name: str, tmp_path: Path
) -> None:
    model, rows = export_models.recommender("string", "int64")
    path = tmp_path / f"file{FORMATS[format_name].suffix}"
    found = export(model, format_name, path, data=rows, lookups="outside")
    assert found.is_equal(1e-6)
    vocabulary = json.loads((tmp_path / f"{path.name}.vocabulary.json").read_text("utf-8"))
    assert vocabulary["user"] == ["[UNK]", *export_models.USERS]
    assert vocabulary["item"] == [-1, *export_models.ITEMS]


def test_files_of_a_mirrored_model_in_mixed_precision_compute_in_float32(tmp_path: Path) -> None:
    formats = ("savedmodel", "litert", "onnx", "openvino")
    done = completed(*forked("-c", PROGRAM, str(tmp_path), *formats), timeout=300)
    assert done.stdout.splitlines() == [
        f"{name} True mixed_bfloat16 True ('x',) ('kind',)" for name in formats
    ], done.stderr


def straight_line(folder: Path) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    weights, bias = np.arange(6.0).reshape(3, 2) / 7, np.array([0.25, -1.0])
    model.set_weights([weights, bias])
    rows = export_models.random().normal(size=(5, 3))
    return model, rows.astype("float32"), rows @ weights + bias


def test_litert_computes_what_numpy_computes_and_has_the_labels(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model, rows, expected = straight_line(tmp_path)
    path = tmp_path / "line.tflite"
    export(model, "litert", path, labels=["down", "up"])
    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    np.testing.assert_allclose(runner(x=rows)["y"], expected, rtol=1e-5)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt") == b"down\nup"


def test_onnx_computes_what_numpy_computes_and_has_the_labels(tmp_path: Path) -> None:
    import onnxruntime

    model, rows, expected = straight_line(tmp_path)
    path = tmp_path / "line.onnx"
    export(model, "onnx", path, labels=["down", "up"])
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(["y"], {"x": rows})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert session.get_inputs()[0].shape == ["batch", 3]
    assert session.get_outputs()[0].shape == ["batch", 2]
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == ["down", "up"]


def test_openvino_computes_what_numpy_computes_and_has_the_labels(tmp_path: Path) -> None:
    import openvino

    model, rows, expected = straight_line(tmp_path)
    path = tmp_path / "line.xml"
    export(model, "openvino", path, labels=["down", "up"])
    read = openvino.Core().read_model(path)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.compile_model(read, "CPU", hint)({"x": rows})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert read.get_rt_info(["model_info", "labels"]).astype(str) == "down up"


def test_keras_int8_is_refused_where_it_would_give_other_numbers(tmp_path: Path) -> None:
    model, rows = export_models.cnn()
    model.quantize("int8")
    with pytest.raises(ValueError, match="Export the float model with quantize='float16'"):
        export(model, "openvino", tmp_path / "file.xml", data=rows)
    with pytest.raises(ValueError, match="quantize='dynamic' or quantize='int4'"):
        export(model, "litert", tmp_path / "file.tflite", data=rows)
    assert list(tmp_path.iterdir()) == []


def test_keras_int8_of_matrices_is_kept_in_onnx(tmp_path: Path) -> None:
    model, rows, _ = straight_line(tmp_path)
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    found = export(tmp_path / "model.keras", "onnx", tmp_path / "file.onnx", data={"x": rows})
    assert found.is_equal(1e-6)


@pytest.mark.parametrize(
    ("format_name", "way", "error"),
    [
        ("litert", "int4", RunFailed),
        ("litert", "dynamic", RunFailed),
        ("keras", "float8", ValueError),
    ],
)
def test_a_quantization_without_effect_is_refused(
    format_name: str, way: str, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error, match=r"no layer of the model|of which it quantizes none"):
        exported("recommender", format_name, tmp_path, quantize=way)


def test_quantized_attention_that_keras_cannot_load_is_refused(tmp_path: Path) -> None:
    model, rows = export_models.encoder()
    with pytest.raises(RunFailed, match=r"Keras cannot load its own file.*Export it as savedmodel"):
        export(model, "keras", tmp_path / "file.keras", quantize="int8", data=rows)


@pytest.mark.parametrize("outputs", ["dictionary", "list"])
def test_several_outputs_keep_their_names(outputs: str, tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    b, a = keras.layers.Dense(2, name="left")(x), keras.layers.Dense(3, name="right")(x)
    model = keras.Model(x, {"wide": a, "narrow": b} if outputs == "dictionary" else [b, a])
    names = ("narrow", "wide") if outputs == "dictionary" else ("left", "right")
    for format_name, each in FORMATS.items():
        found = export(model, format_name, tmp_path / f"file{each.suffix}")
        assert found.outputs == names
        assert found.is_equal(1e-6), format_name


def test_a_file_that_fails_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    model, rows = export_models.recommender()
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "rows.npz", user=rows["user"], item=rows["item"])
    command = ["-m", "tfscale", "export", str(tmp_path), "--format=litert"]
    command += ["--quantize=dynamic,float16", f"--data={tmp_path / 'rows.npz'}", "--json"]
    done = completed(*command, timeout=300)
    assert done.returncode == 1
    assert "no layer of the model has weights that dynamic quantizes" in done.stderr
    assert [each["quantize"] for each in json.loads(done.stdout)] == ["float16"]


def test_the_command_compares_files_of_all_formats(tmp_path: Path) -> None:
    model, rows = export_models.cnn()
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "rows.npz", image=rows["image"])
    (tmp_path / "labels.txt").write_text("\n".join(f"digit_{n}" for n in range(10)))
    command = ["-m", "tfscale", "export", str(tmp_path), "--format=litert,onnx,openvino"]
    command += [f"--data={tmp_path / 'rows.npz'}", f"--labels={tmp_path / 'labels.txt'}", "--json"]
    done = completed(*command, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["format"] for each in found] == ["litert", "onnx", "openvino"]
    assert all(each["is_equal"] and not each["needs_tensorflow"] for each in found)
    strict = completed(*command, "--tolerance=0", timeout=300)
    assert strict.returncode == 1
