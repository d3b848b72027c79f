"""`tfscale doctor`: examines versions, devices, the cluster and the fixes, and lists problems."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import metadata
from typing import Any

from strategies import require_importable_wheels
from tfscale.cli.arguments import add_json_flag
from tfscale.files.secret_masking import masked_text

SUMMARY = "check versions, devices and the cluster, and list the defects that are fixed"

_DISTRIBUTIONS = ("tfscale", "keras", "numpy", "absl-py", "tensorflow-datasets")
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tensorflow-macos")
_DESCRIPTION = """\
Reports versions, devices, the cluster that the environment describes, and every defect of Keras
under tf.distribute that tfscale fixes. A fix is "ready" if the installed Keras is one that it was
written for. Otherwise it is "refused": tfscale then builds no strategy, so that no model is trained
incorrectly. This command trains nothing and changes nothing.

Rows are named S (silently wrong), H (hangs) and C (crashes). --json adds to each row the replaced
Keras symbols, the command that tests the fix, public reports, and when the fix can be removed. It
also lists the private symbols of Keras and TensorFlow in use: where, and what for.
"""
_EPILOG = """\
examples:
  tfscale doctor                 print a report to read, or to paste into an issue
  tfscale doctor --json          print the same for a program, with more about each fix

exit status: 0 no problems, 1 at least one problem is listed, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale doctor`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report. Returns 1 if it lists a problem, else 0."""
    from tfscale.doctor.report import as_text

    # Keeps TensorFlow's start-up messages out of the report.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    report = examine()
    print(json.dumps(report, indent=2) if arguments.json else as_text(report))
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """Returns the report as JSON values.

    Example:
        >>> sorted(examine())
        ['cluster', 'devices', 'fixes', 'private_symbols', 'problems', 'versions']
    """
    problems: list[str] = []
    versions, devices, cluster = _versions(problems), _devices(problems), _cluster(problems)
    fixes = _fixes(problems)
    return {
        "versions": versions,
        "devices": devices,
        "cluster": cluster,
        "fixes": fixes,
        "private_symbols": _private_symbols(problems) if fixes else [],
        "problems": [masked_text(problem) for problem in problems],
    }


def _versions(problems: list[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in (*_DISTRIBUTIONS, *_TENSORFLOWS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found = [name for name in _TENSORFLOWS if name in versions]
    if len(found) > 1:
        problems.append(
            f"{' and '.join(found)} install into the same folder and overwrite each other. "
            "Uninstall both, then install one."
        )
    return versions


def _devices(problems: list[str]) -> dict[str, int]:
    try:
        require_importable_wheels()
        import tensorflow as tf
    except ImportError as error:
        if "libtpu" in str(error):
            problems.append(f"TensorFlow cannot be imported: {error}")
        elif error.name == "tensorflow":
            cure = 'pip install "tfscale[cpu]", or [gpu], or [tpu]'
            problems.append(f"TensorFlow is not installed. Install it: {cure}.")
        else:
            problems.append(f"TensorFlow cannot be imported: {error}. Reinstall it.")
        return {}
    except ValueError as error:
        # TensorFlow imports Keras, which raises this for an unknown backend.
        problems.append(f"TensorFlow cannot be imported: {error}. {_backend_cure()}")
        return {}
    kinds = [device.device_type for device in tf.config.list_physical_devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _cluster(problems: list[str]) -> dict[str, Any] | None:
    from strategies.extension import cluster_from_environment

    try:
        cluster = cluster_from_environment()
    except (ValueError, RuntimeError) as error:
        problems.append(str(error))
        return None
    if cluster is None:
        return None
    return {
        "source": cluster.source,
        "jobs": {job: list(addresses) for job, addresses in cluster.jobs.items()},
        "task": f"{cluster.task_type} {cluster.task_index}",
    }


def _fixes(problems: list[str]) -> list[dict[str, Any]]:
    if any(problem.startswith("TensorFlow ") for problem in problems):
        return []
    try:
        import keras
    except ImportError as error:
        problems.append(f"Keras cannot be imported: {error}. {_backend_cure()}")
        return []
    if keras.config.backend() != "tensorflow":
        problems.append(f"Keras uses the backend {keras.config.backend()}. {_backend_cure()}")
        return []
    try:
        from strategies.extension import FIXES, PATCHES
    except (ImportError, AttributeError) as error:
        problems.append(f"This Keras lacks symbols that the fixes replace: {error}. {_KERAS_CURE}")
        return []
    changed = {patch.target for patch in PATCHES if not _is_recognised(patch)}
    if changed:
        problems.append(f"Keras changed {', '.join(sorted(changed))}. {_KERAS_CURE}")
    return [
        {
            "row": fix.row,
            "state": "refused" if changed & {patch.target for patch in fix.patches} else "ready",
            "defect": fix.defect,
            "patches": [patch.target for patch in fix.patches],
            "test": fix.test,
            "threads": list(fix.threads),
            "remove_when": fix.remove_when,
        }
        for fix in FIXES
    ]


def _private_symbols(problems: list[str]) -> list[dict[str, Any]]:
    from strategies.extension import KERAS_SYMBOLS, TENSORFLOW_SYMBOLS, Need
    from tfscale.preflight.private_symbols import PREFLIGHT_SYMBOLS

    symbols = (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS, *PREFLIGHT_SYMBOLS)
    changed = {symbol for symbol in symbols if not symbol.is_recognised()}
    for need in Need:
        targets = ", ".join(sorted(each.target for each in changed if each.need is need))
        if targets:
            refused = "" if need is Need.REPORTS else ", which are refused"
            problems.append(
                f"{targets} changed, used by {need.value}{refused}. Install releases of Keras and "
                "TensorFlow that tfscale supports: pip install --upgrade tfscale."
            )
    return [
        {
            "symbol": symbol.target,
            "state": "changed" if symbol in changed else "recognised",
            "needed_by": symbol.need.value,
            "used_in": list(symbol.used_in),
            "purpose": symbol.purpose,
        }
        for symbol in symbols
    ]


_KERAS_CURE = "Install a Keras release that tfscale supports: pip install --upgrade tfscale."


def _backend_cure() -> str:
    setting = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={setting}" if setting else "~/.keras/keras.json"
    return f"Training under a strategy needs the backend tensorflow; {where} sets another one."


def _is_recognised(patch: Any) -> bool:
    try:
        return bool(patch.is_recognised())
    except (AttributeError, ImportError, KeyError, OSError, TypeError):
        return False  # The symbol is gone, or was replaced by something without source code.
