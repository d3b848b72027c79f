"""A trained model and rows for it, as the commands `export` and `explain` take them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfscale.cli.arguments import function_name
from tfscale.cli.modules import search_current_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

MODEL_FILE = "model.keras"
"""The model in the folder of a run."""
LABEL = "y"
"""The name of the true values in an `.npz` file."""


def add_trained_model_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `model`, a file or the folder of a run."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help=f"a .keras file, or the folder of a run with {MODEL_FILE} in it",
    )


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--import`, whose value `import_modules` takes as `arguments.modules`."""
    parser.add_argument(
        "--import",
        dest="modules",
        type=_module_names,
        default=[],
        metavar="MODULES",
        help="modules that register layers of the model, with commas between them",
    )


def model_file(path: Path) -> Path:
    """Returns the `.keras` file that is named by itself or by the folder of its run.

    Raises:
        ValueError: If there is no such file.
    """
    found = path / MODEL_FILE if path.is_dir() else path
    if not found.is_file():
        raise ValueError(
            f"`MODEL` must be a .keras file or a folder with {MODEL_FILE}. Received: {path}. Name "
            "the file, or the --model_dir of the run."
        )
    return found


def label_names(path: Path | None) -> list[str]:
    """Reads the names of the classes, one a line; none of None.

    Raises:
        ValueError: If the file cannot be read.
    """
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`--labels` must be a text file, one name a line. Received: {path} ({error}). Write "
            "the names to it."
        ) from error


def given_rows(argument: str, source: str) -> Any:
    """Returns rows from an `.npz` or `.npy` file, or from MODULE:FUNCTION.

    Args:
        argument: The name of the argument, for the message.
        source: What was given.

    Raises:
        ValueError: If it is none of these, or cannot be read.
    """
    # Imported here, because it imports TensorFlow and the help does not need it.
    from tfscale.verify.user_model import UserModel, WrongUsage

    if source.endswith((".npz", ".npy")):
        return _read_rows(Path(source))
    try:
        return UserModel(function_name(source)).call()
    except (argparse.ArgumentTypeError, WrongUsage) as error:
        raise ValueError(f"`{argument}` is neither an .npz nor an .npy file: {error}") from error


def import_modules(names: Sequence[str]) -> None:
    """Imports the modules of `--import`, which register layers of the model.

    Raises:
        ValueError: If one cannot be imported.
    """
    if names:
        search_current_folder()
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"`--import` must be modules that can be imported from here. Received: {name!r} "
                f"({error}). Change to its folder, or install it."
            ) from error


def _module_names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _read_rows(path: Path) -> Mapping[str, np.ndarray] | np.ndarray:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"`data` must be an .npz or .npy file of numbers or texts. Received: {str(path)!r} "
            f"({error}). Write it with numpy.savez('rows.npz', name_of_input=array, y=classes)."
        ) from error
    if isinstance(found, np.ndarray):
        return found
    with found:
        return dict(found)
