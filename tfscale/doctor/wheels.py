"""Installed wheels that overwrite each other, are damaged, or do not go together.

Judged by their metadata alone: nothing is imported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tfscale.doctor.finding import Finding, problem

KERAS = ("keras", "keras-nightly")
TENSORFLOWS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-tpu",
    "tensorflow-macos",
    "tf-nightly",
    "tf-nightly-cpu",
)
_ONE_OF_EACH = (TENSORFLOWS, KERAS, ("nvidia-nccl-cu12", "nvidia-nccl-cu13"))
_SAME_MODULE = {"keras": KERAS}
_CUDA_EXTRA = "and-cuda"

_Found: TypeAlias = tuple[str, str, metadata.Distribution]
"""A distribution with its normalised name and its version before it."""


def examine_wheels(path: Iterable[str] | None = None) -> list[Finding]:
    """Returns what is wrong with the installed wheels of TensorFlow, Keras and CUDA.

    Args:
        path: Folders to search, the first of which wins. None means `sys.path`.
    """
    found = list(_distributions(path))
    versions = installed_versions(found)
    requirements = {
        name: list(distribution.requires or ())
        for name, _, distribution in reversed(found)  # of two with one name the first wins
        if name in TENSORFLOWS or name in KERAS
    }
    return [*_clashes(versions), *_doubled(found), *_unmet(versions, requirements)]


def installed_versions(
    found: Iterable[_Found] | None = None,
) -> dict[str, str]:
    """Returns the version of each installed distribution by its normalised name.

    Args:
        found: Distributions, the first of which wins. None means those of `sys.path`.
    """
    versions: dict[str, str] = {}
    for name, version, _ in _distributions(None) if found is None else found:
        versions.setdefault(name, version)
    return versions


def _distributions(path: Iterable[str] | None) -> Iterator[_Found]:
    every = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    for distribution in every:
        # An interrupted installation leaves a folder without a name or version in it.
        described = distribution.metadata  # read and parsed at each access
        if described and described["Name"] and described["Version"]:
            yield canonicalize_name(described["Name"]), described["Version"], distribution


def _clashes(versions: Mapping[str, str]) -> Iterator[Finding]:
    for alternatives in _ONE_OF_EACH:
        found = [name for name in alternatives if name in versions]
        if len(found) > 1:
            yield problem(
                "wheels",
                f"{' and '.join(found)} install into the same folder and overwrite each other.",
                "Uninstall both, then install one.",
            )


def _doubled(found: Iterable[_Found]) -> Iterator[Finding]:
    """Finds what an interrupted upgrade leaves: one distribution twice in one folder."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, version, distribution in found:
        if name in TENSORFLOWS or name in KERAS or name.startswith("nvidia-"):
            seen[name, str(distribution.locate_file(""))].add(version)
    for (name, folder), versions in seen.items():
        if len(versions) > 1:
            yield problem(
                "wheels",
                f"{name} is installed in {len(versions)} versions in {folder}: "
                f"{' and '.join(sorted(versions))}.",
                f"Run pip uninstall {name} until it says that none is left, then install one.",
            )


def _unmet(
    versions: Mapping[str, str], requirements: Mapping[str, Iterable[str]]
) -> Iterator[Finding]:
    """Finds what TensorFlow and Keras need and what is missing or has another version."""
    needing = [name for name in (*TENSORFLOWS, *KERAS) if name in versions]
    for needing_name in needing:
        for text in requirements.get(needing_name, ()):
            try:
                needed = Requirement(text)
            except InvalidRequirement:
                continue
            always = _applies(needed, extra="")
            if not always and not _applies(needed, extra=_CUDA_EXTRA):
                continue
            name: str = canonicalize_name(needed.name)
            name = next((each for each in _SAME_MODULE.get(name, ()) if each in versions), name)
            # Wheels of CUDA may be missing: on a host without GPUs, or with CUDA of the system.
            if name not in versions and not always:
                continue
            if _is_met(needed, versions.get(name)):
                continue
            is_or_not = f"{versions[name]} is" if name in versions else "no version is"
            yield problem(
                "wheels",
                f"{needing_name} {versions[needing_name]} needs {needed.name}"
                f"{needed.specifier}, and {is_or_not} installed.",
                f'Run pip install "{needed.name}{needed.specifier}".',
            )


def _applies(needed: Requirement, extra: str) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def _is_met(needed: Requirement, version: str | None) -> bool:
    if version is None:
        return False
    try:
        return needed.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # of a local build; nothing is known
