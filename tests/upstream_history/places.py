"""Where a symbol is in releases whose layout differs from the one that a target names."""

from __future__ import annotations

from collections.abc import Iterator

# By module, class or symbol, as a target names it: its other places, in releases before and after.
OTHER_PLACES = {
    # In 3.0 to 3.6 its base class is chosen in a way that sources do not show.
    "keras:Variable": ("keras.src.backend.tensorflow.core:Variable",),
}


def places_of(target: str) -> Iterator[str]:
    """Yields a target, then its other places.

    Args:
        target: "package.module:Class.attribute" or "package.module:name".

    Example:
        >>> list(places_of("keras:Variable.assign"))[1]
        'keras.src.backend.tensorflow.core:Variable.assign'
    """
    yield target
    for known, others in OTHER_PLACES.items():
        rest = target.removeprefix(known)
        if rest != target and (not rest or rest[0] in ".:"):
            yield from (other + rest for other in others)
