"""`tfscale doctor`: versions, devices, cluster and fixes, and what is wrong with them."""

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

SUMMARY = "what this machine offers to training, and which defects are fixed"

_DISTRIBUTIONS = ("tfscale", "keras", "numpy", "absl-py", "tensorflow-datasets")
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tensorflow-macos")
_DESCRIPTION = """\
Reports versions, devices, the cluster that the environment describes, and every defect of Keras
under tf.distribute that tfscale fixes, with the state of the fix: "ready" if this Keras is one
the fix was written against, otherwise "refused": then tfscale builds no strategy, rather than
train wrong. Trains nothing and changes nothing.

Rows are named S (silently wrong), H (hangs) and C (crashes). --json adds to each the Keras symbols
it stands in for, the command that tests it, public reports, and when it may be removed.
"""
_EPILOG = """\
examples:
  tfscale doctor                 a report to read, or to paste into an issue
  tfscale doctor --json          the same for a program, with more about each fix

exit status: 0 everything is in order, 1 a problem is listed, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale doctor`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report; returns 1 if it lists a problem."""
    from tfscale.doctor.report import as_text

    # TensorFlow's start-up lines would stand between the user and the report.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    report = examine()
    print(json.dumps(report, indent=2) if arguments.json else as_text(report))
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """Returns the report as JSON values.

    Example:
        >>> sorted(examine())
        ['cluster', 'devices', 'problems', 'fixes', 'versions']
    """
    problems: list[str] = []
    return {
        "versions": _versions(problems),
        "devices": _devices(problems),
        "cluster": _cluster(problems),
        "fixes": _fixes(problems),
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
            f"{' and '.join(found)} fill the same folder, one over the other: uninstall both, then "
            "install one."
        )
    return versions


def _devices(problems: list[str]) -> dict[str, int]:
    try:
        require_importable_wheels()
        import tensorflow as tf
    except ImportError as error:
        if "libtpu" in str(error):
            problems.append(f"TensorFlow does not import: {error}")
        elif error.name == "tensorflow":
            cure = 'pip install "tfscale[cpu]", or [gpu], or [tpu]'
            problems.append(f"TensorFlow is missing. Install it: {cure}.")
        else:
            problems.append(f"TensorFlow does not import: {error}. Install it again.")
        return {}
    except ValueError as error:
        # TensorFlow imports Keras, which raises this for a backend that it does not know.
        problems.append(f"TensorFlow does not import: {error}. {_backend_cure()}")
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
        problems.append(f"Keras does not import: {error}. {_backend_cure()}")
        return []
    if keras.config.backend() != "tensorflow":
        problems.append(f"Keras computes with {keras.config.backend()}. {_backend_cure()}")
        return []
    try:
        from strategies.extension import FIXES, PATCHES
    except (ImportError, AttributeError) as error:
        problems.append(f"This Keras lacks what the fixes are made of: {error}. {_KERAS_CURE}")
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


_KERAS_CURE = "Install a Keras release that this tfscale supports: pip install --upgrade tfscale."


def _backend_cure() -> str:
    setting = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={setting}" if setting else "~/.keras/keras.json"
    return f"To train under a strategy choose the backend tensorflow; {where} says otherwise."


def _is_recognised(patch: Any) -> bool:
    try:
        return bool(patch.is_recognised())
    except (AttributeError, ImportError, KeyError, OSError, TypeError):
        return False  # The symbol is gone, or something without a source stands in its place.
