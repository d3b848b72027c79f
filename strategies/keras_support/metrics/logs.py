"""Logs of a step: results of metrics over all replicas, and other values that the step returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import tensorflow as tf

Path = tuple[str, ...]


def flat_logs(logs: Mapping[str, Any]) -> dict[Path, Any]:
    """Flattens logs by path; a metric's result may be a dict of results.

    Example:
        >>> flat_logs({"loss": 1.0, "compile_metrics": {"mae": 2.0}})
        {('loss',): 1.0, ('compile_metrics', 'mae'): 2.0}
    """
    flat: dict[Path, Any] = {}
    for name, value in logs.items():
        if isinstance(value, Mapping):
            flat.update({(name, *path): part for path, part in flat_logs(value).items()})
        else:
            flat[(name,)] = value
    return flat


def named_in(path: Path, results: Collection[Path]) -> Path | None:
    """Returns the result that a step reported at `path`, perhaps inside of another dict.

    Example:
        >>> named_in(("compile_metrics", "mae"), {("loss",), ("mae",)})
        ('mae',)
    """
    return next((path[i:] for i in range(len(path)) if path[i:] in results), None)


def merged_logs(
    paths: Sequence[Path],
    metrics: Mapping[str, Any],
    extra: Mapping[Path, Any],
    renamed: Mapping[Path, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Puts logs together again in the order the step reported them.

    Args:
        paths: What the step reported.
        metrics: Results over all replicas. A loss that no metric recorded is NaN there.
        extra: What the step computed itself.
        renamed: Results over all replicas that the step reported by other paths.
    """
    logs: dict[str, Any] = {}
    results = flat_logs(metrics)
    for path in paths:
        own, named = extra.get(path), named_in(path, results)
        result = None if named is None else results[named]
        if path in renamed:
            value = renamed[path]
        elif own is not None and result is not None:
            value = tf.where(tf.math.is_nan(result), tf.cast(own, result.dtype), result)
        else:
            value = own if result is None else result
        place = logs
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return logs


def mean_over_examples(
    strategy: tf.distribute.Strategy, values: Mapping[Path, Any], examples: Any
) -> dict[Path, Any]:
    """Averages the replicas' values, weighted by their examples; all in one reduction.

    Args:
        strategy: The strategy the step ran under; called in cross-replica context.
        values: Scalars of each replica.
        examples: int32, each replica's examples.
    """
    if strategy.num_replicas_in_sync == 1 or not values:
        return dict(values)

    def weigh(parts: list[Any], count: tf.Tensor) -> tf.Tensor:
        weight = tf.cast(count, tf.float64)
        numbers = [tf.cast(tf.reduce_mean(tf.cast(p, tf.float64)), tf.float64) for p in parts]
        return tf.stack([*(tf.math.multiply_no_nan(n, weight) for n in numbers), weight])

    total = strategy.reduce(
        "SUM", strategy.run(weigh, args=(list(values.values()), examples)), axis=None
    )
    means = tf.unstack(total[:-1] / total[-1], num=len(values))
    return {
        path: tf.cast(mean, _dtype(strategy, value))
        for (path, value), mean in zip(values.items(), means, strict=True)
    }


def _dtype(strategy: tf.distribute.Strategy, value: Any) -> tf.DType:
    dtype = tf.convert_to_tensor(strategy.experimental_local_results(value)[0]).dtype
    return dtype if dtype.is_floating else tf.float32
