"""`tfscale export`: a trained model as files of other runtimes, each run there and compared."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from tfscale.cli import NOT_NEGATIVE
from tfscale.cli.arguments import add_json_flag, number_type, seconds
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.shrink.exporting.formats import (
    FORMATS,
    check_quantization,
    format_named,
    require_packages,
)
from tfscale.trained_model import (
    add_import_flag,
    add_trained_model_argument,
    given_rows,
    import_modules,
    label_names,
    model_file,
)

SUMMARY = "write a trained model as files of other runtimes, and compare their outputs"

_NONE = "none"
_DESCRIPTION = """\
Writes a Keras model as files for other runtimes. Each file is run in its own runtime, in a process
of its own, on rows of your data, and its outputs are compared with those of Keras: in a batch of
all rows, of three and of one. Prints size, difference, accuracy and the time of a row for each
file, and writes export.html, a page with pictures.

Files compute in float32 unless they are quantized; --quantize=none,int8 writes both. They take
batches of any size by the names of the model's inputs. Pairs that do not work are refused with the
cure.
"""
_EPILOG = """\
examples:
  tfscale export runs/digits --format=litert,onnx      needs pip install "tfscale[export]"
  tfscale export model.keras --format=litert --quantize=none,int8 --data=rows.npz
  tfscale export model.keras --format=savedmodel --labels=labels.txt --output=served
  tfscale export model.keras --format=litert --lookups=outside --data=mine:rows --json

exit status: 0 written and equal to Keras in float, 1 a file does not run or differs, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale export`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_trained_model_argument(parser)
    parser.add_argument(
        "--format",
        type=_formats,
        required=True,
        metavar="FORMATS",
        help=f"one or more of {', '.join(FORMATS)}, with commas between them",
    )
    parser.add_argument(
        "--quantize",
        type=_quantizations,
        default=[None],
        metavar="WAYS",
        help="none, or how to quantize: keras and savedmodel int8, int4, float8; litert float16, "
        "dynamic, int4, int8; onnx dynamic, int8; openvino float16 (default: none)",
    )
    parser.add_argument(
        "--data",
        metavar="ROWS",
        help="rows to run on and to calibrate with: an .npz file with an array for each input, and "
        "the true classes in y; an .npy file of one input; or MODULE:FUNCTION, which returns x or "
        "(x, y). The first 512 are used (default: random rows, for inputs of numbers)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the files (default: MODEL's + /export)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes, one a line; kept in files",
    )
    parser.add_argument(
        "--lookups",
        choices=("inside", "outside"),
        default="inside",
        help="outside: files take the indices that StringLookup and IntegerLookup give, and the "
        "vocabularies are written beside them (default: inside)",
    )
    add_import_flag(parser)
    parser.add_argument(
        "--tolerance",
        type=number_type(NOT_NEGATIVE),
        default=1e-4,
        metavar="X",
        help="difference of a float file from Keras that counts as equal, as a part of the largest "
        "output (default: 1e-4)",
    )
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=300.0,
        metavar="S",
        help="seconds allowed for running each file (default: 300)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes, runs and compares the files. Returns the exit status."""
    from strategies import require_importable_wheels

    chosen = [format_named(name) for name in arguments.format]
    pairs = [(each, way) for each in chosen for way in arguments.quantize]
    try:
        for each, way in pairs:  # before TensorFlow is imported
            check_quantization(each, way, has_rows=arguments.data is not None)
        require_packages(chosen)
        require_importable_wheels()
        source = model_file(arguments.model)
        labels = label_names(arguments.labels)
    except (ImportError, ValueError) as error:
        _complain(error)
        return 2
    # Before TensorFlow is imported, whose start-up lines would hide those of the command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Imported here, because these import TensorFlow and the help does not need it.
    import tensorflow as tf

    from tfscale.files.output_files import write_whole
    from tfscale.shrink.exporting.conversion import export
    from tfscale.shrink.exporting.running import RunFailed
    from tfscale.shrink.exporting.table import as_json, as_text, failed, page

    tf.get_logger().setLevel("ERROR")
    folder: Path = arguments.output or source.parent / "export"
    files, broken = [], 0
    try:
        import_modules(arguments.modules)
        data = None if arguments.data is None else given_rows("--data", arguments.data)
        _make(folder)
        # Converters print what they do.
        with progress("tfscale export") as say, contextlib.redirect_stdout(sys.stderr):
            for each, way in pairs:
                name = f"{source.stem}{'' if way is None else f'.{way}'}{each.suffix}"
                say(f"{each.name}{'' if way is None else f' in {way}'}: {folder / name}")
                try:
                    files.append(
                        export(
                            source,
                            each.name,
                            folder / name,
                            quantize=way,
                            data=data,
                            labels=labels,
                            lookups=arguments.lookups,
                            modules=arguments.modules,
                            timeout_seconds=arguments.timeout_seconds,
                        )
                    )
                except RunFailed as error:  # the other files are written all the same
                    _complain(error)
                    broken += 1
        if not files:
            return 1
        write_whole(folder / "export.html", page(files, arguments.tolerance, source.stem))
    except (ImportError, ValueError, OSError) as error:
        _complain(error)
        return 2
    wrong = failed(files, arguments.tolerance)
    if arguments.json:
        print(json.dumps(as_json(files, arguments.tolerance)), flush=True)
    else:
        print(as_text(files, arguments.tolerance), flush=True)
        print(f"page: {folder / 'export.html'}", flush=True)
    return 1 if wrong or broken else 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`--output` must be a folder that can be made. Received: {folder} ({error}). Name one "
            "where you may write."
        ) from error


def _formats(text: str) -> list[str]:
    names = _once(text.split(","))
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"must be of {', '.join(FORMATS)}. Received: {name!r}. Example: litert,onnx"
            )
    return names


def _quantizations(text: str) -> list[str | None]:
    return [None if way == _NONE else way for way in _once(text.split(","))]


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names))


def _complain(error: Exception) -> None:
    complain("tfscale export", error)
