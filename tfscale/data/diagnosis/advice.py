"""What would make a slow stage faster, by its kind and by what its graph contains."""

from __future__ import annotations

from tfscale.data.diagnosis.figures import Cost
from tfscale.data.diagnosis.stage import Traits

_CACHE = (
    'read it once: input_pipeline(..., cache="memory"), or cache=FOLDER on a fast disk, keeps the '
    "decoded examples"
)
_CACHE_MORE = (
    'keep more of it: cache="memory" or a folder below /dev/shm instead of a disk; '
    "cached(mapped(source, preprocess), ...) also keeps what `preprocess` makes"
)
_WORKERS = (
    "read in other processes: tfscale.data.indexed(dataset, read_workers=N), N up to the processors"
)
_SMALLER = "use a smaller type, such as uint8 instead of float32, and convert it in the model"


def advice_for(kind: str, cost: Cost | None) -> tuple[str, ...]:
    """Returns what would help against a slow stage, most effective first.

    Args:
        kind: One of `stage.KINDS`, or "transfer".
        cost: What was measured; None for "transfer".

    Example:
        >>> advice_for("transfer", None)[0].partition(",")[0]
        'use a smaller type'
    """
    traits = Traits() if cost is None else cost.stage.traits
    if kind == "read":
        return _for_reading(traits, waits=cost is not None and cost.waits)
    if kind in ("preprocess", "augment", "decode") and traits.python:
        return (
            "it calls Python, one call at a time: write it with TensorFlow operations on the whole "
            "batch, or move it into the dataset and " + _WORKERS,
        )
    if kind == "decode":
        return (
            _CACHE,
            "store fewer pixels or features than now: smaller images decode faster",
            *_for_sequential(traits),
        )
    if kind == "augment":
        if traits.by_row:
            return (
                "it works on one example after the other (tf.map_fn): change the whole batch at "
                "once, as tfscale.data.random_flip and random_shift do in a fifth of the time",
            )
        return ("make it cheaper, or move it into the model, for instance as Keras layers",)
    if kind == "preprocess":
        by_row = ("it works on one example after the other: use operations on the whole batch",)
        return (
            *(by_row if traits.by_row else ()),
            *_for_sequential(traits),
            "do it once, because it is the same in every epoch: "
            "tfscale.data.cached(tfscale.data.mapped(source, preprocess), FOLDER); or move it into "
            "the model",
        )
    if kind == "batch":
        return (
            "take whole batches instead of joining single examples: pass arrays or a source with "
            "random access to tfscale.data.input_pipeline, or batch before `map`",
            _SMALLER,
        )
    if kind == "order":
        return ("use shuffle=BlockShuffle(...), or fewer bins, buckets or parts of a mixture",)
    return (f"{_SMALLER}, so that fewer bytes are copied to the replicas",)


def _for_reading(traits: Traits, *, waits: bool) -> tuple[str, ...]:
    if traits.is_cached:
        return (_CACHE_MORE,)
    if traits.python and traits.read_workers == 0:
        return (
            _WORKERS,
            "give the dataset `__getitems__`, which reads a batch in one call",
            _CACHE,
        )
    if traits.python and traits.read_workers:
        limit = (
            "even more than processors, because they mostly wait"
            if waits
            else "up to the processors"
        )
        return (f"use more than read_workers={traits.read_workers}, {limit}", _CACHE)
    if traits.python:
        return (
            "a generator yields one example at a time: give its dataset `__len__` and "
            "`__getitem__`; then " + _WORKERS,
            "write the examples to files: tfscale data pack",
        )
    if waits:
        return (
            _CACHE,
            "copy the files to a local disk, or pack them: tfscale data pack",
            "read neighbouring records: shuffle=BlockShuffle(...)",
            "use more, smaller files, which are read in parallel",
        )
    return (_CACHE, "store the records without compression, or with larger records")


def _for_sequential(traits: Traits) -> tuple[str, ...]:
    if not traits.is_sequential:
        return ()
    return ("map with several threads: Dataset.map(..., num_parallel_calls=tf.data.AUTOTUNE)",)
