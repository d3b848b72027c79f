"""Where a symbol is in releases whose layout differs from the one that a target names."""

from __future__ import annotations

from collections.abc import Iterator

_TF = "keras.src.backend.tensorflow"

# By module or class, as a target names it: its other places, in releases before and after.
OTHER_PLACES = {
    f"{_TF}.core": (f"{_TF}.ops.core",),
    f"{_TF}.trainer:TensorFlowTrainer": (f"{_TF}.trainer:Trainer",),
    "keras:Variable": (f"{_TF}.core:Variable", f"{_TF}.ops.core:Variable"),
    "keras.src.backend.common.variables:Variable": (
        "keras.src.backend.common.variables:KerasVariable",
    ),
    "keras.src.trainers.trainer:Trainer": ("keras.src.trainers.trainer:BaseTrainer",),
}


def places_of(target: str) -> Iterator[str]:
    """Yields a target, then its other places.

    Args:
        target: "package.module:Class.attribute" or "package.module:name".

    Example:
        >>> list(places_of("keras.src.trainers.trainer:Trainer.compile"))[1]
        'keras.src.trainers.trainer:BaseTrainer.compile'
    """
    yield target
    for known, others in OTHER_PLACES.items():
        rest = target.removeprefix(known)
        if rest != target and (not rest or rest[0] in ".:"):
            yield from (other + rest for other in others)
