"""The trade-off of size and quality as a page."""

from __future__ import annotations

from collections.abc import Sequence

from tfscale.report.bars import Bar, bar_chart
from tfscale.report.markup import fill
from tfscale.report.scatter import Plot, Series, scatter_chart
from tfscale.shrink.chain.compressing import Compressed
from tfscale.shrink.chain.costs import STAGE, StageCost, cells_of

_KIB = 1024


def trade_off_page(
    results: Sequence[Compressed], *, metric: str, title: str, notes: Sequence[str] = ()
) -> str:
    """Returns a page with pictures of size and quality after each stage, and the tables.

    Args:
        results: Of `compress`, all of one model; the last one is drawn stage by stage.
        metric: A name in `StageCost.metrics`.
        title: The heading.
        notes: Sentences for the reader.

    Raises:
        ValueError: If there is no result.

    Example:
        >>> with strategies.one_device_strategy().scope():
        ...     layers = [keras.Input((1,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile("adam", "mse")
        >>> chain = tfscale.shrink.Chain(sparsity=0.5, epochs=0)
        >>> data = (rows, targets)
        >>> result = tfscale.shrink.compress(model, chain, data, validation=data)
        >>> page = trade_off_page([result], metric="loss", title="A small network")
        >>> "loss by size of the file" in page
        True
    """
    if not results:
        raise ValueError("`results` must have a result at least. Received: none.")
    last = results[-1].stages
    charts = [
        scatter_chart(
            Plot(f"{metric} by size of the file", "KiB by gzip", "", x_scale="log", scale="linear"),
            [_series(str(result.chain), result.stages, metric) for result in results],
            identifier="trade-off",
        ),
        bar_chart(
            "Size of the file",
            [
                Bar(stage.text, stage.size_bytes / _KIB, second=stage.gzip_bytes / _KIB)
                for stage in last
            ],
            unit="KiB",
            second="compressed by gzip",
        ),
        bar_chart(
            metric,
            [Bar(stage.text, stage.metrics[metric]) for stage in last],
            unit="validation data",
        ),
    ]
    return str(
        fill(
            "bench.html",
            title=title,
            text=str(results[-1].chain),
            circumstances=f"{results[-1].times_smaller:.1f} times smaller by gzip.",
            tiles=[],
            laws=[],
            formulas=[],
            charts=charts,
            rounds=[],
            texts=(STAGE,),
            tables=[
                (str(each.chain) if len(results) > 1 else "", cells_of(each.stages))
                for each in results
            ],
            notes=notes,
            comparison=None,
            earlier="",
            differences=[],
            settings={},
        )
    )


def _series(name: str, stages: Sequence[StageCost], metric: str) -> Series:
    points = [(stage.gzip_bytes / _KIB, stage.metrics[metric]) for stage in stages]
    return Series(name, points)
