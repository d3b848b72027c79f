"""`tfscale explain`: which values of its input a trained model's output comes from."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfscale.cli import POSITIVE, floats
from tfscale.cli.arguments import add_json_flag, count, count_or_zero, number_type
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.trained_model import (
    LABEL,
    add_import_flag,
    add_trained_model_argument,
    given_rows,
    import_modules,
    label_names,
    model_file,
)

SUMMARY = "show which values of its input a trained model's output comes from"

_IG, _OCCLUSION, _PERMUTATION = METHODS = (
    "integrated_gradients",
    "occlusion",
    "permutation_importance",
)
_ONLY = {  # The methods that take a flag.
    "target": (_IG, _OCCLUSION),
    "baseline": (_IG,),
    "most_steps": (_IG,),
    "tolerance": (_IG,),
    "window": (_OCCLUSION,),
    "stride": (_OCCLUSION,),
    "fill": (_OCCLUSION,),
    "metric": (_PERMUTATION,),
    "repeats": (_PERMUTATION,),
    "seed": (_PERMUTATION,),
}
_FINITE = floats("a finite number", "0.5", lambda value: True)
_DESCRIPTION = """\
Explains a Keras model on rows of your data and writes a page: heat maps over images, bars of the
features of tables, tokens of texts in colour. Integrated gradients and occlusion explain rows,
permutation importance a whole table with its true values. The rows are computed on all replicas.
"""
_EPILOG = """\
examples:
  tfscale explain runs/digits rows.npz                 the largest output of each row
  tfscale explain model.keras rows.npz --target=3 --output=why.html --labels=labels.txt
  tfscale explain model.keras mine:rows --method=occlusion --window=4 --stride=2
  tfscale explain model.keras table.npz --method=permutation_importance --metric=accuracy

exit status: 0 explained, 1 attributions of a row do not add up within --tolerance, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale explain`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_trained_model_argument(parser)
    parser.add_argument(
        "data",
        metavar="DATA",
        help="rows to explain: an .npz file with an array for each input, and the true values in "
        "y; an .npy file of one input; or MODULE:FUNCTION, which returns x or (x, y)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=_IG,
        metavar="METHOD",
        help=f"{', '.join(METHODS)} (default: {_IG})",
    )
    parser.add_argument(
        "--rows",
        type=count,
        metavar="N",
        help="rows to use, from the first on (default: 16; with permutation_importance all)",
    )
    parser.add_argument(
        "--target",
        type=_target,
        metavar="INDEX",
        help="index of the number of the output to explain, such as a class; with commas for an "
        "output of several axes (default: the largest of each row)",
    )
    parser.add_argument(
        "--model_output", metavar="NAME", help="which output, for a model of several"
    )
    parser.add_argument(
        "--baseline",
        type=number_type(_FINITE),
        metavar="X",
        help="integrated_gradients: the value, or token, where nothing is to be seen (default: 0)",
    )
    parser.add_argument(
        "--most_steps",
        type=count,
        metavar="N",
        help="integrated_gradients: most gradients for a row (default: 3000)",
    )
    parser.add_argument(
        "--tolerance",
        type=number_type(POSITIVE),
        metavar="X",
        help="integrated_gradients: largest gap between the sum of the attributions and the "
        "difference of the outputs, as a part of the largest output (default: 1e-3)",
    )
    parser.add_argument(
        "--window",
        type=_sizes,
        metavar="SIZES",
        help="occlusion: size of a window; with commas for each axis (default: 1)",
    )
    parser.add_argument(
        "--stride",
        type=_sizes,
        metavar="SIZES",
        help="occlusion: distance of windows (default: their size)",
    )
    parser.add_argument(
        "--fill",
        type=number_type(_FINITE),
        metavar="X",
        help="occlusion: the value, or token, that covers (default: 0)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="permutation_importance: accuracy, mean_squared_error, mean_absolute_error or "
        "crossentropy; required",
    )
    parser.add_argument(
        "--repeats",
        type=count,
        metavar="N",
        help="permutation_importance: shuffles of each column (default: 5)",
    )
    parser.add_argument(
        "--seed",
        type=count_or_zero,
        metavar="N",
        help="permutation_importance: seed of the shuffles (default: 0)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        default=256,
        metavar="N",
        help="rows to compute at a time, on all replicas together (default: 256)",
    )
    parser.add_argument(
        "--replicas",
        type=count,
        metavar="N",
        help="replicas on this host (default: the cluster if there is one, else every GPU, else "
        "one on the CPU)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: explain.html beside the model)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the outputs, such as classes, one a line",
    )
    parser.add_argument(
        "--features", type=_names, default=[], metavar="NAMES", help="names of the columns"
    )
    add_import_flag(parser)
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explains the rows and writes the page. Returns the exit status."""
    from strategies import require_importable_wheels

    try:
        options = _options(arguments)
        source, labels = model_file(arguments.model), label_names(arguments.labels)
        require_importable_wheels()
    except (ImportError, ValueError) as error:
        complain("tfscale explain", error)
        return 2
    # Before TensorFlow is imported, whose start-up lines would hide those of the command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Imported here, because these import TensorFlow and the help does not need it.
    import keras

    import strategies

    path: Path = arguments.output or source.parent / "explain.html"
    try:
        import_modules(arguments.modules)
        with progress("tfscale explain") as say, contextlib.redirect_stdout(sys.stderr):
            strategy = (
                strategies.auto_strategy()
                if arguments.replicas is None
                else strategies.mirrored_strategy(arguments.replicas)
            )
            with strategy.scope():
                model = _loaded(keras, source)
            found = _explained(arguments, model, options, say)
        is_writer = strategies.is_chief(strategy)
        if is_writer:
            _write(found, path, arguments, labels, source.stem)
    except (ImportError, ValueError, OSError) as error:
        complain("tfscale explain", error)
        return 2
    incomplete = getattr(found, "incomplete", [])
    if arguments.json:
        if is_writer:
            print(json.dumps(found.as_json()), flush=True)
    elif is_writer:
        for line in _lines(found):
            print(line)
        print(f"page: {path}", flush=True)
    return 1 if incomplete else 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the flags of the method that were given.

    Raises:
        ValueError: If another method's flag is among them, or one is missing.
    """
    options = {name: getattr(arguments, name) for name in _ONLY}
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if arguments.method not in _ONLY[name]:
            raise ValueError(
                f"`--{name}` must be left out with --method={arguments.method}. Received: "
                f"--{name}={value}. It belongs to --method={' or '.join(_ONLY[name])}."
            )
    if arguments.method == _PERMUTATION and "metric" not in given:
        raise ValueError(
            f"`--metric` is required with --method={_PERMUTATION}. Received: none. Pass accuracy, "
            "mean_squared_error, mean_absolute_error or crossentropy."
        )
    return given


def _loaded(keras: Any, source: Path) -> Any:
    try:
        return keras.saving.load_model(source, compile=False)
    except (TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"`MODEL` could not be loaded: {source}: {str(error).strip().splitlines()[0]}. If "
            "layers of your own are in it, name their module with --import."
        ) from error


def _explained(
    arguments: argparse.Namespace,
    model: Any,
    options: dict[str, Any],
    say: Callable[[str], None],
) -> Any:
    from tfscale.explain.integrated import integrated_gradients
    from tfscale.explain.occluded import occlusion
    from tfscale.explain.permuted import permutation_importance

    inputs, true = _inputs(given_rows("DATA", arguments.data))
    most = arguments.rows or (None if arguments.method == _PERMUTATION else 16)
    inputs, true = _first(inputs, most), _first(true, most)
    common = {"output": arguments.model_output, "batch_size": arguments.batch_size, "say": say}
    if arguments.method == _IG:
        return integrated_gradients(model, inputs, **options, **common)
    if arguments.method == _OCCLUSION:
        return occlusion(model, inputs, **options, **common)
    if true is None:
        raise ValueError(
            f"`DATA` must have true values for --method={_PERMUTATION}. Received: inputs only. Add "
            f"an array {LABEL!r} to the .npz file, or return (x, y)."
        )
    return permutation_importance(
        model, (inputs, true), columns=arguments.features, **options, **common
    )


def _inputs(data: Any) -> tuple[Any, Any]:
    """Returns inputs and true values, None if there are none."""
    true = None
    if isinstance(data, tuple) and len(data) == 2:
        data, true = data
    if isinstance(data, Mapping):
        data = dict(data)
        true = data.pop(LABEL, true)
        if len(data) == 1:  # a model of one input takes its array
            return next(iter(data.values())), true
    return data, true


def _first(values: Any, most: int | None) -> Any:
    if isinstance(values, dict):
        return {name: each[:most] for name, each in values.items()}
    if isinstance(values, (list, tuple)) and values and hasattr(values[0], "shape"):
        return [each[:most] for each in values]
    return values if values is None else values[:most]


def _write(found: Any, path: Path, arguments: argparse.Namespace, labels: Any, name: str) -> None:
    title = f"{arguments.method.replace('_', ' ').capitalize()}: {name}"
    if arguments.method == _PERMUTATION:
        found.to_html(path, title=title)
    else:
        found.to_html(path, title=title, labels=labels, features=arguments.features)


def _lines(found: Any) -> list[str]:
    if hasattr(found, "losses"):
        order = sorted(range(len(found.columns)), key=lambda k: -found.means[k])
        width = max(map(len, found.columns))
        return [
            f"{found.metric}: {found.score:.6g} on {found.num_rows:,} rows. Worse, if shuffled, by",
            *(
                f"  {found.columns[k].ljust(width)}  {found.means[k]:.4g} "
                f"(deviation {found.deviations[k]:.2g})"
                for k in order
            ),
        ]
    lines = [f"{found.method} of {len(found.outputs)} rows"]
    if found.gaps is not None:
        largest = abs(found.gaps).max()
        lines.append(f"largest gap: {largest:.2e}")
    if found.incomplete:
        lines.append(
            f"INCOMPLETE: rows {', '.join(map(str, found.incomplete))} do not add up within "
            f"{found.tolerance:g} of the output. Pass a larger --most_steps or --tolerance."
        )
    return lines


def _target(text: str) -> int | tuple[int, ...]:
    found = tuple(map(count_or_zero, text.split(",")))
    return found[0] if len(found) == 1 else found


def _sizes(text: str) -> int | tuple[int, ...]:
    found = tuple(map(count, text.split(",")))
    return found[0] if len(found) == 1 else found


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
