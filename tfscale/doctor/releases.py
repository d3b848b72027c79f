"""Releases of Python, TensorFlow and Keras, the devices, and the state of the fixes."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from strategies import require_importable_wheels
from tfscale.doctor.finding import Finding, problem
from tfscale.doctor.wheels import KERAS, TENSORFLOWS

_DISTRIBUTIONS = ("tfscale", "numpy", "absl-py", "tensorflow-datasets")
_CURE = "Install releases that tfscale supports: pip install --upgrade tfscale."


def examine_releases() -> tuple[dict[str, Any], list[Finding]]:
    """Imports TensorFlow and Keras, and compares them with what tfscale was written for.

    Returns:
        JSON values with the keys devices, features, fixes and private_symbols; and the findings.
    """
    findings: list[Finding] = []
    devices = _devices(findings)
    has_keras = not findings and _has_keras(findings)
    features = _features(findings) if has_keras else []
    return {
        "devices": devices,
        "features": features,
        "fixes": _fixes(features) if has_keras else [],
        "private_symbols": _private_symbols() if has_keras else [],
    }, findings


def installed_releases() -> dict[str, str]:
    """Returns the versions of Python and of what tfscale stands on, by distribution.

    Example:
        >>> installed_releases()["python"] == platform.python_version()
        True
    """
    versions = {"python": platform.python_version()}
    for name in (*_DISTRIBUTIONS, *KERAS, *TENSORFLOWS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def tested_releases(versions: dict[str, str]) -> dict[str, Any]:
    """Returns the releases of Keras that tfscale was tested with, and whether this is one.

    Of a tfscale that runs from its source without being installed this is not known.
    """
    installed = next((versions[name] for name in KERAS if name in versions), None)
    texts = metadata.requires("tfscale") or () if "tfscale" in versions else ()
    specifiers = [each.specifier for each in map(Requirement, texts) if each.name == "keras"]
    if installed is None or not specifiers:
        return {}
    return {
        "keras": ", ".join(sorted(map(str, specifiers[0]), reverse=True)),
        "is_tested": specifiers[0].contains(installed, prereleases=True),
    }


def _devices(findings: list[Finding]) -> dict[str, int]:
    try:
        require_importable_wheels()
        import tensorflow as tf
    except ImportError as error:
        if error.name == "tensorflow" and "libtpu" not in str(error):
            cure = 'Install it: pip install "tfscale[cpu]", or [gpu], or [tpu].'
            findings.append(_problem("TensorFlow is not installed.", cure))
        else:
            cure = "" if "libtpu" in str(error) else "Reinstall it."
            findings.append(_problem(f"TensorFlow cannot be imported: {_sentence(error)}", cure))
        return {}
    except ValueError as error:
        # TensorFlow imports Keras, which raises this for an unknown backend.
        found = f"TensorFlow cannot be imported: {_sentence(error)}"
        findings.append(_problem(found, _backend_cure()))
        return {}
    kinds = [device.device_type for device in tf.config.list_physical_devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _has_keras(findings: list[Finding]) -> bool:
    """Tells whether the installed Keras can train under tf.distribute."""
    try:
        import keras
    except ImportError as error:
        found = f"Keras cannot be imported: {_sentence(error)}"
        findings.append(_problem(found, _backend_cure()))
        return False
    if keras.config.backend() != "tensorflow":
        found = f"Keras uses the backend {keras.config.backend()}."
        findings.append(_problem(found, _backend_cure()))
        return False
    try:
        from strategies.extension import changes_by_need  # noqa: F401  (imports the patches)
    except Exception as error:  # a base class that became a function, and so on
        found = f"This Keras lacks a module or class that tfscale uses: {_sentence(error)}"
        findings.append(_problem(found, _CURE))
        return False
    return True


def _features(findings: list[Finding]) -> list[dict[str, Any]]:
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
        findings.append(
            _problem(
                f"{need.value}: {works} with Keras {keras.__version__} and TensorFlow "
                f"{tf.__version__}, in which {', '.join(targets)} changed.",
                _CURE,
            )
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


def _problem(found: str, cure: str) -> Finding:
    return problem("releases", found, cure)


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."


def _backend_cure() -> str:
    setting = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={setting}" if setting else "~/.keras/keras.json"
    return f"Training under a strategy needs the backend tensorflow; {where} sets another one."
