"""`tfscale doctor`: examines versions, devices, the cluster and the fixes, and lists problems."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from strategies import require_importable_wheels
from tfscale.cli.arguments import add_json_flag
from tfscale.files.secret_masking import masked_text

SUMMARY = "check versions, devices and the cluster, and list the defects that are fixed"

_DISTRIBUTIONS = ("tfscale", "numpy", "absl-py", "tensorflow-datasets")
_KERAS = ("keras", "keras-nightly")
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tensorflow-macos")
_DESCRIPTION = """\
Reports versions, devices, the cluster that the environment describes, and every defect of Keras
under tf.distribute that tfscale fixes. A fix is "ready" if the installed Keras is one that it was
written for. Otherwise it is "refused", with the features that need it, so that no model is trained
incorrectly; the other features work. This command trains nothing and changes nothing.

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
        >>> list(examine())[:5]
        ['versions', 'devices', 'cluster', 'tested', 'features']
    """
    problems: list[str] = []
    versions, devices, cluster = _versions(problems), _devices(problems), _cluster(problems)
    has_keras = _has_keras(problems)
    features = _features(problems) if has_keras else []
    return {
        "versions": versions,
        "devices": devices,
        "cluster": cluster,
        "tested": _tested(versions),
        "features": features,
        "fixes": _fixes(features) if has_keras else [],
        "private_symbols": _private_symbols() if has_keras else [],
        "problems": [masked_text(problem) for problem in problems],
    }


def _versions(problems: list[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in (*_DISTRIBUTIONS, *_KERAS, *_TENSORFLOWS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for alternatives in (_TENSORFLOWS, _KERAS):
        found = [name for name in alternatives if name in versions]
        if len(found) > 1:
            problems.append(
                f"{' and '.join(found)} install into the same folder and overwrite each other. "
                "Uninstall both, then install one."
            )
    return versions


def _tested(versions: dict[str, str]) -> dict[str, Any]:
    """Returns the releases of Keras that tfscale was tested with, and whether this is one.

    Of a tfscale that runs from its source without being installed this is not known.
    """
    installed = next((versions[name] for name in _KERAS if name in versions), None)
    texts = metadata.requires("tfscale") or () if "tfscale" in versions else ()
    specifiers = [each.specifier for each in map(Requirement, texts) if each.name == "keras"]
    if installed is None or not specifiers:
        return {}
    return {
        "keras": ", ".join(sorted(map(str, specifiers[0]), reverse=True)),
        "is_tested": specifiers[0].contains(installed, prereleases=True),
    }


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


def _has_keras(problems: list[str]) -> bool:
    """Tells whether the installed Keras can train under tf.distribute."""
    if any(problem.startswith("TensorFlow ") for problem in problems):
        return False
    try:
        import keras
    except ImportError as error:
        problems.append(f"Keras cannot be imported: {error}. {_backend_cure()}")
        return False
    if keras.config.backend() != "tensorflow":
        problems.append(f"Keras uses the backend {keras.config.backend()}. {_backend_cure()}")
        return False
    try:
        from strategies.extension import changes_by_need  # noqa: F401  (imports the patches)
    except Exception as error:  # a base class that became a function, and so on
        problems.append(f"This Keras lacks a module or class that tfscale uses: {error}. {_CURE}")
        return False
    return True


def _features(problems: list[str]) -> list[dict[str, Any]]:
    """Returns what needs which symbols, and whether it works with the installed releases."""
    import keras
    import tensorflow as tf

    from strategies.extension import Need, changes_by_need
    from tfscale.preflight.private_symbols import PREFLIGHT_SYMBOLS

    changes = {need: list(targets) for need, targets in changes_by_need().items()}
    for symbol in PREFLIGHT_SYMBOLS:
        if not symbol.is_recognised():
            changes.setdefault(symbol.need, []).append(symbol.target)
    for need, targets in changes.items():
        works = "may fail or be incomplete" if need is Need.REPORTS else "refused"
        problems.append(
            f"{need.value}: {works} with Keras {keras.__version__} and TensorFlow "
            f"{tf.__version__}, in which {', '.join(targets)} changed. {_CURE}"
        )
    return [
        {
            "feature": need.value,
            "state": "refused" if need in changes and need is not Need.REPORTS else "works",
            "changed": changes.get(need, []),
        }
        for need in Need
    ]


def _fixes(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from strategies.extension import FIXES

    changed = {target for feature in features for target in feature["changed"]}
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


def _private_symbols() -> list[dict[str, Any]]:
    from strategies.extension import KERAS_SYMBOLS, TENSORFLOW_SYMBOLS
    from tfscale.preflight.private_symbols import PREFLIGHT_SYMBOLS

    return [
        {
            "symbol": symbol.target,
            "state": symbol.recognition().value,
            "needed_by": symbol.need.value,
            "used_in": list(symbol.used_in),
            "purpose": symbol.purpose,
        }
        for symbol in (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS, *PREFLIGHT_SYMBOLS)
    ]


_CURE = "Install releases that tfscale supports: pip install --upgrade tfscale."


def _backend_cure() -> str:
    setting = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={setting}" if setting else "~/.keras/keras.json"
    return f"Training under a strategy needs the backend tensorflow; {where} sets another one."
