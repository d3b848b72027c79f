"""Tells a user's folder that hides one of our packages from the package itself.

`strategies` and `recipes` are plain words: a project may well hold a folder of that name, and the
directory a program starts in comes first on `sys.path`. What follows is an AttributeError far from
its cause, so `tfscale/__init__.py` asks first, before it imports anything of ours:

    require_own_package("strategies")

Nothing is imported to find out, so that the user's code does not run, and so that the question can
be asked about `recipes`, which stands above this package.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def require_own_package(name: str) -> None:
    """Checks that `import name` gives the package that was installed with tfscale.

    A checkout, an editable install and a wheel all put our packages side by side, so the right one
    lies next to this one. A folder that holds no `__init__.py` hides nothing: Python prefers a
    real package further down `sys.path`.

    Args:
        name: A top-level package of this distribution, such as `"strategies"`.

    Raises:
        ImportError: If `import name` would give something else, or nothing.

    Example:
        >>> require_own_package("strategies")
    """
    own = Path(__file__).resolve().parents[2] / name
    found = _location(name)
    if found == own:
        return
    if found is None:
        raise ImportError(
            f"`{name}` must be installed together with tfscale. Received: no package of that name, "
            f"where {str(own)!r} was expected. Install tfscale again.",
            name=name,
        )
    raise ImportError(
        f"`{name}` must be the package installed with tfscale. Received: {name}={str(found)!r}, "
        f"which hides {str(own)!r}. Rename it, run from another directory, or start Python with "
        "`-P`, which keeps the starting directory off sys.path.",
        name=name,
        path=str(found),
    )


def _location(name: str) -> Path | None:
    """Returns the folder of a package, or the file of a plain module, without importing it."""
    if name in sys.modules:
        # Not find_spec: it raises for a module whose `__spec__` a test or a loader has removed.
        module = sys.modules[name]
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        folders, file = spec.submodule_search_locations, spec.origin
    if folders:
        return Path(next(iter(folders))).resolve()
    return Path(file).resolve() if file else None
