"""What `tfscale export` refuses, and how outputs are compared: no runtime is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.programs import completed, forked
from tests.unit.tfscale.shrink.exporting import export_models
from tfscale.__main__ import main
from tfscale.shrink import export, quantization_aware
from tfscale.shrink.exporting.float_model import (
    file_of,
    loaded,
    mixed_policy,
    with_whole_tables,
)
from tfscale.shrink.exporting.formats import (
    FORMATS,
    check_quantization,
    check_source,
    format_named,
    require_packages,
)
from tfscale.shrink.exporting.lookups import check_lookups, number_in, without_lookups
from tfscale.shrink.exporting.rows import drawn_rows, rows_of
from tfscale.shrink.exporting.running import RunFailed, difference


@pytest.mark.parametrize(
    ("format_name", "quantize", "cure"),
    [
        ("openvino", "int8", "float16 with format='openvino'.*or export to keras or savedmodel"),
        ("litert", "float8", "float16, dynamic, int4, int8.*or export to keras or savedmodel"),
        ("onnx", "gptq", "dynamic, int8 with format='onnx'.*Choose one of them\\."),
    ],
)
def test_a_format_that_cannot_be_quantized_so_is_refused_with_those_that_can(
    format_name: str, quantize: str, cure: str
) -> None:
    with pytest.raises(ValueError, match=cure):
        check_quantization(format_named(format_name), quantize, has_rows=True)


@pytest.mark.parametrize("format_name", ["litert", "onnx"])
def test_int8_activations_need_rows(format_name: str) -> None:
    with pytest.raises(ValueError, match="`data` is required with quantize='int8'"):
        check_quantization(format_named(format_name), "int8", has_rows=False)


@pytest.mark.parametrize(
    ("format_name", "quantized"),
    [("litert", "int8"), ("litert", "int4"), ("openvino", "int8"), ("onnx", "float8")],
)
def test_a_model_that_keras_has_quantized_is_refused_where_it_fails(
    format_name: str, quantized: str
) -> None:
    with pytest.raises(ValueError, match="Export the float model with quantize='"):
        check_source(format_named(format_name), quantized)


def test_a_missing_package_is_refused_with_the_command_that_installs_it() -> None:
    missing = {"tf2onnx", "onnxruntime"}
    with pytest.raises(
        ImportError,
        match=r"needs onnxruntime and tf2onnx.*pip install \"tfscale\[export\]\", or only: "
        "pip install onnxruntime tf2onnx",
    ):
        require_packages(list(FORMATS.values()), lambda name: name in missing)


def test_formats_of_keras_need_no_package() -> None:
    require_packages([FORMATS["keras"], FORMATS["savedmodel"]], lambda name: True)


@pytest.mark.parametrize(
    ("kind", "format_name", "quantize"),
    [
        ("recommender of integers", "litert", None),
        ("recommender of strings", "litert", "int8"),
        ("recommender of strings", "openvino", None),
    ],
)
def test_a_table_that_a_runtime_does_not_have_is_refused_with_the_cure(
    kind: str, format_name: str, quantize: str | None
) -> None:
    model, _ = export_models.KINDS[kind]()
    with pytest.raises(ValueError, match=r"Lookup with format=.*Pass lookups='outside'"):
        check_lookups(model, format_name, quantize)


def test_lookups_are_cut_off_and_their_indices_give_the_same_scores() -> None:
    model, rows = export_models.recommender("string", "int64")
    cut = without_lookups(model)
    indices = {name: cut.indices(name, values) for name, values in rows.items()}
    assert cut.vocabularies["user"][:3] == ["[UNK]", "u0", "u1"]
    assert cut.vocabularies["item"][:3] == [-1, 1, 8]
    known = [name in export_models.USERS for name in rows["user"].tolist()]
    assert False in known
    expected = [
        1 + export_models.USERS.index(name) if name in export_models.USERS else 0
        for name in rows["user"].tolist()
    ]
    assert indices["user"].tolist() == expected
    tensors = [keras.ops.convert_to_tensor(indices[name]) for name in ("user", "item")]
    import tensorflow as tf

    whole = model([tf.constant(rows["user"]), tf.constant(rows["item"])])
    np.testing.assert_array_equal(cut.model(tensors), whole)


def test_a_lookup_that_reads_something_else_than_an_input_is_not_cut_off() -> None:
    word = keras.Input((), dtype="int64", name="word")
    inner = keras.layers.IntegerLookup(vocabulary=[1, 2], name="inner")(word + 1)
    model = keras.Model(word, keras.layers.Embedding(3, 2)(inner))
    with pytest.raises(ValueError, match=r"each lookup reads an input.*'inner'"):
        without_lookups(model)
    with pytest.raises(ValueError, match="must not be 'outside' for a model without"):
        without_lookups(export_models.cnn()[0])


def test_the_number_of_a_lookup_is_read_from_the_name_of_a_node() -> None:
    assert number_in("m/marked_a_1/tfscale_lookup_n12_1/hash_table_Lookup") == 12
    assert number_in("m/tfscale_lookup_n0/x") == 0
    assert number_in("m/string_lookup_2/x") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"user": [1, 2]}, "must have rows for each input: user, item. Received: user"),
        ([np.zeros(2), np.zeros(3)], r"same number of rows.*\{'user': 2, 'item': 3\}"),
        ([np.zeros((2, 1)), np.zeros(2)], r"input 'user' of type int32 and shape \(None,\)"),
        ([np.array(["a"]), np.zeros(1)], "input 'user' of type int32.*type <U1"),
        (np.zeros(2), "Received: ndarray"),
    ],
)
def test_rows_that_do_not_fit_the_inputs_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_of(export_models.recommender()[0], data, 512)


def test_rows_are_sorted_by_the_inputs_and_cut() -> None:
    model, rows = export_models.recommender()
    given = {"y": np.arange(40), "item": rows["item"], "user": rows["user"].astype("int64")}
    found = rows_of(model, given, 3)
    assert list(found.inputs) == ["user", "item"]
    assert found.inputs["user"].dtype == "int32"
    assert found.inputs["item"].tolist() == rows["item"][:3].tolist()
    assert found.classes is not None
    assert found.classes.tolist() == [0, 1, 2]
    assert len(rows_of(model, ([rows["user"], rows["item"]], np.arange(40)), 512)) == 40


def test_integers_are_not_drawn_because_their_range_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"input 'tokens' .* cannot be drawn"):
        drawn_rows(export_models.encoder()[0])
    assert drawn_rows(export_models.cnn()[0]).inputs["image"].shape == (256, 8, 8, 1)


def test_differences_are_counted_over_all_batches_and_not_a_number_is_infinitely_far() -> None:
    expected = np.array([[0.0, 4.0], [2.0, 1.0]])
    one, two = expected[:1] + 0.5, np.array([[0.0, 4.0], [1.0, 3.0]])
    found = difference({1: [one], 2: [two]}, [expected], np.array([1, 1]))
    assert (found.largest, found.relative) == (2.0, 0.5)
    assert (found.agreement, found.accuracy) == (0.5, 1.0)
    assert difference({1: [one * np.nan]}, [expected], None).largest == np.inf
    with pytest.raises(RunFailed, match=r"shape \(2,\)"):
        difference({2: [two[:, 0]]}, [expected], None)


def test_tables_in_shards_become_whole_and_give_the_same_scores() -> None:
    model, rows = export_models.sharded_recommender()
    with file_of(model) as path:
        whole = with_whole_tables(loaded(path, in_float32=True))
    assert sorted(tuple(each.shape) for each in whole.weights) == [(20, 8), (30, 8)]
    inputs = [rows["user"], rows["item"]]
    np.testing.assert_array_equal(whole(inputs), model(inputs))
    plain, _ = export_models.recommender()
    assert with_whole_tables(plain) is plain


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_model_is_loaded_in_float32_with_its_weights(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model, _ = export_models.encoder()
    finally:
        keras.config.set_dtype_policy("float32")
    with file_of(model) as path:
        assert mixed_policy(path) == policy
        plain = loaded(path, in_float32=True)
        kept = loaded(path, in_float32=False)
    assert {layer.compute_dtype for layer in plain.layers if layer.weights} == {"float32"}
    assert kept.layers[1].compute_dtype == policy.removeprefix("mixed_")
    for ours, theirs in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "tflite"}, "`format` must be one of keras, savedmodel, litert"),
        ({"lookups": "none"}, "`lookups` must be one of inside, outside"),
        ({"timeout_seconds": 0}, "`timeout_seconds` must be positive"),
        ({"labels": ["a", " b"]}, "`labels` must be names of one line"),
        ({"path": "nowhere/model"}, "`path` must be in a folder that exists"),
        ({"format": "keras", "path": "model.h5"}, "`path` must end with .keras"),
        ({"path": "."}, "`path` must be new, or an earlier SavedModel"),
        ({"model": "model.h5"}, "`model` must be a Keras model or a .keras file"),
    ],
)
def test_wrong_arguments_are_refused(
    changed: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"model": "model.keras", "format": "savedmodel", "path": "served", **changed}
    with pytest.raises(ValueError, match=message):
        export(**arguments)


def test_models_without_inputs_or_with_a_fixed_batch_are_refused(tmp_path: Path) -> None:
    fixed = keras.Sequential([keras.Input((4,), batch_size=2, name="x"), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"batches of any size. Received: input 'x'"):
        export(fixed, "savedmodel", tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_a_quantization_aware_model_is_not_quantized_by_other_ranges(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2)])
    aware = quantization_aware(model, calibration=np.ones((8, 4), "float32"))
    with pytest.raises(ValueError, match=r"tfscale\.shrink\.integer_litert\(model\)"):
        export(aware, "savedmodel", tmp_path / "served", quantize="int8")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--format=tflite"],
            "must be of keras, savedmodel, litert, onnx, openvino. Received: 'tf",
        ),
        (["--format=savedmodel,litert", "--quantize=none,float8"], "with format='litert'"),
        (["--format=savedmodel, keras"], "must be a .keras file or a folder with model.keras"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["export", "nowhere", *flags])
    except SystemExit as error:
        status = int(str(error.code))
    written = capsys.readouterr()
    assert (status, written.out) == (2, "")
    assert message in written.err
    assert written.err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.keras"
    model.touch()
    assert main(["export", str(model), "--format=keras", f"--output={model}/files"]) == 2
    assert "`--output` must be a folder that can be made" in capsys.readouterr().err


PROGRAM = """
import sys
import keras, numpy as np
import strategies, tfscale
tfscale.set_precision("mixed_bfloat16")
strategy = strategies.mirrored_strategy(num_replicas=2)
x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
with strategy.scope():
    model = keras.Sequential([
        keras.Input((8,), name="x"), keras.layers.Dense(16, "relu"),
        keras.layers.Dense(3, "softmax", dtype="float32", name="kind"),
    ])
    model.compile("sgd", "sparse_categorical_crossentropy")
    y = x[:, :3].argmax(1)
    model.fit(x, y, batch_size=32, verbose=0)
    try:
        tfscale.shrink.export(model, "savedmodel", sys.argv[1] + "/refused")
    except ValueError as error:
        assert "outside of a strategy's scope" in str(error), error
    model.save(sys.argv[1] + "/model.keras")
np.savez(sys.argv[1] + "/rows.npz", x=x, y=y, weights=model.get_weights()[0])
for name in sys.argv[2:]:
    suffix = {"savedmodel": "", "litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}[name]
    found = tfscale.shrink.export(
        model, name, f"{sys.argv[1]}/{name}{suffix}", data={"x": x, "y": y}, labels=["a", "b", "c"]
    )
    print(name, found.is_equal(1e-6), found.policy, 1e-5 < found.policy_difference < 0.05,
          found.inputs, found.outputs)
"""


def test_a_mirrored_model_in_mixed_precision_is_exported_in_float32(tmp_path: Path) -> None:
    done = completed(*forked("-c", PROGRAM, str(tmp_path), "savedmodel"), timeout=180)
    assert done.stdout == "savedmodel True mixed_bfloat16 True ('x',) ('kind',)\n", done.stderr
    labels = tmp_path / "savedmodel" / "assets.extra" / "labels.txt"
    assert labels.read_text("utf-8").split() == ["a", "b", "c"]


@pytest.mark.thorough
def test_the_command_writes_files_a_table_and_a_page(tmp_path: Path) -> None:
    model, rows = export_models.cnn()
    model.save(tmp_path / "model.keras")
    classes = model.predict(rows["image"], verbose=0).argmax(axis=1)
    np.savez(tmp_path / "rows.npz", image=rows["image"], y=classes)
    command = ["-m", "tfscale", "export", str(tmp_path), "--format=keras,savedmodel"]
    command += [f"--data={tmp_path / 'rows.npz'}", "--quantize=none,int8"]
    done = completed(*command, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Accuracy of Keras in float: 100.0%." in done.stdout
    assert done.stdout.count("tensorflow 2") == 2
    folder = tmp_path / "export"
    names = {"model.keras", "model.int8.keras", "model_savedmodel", "model.int8_savedmodel"}
    assert {each.name for each in folder.iterdir()} == {*names, "export.html"}
    page = (folder / "export.html").read_text("utf-8")
    assert "Largest difference from Keras" in page
    assert "model.int8.keras" in page

    strict = completed(*command, "--tolerance=0", "--json", timeout=300)
    found = json.loads(strict.stdout)
    assert [each["quantize"] for each in found] == [None, "int8", None, "int8"]
    assert all(each["accuracy_of_keras"] == 1.0 for each in found)
    is_equal = all(each["largest_difference"] == 0 for each in found if not each["quantize"])
    assert strict.returncode == (0 if is_equal else 1)
