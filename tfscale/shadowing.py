"""Detects a folder in the user's project that shadows one of the installed packages.

`strategies` and `recipes` are common words. A project may have a folder with such a name, and the
directory of the started script comes first on `sys.path`. The result would be an AttributeError far
from its cause, so `tfscale/__init__.py` checks first, before it imports the packages:

    require_own_package("strategies")

The check imports nothing. So the user's code does not run, and `recipes`, a layer above this
package, can be checked too.
"""

from __future__ import annotations

import importlib.util
import os  # and not pathlib: each command imports this module first, and Ctrl-C may come at once
import sys


def require_own_package(name: str) -> None:
    """Checks that `import name` imports the package that was installed with tfscale.

    A checkout, an editable install and a wheel all put the packages side by side, so the right one
    is next to this one. A folder without `__init__.py` shadows nothing: Python prefers a real
    package further down `sys.path`.

    Args:
        name: A top-level package of this distribution, such as `"strategies"`.

    Raises:
        ImportError: If `import name` would import something else, or fail.

    Example:
        >>> require_own_package("strategies")
    """
    own = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), name)
    found = _location(name)
    if found == own:
        return
    if found is None:
        raise ImportError(
            f"`{name}` must be installed together with tfscale. Received: no package of that name; "
            f"expected {own!r}. Reinstall tfscale.",
            name=name,
        )
    raise ImportError(
        f"`{name}` must be the package installed with tfscale. Received: {name}={found!r}, "
        f"which shadows {own!r}. Rename it, run from another directory, or start Python with "
        "`-P`, which keeps the script's directory off sys.path.",
        name=name,
        path=found,
    )


def _location(name: str) -> str | None:
    """Returns the folder of a package or the file of a module, without importing it."""
    if name in sys.modules:
        # Not find_spec: it raises for a module whose `__spec__` was removed by a test or a loader.
        module = sys.modules[name]
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        folders, file = spec.submodule_search_locations, spec.origin
    if folders:
        return str(os.path.realpath(next(iter(folders))))
    return os.path.realpath(file) if file else None
