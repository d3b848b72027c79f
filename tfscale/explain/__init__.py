"""Why a model says what it says: which inputs its outputs come from.

    found = tfscale.explain.integrated_gradients(model, images, target=3)
    found.attributions         # as large as the images; they add up to f(image) - f(baseline)
    found.to_html("why.html")

Importing this package imports none of its modules: `tfscale --help` lists a command only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.explain.attributions import Attributions
    from tfscale.explain.integrated import integrated_gradients
    from tfscale.explain.occluded import occlusion
    from tfscale.explain.permuted import Importances, permutation_importance

_LAZY = {
    "Attributions": "tfscale.explain.attributions",
    "Importances": "tfscale.explain.permuted",
    "integrated_gradients": "tfscale.explain.integrated",
    "occlusion": "tfscale.explain.occluded",
    "permutation_importance": "tfscale.explain.permuted",
}

__all__ = [
    "Attributions",
    "Importances",
    "integrated_gradients",
    "occlusion",
    "permutation_importance",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
