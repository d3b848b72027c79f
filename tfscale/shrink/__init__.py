"""Smaller models of the same quality, and models as files of other runtimes.

    schedule = tfscale.shrink.CubicSparsity(0.8, end=2000, every=100)
    model.fit(train, epochs=10, callbacks=[tfscale.shrink.Prune(schedule)])

    aware = tfscale.shrink.quantization_aware(model, calibration=images[:500])

    tfscale.shrink.mask_channels(model, 0.5)
    smaller = tfscale.shrink.cut(model)

    chain = tfscale.shrink.Chain(sparsity=0.8, clusters=16, quantize="aware")
    print(tfscale.shrink.compress(model, chain, train, validation=test))

    model = tfscale.shrink.Distill(student, teacher, temperature=4.0)

    exported = tfscale.shrink.export(model, "litert", "digits.tflite", quantize="int8", data=images)

Importing this package imports none of its modules: `tfscale --help` lists a command only, and an
exported file is run without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.shrink.chain import (
        Chain,
        Compressed,
        FoundChain,
        StageCost,
        chain_ladder,
        compress,
        search_chain,
        trade_off_page,
    )
    from tfscale.shrink.clustering import Cluster
    from tfscale.shrink.distillation import Distill, FeaturePair
    from tfscale.shrink.exporting.conversion import (
        Exported,
        export,
    )
    from tfscale.shrink.pruning import (
        ConstantSparsity,
        CubicSparsity,
        KeepZeros,
        OneShot,
        Prune,
        SparsitySchedule,
    )
    from tfscale.shrink.quantization import (
        FakeQuantize,
        QuantizationReport,
        Quantized,
        RoundedWeights,
        integer_litert,
        quantization_aware,
        quantize,
    )
    from tfscale.shrink.structured import (
        ChannelGroup,
        ChannelGroups,
        ChannelSlice,
        channel_groups,
        cut,
        mask_channels,
    )

_LAZY = {
    "Chain": "tfscale.shrink.chain",
    "ChannelGroup": "tfscale.shrink.structured",
    "ChannelGroups": "tfscale.shrink.structured",
    "ChannelSlice": "tfscale.shrink.structured",
    "Cluster": "tfscale.shrink.clustering",
    "Compressed": "tfscale.shrink.chain",
    "ConstantSparsity": "tfscale.shrink.pruning",
    "CubicSparsity": "tfscale.shrink.pruning",
    "Distill": "tfscale.shrink.distillation",
    "Exported": "tfscale.shrink.exporting.conversion",
    "FakeQuantize": "tfscale.shrink.quantization",
    "FeaturePair": "tfscale.shrink.distillation",
    "FoundChain": "tfscale.shrink.chain",
    "KeepZeros": "tfscale.shrink.pruning",
    "OneShot": "tfscale.shrink.pruning",
    "Prune": "tfscale.shrink.pruning",
    "QuantizationReport": "tfscale.shrink.quantization",
    "Quantized": "tfscale.shrink.quantization",
    "RoundedWeights": "tfscale.shrink.quantization",
    "SparsitySchedule": "tfscale.shrink.pruning",
    "StageCost": "tfscale.shrink.chain",
    "chain_ladder": "tfscale.shrink.chain",
    "channel_groups": "tfscale.shrink.structured",
    "compress": "tfscale.shrink.chain",
    "cut": "tfscale.shrink.structured",
    "export": "tfscale.shrink.exporting.conversion",
    "integer_litert": "tfscale.shrink.quantization",
    "mask_channels": "tfscale.shrink.structured",
    "quantization_aware": "tfscale.shrink.quantization",
    "quantize": "tfscale.shrink.quantization",
    "search_chain": "tfscale.shrink.chain",
    "trade_off_page": "tfscale.shrink.chain",
}

__all__ = [
    "Chain",
    "ChannelGroup",
    "ChannelGroups",
    "ChannelSlice",
    "Cluster",
    "Compressed",
    "ConstantSparsity",
    "CubicSparsity",
    "Distill",
    "Exported",
    "FakeQuantize",
    "FeaturePair",
    "FoundChain",
    "KeepZeros",
    "OneShot",
    "Prune",
    "QuantizationReport",
    "Quantized",
    "RoundedWeights",
    "SparsitySchedule",
    "StageCost",
    "chain_ladder",
    "channel_groups",
    "compress",
    "cut",
    "export",
    "integer_litert",
    "mask_channels",
    "quantization_aware",
    "quantize",
    "search_chain",
    "trade_off_page",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
