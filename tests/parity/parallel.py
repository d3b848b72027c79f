"""Which models of the zoo can be a pipeline or have tensor parallelism, and making them so.

The reference and the draw import this file too, so tfscale is imported inside of functions.
"""

from __future__ import annotations

import random
from typing import Any

from tests.parity.configuration import DIVIDED, Configuration

RUNS = {
    "mlp": 2,
    "cnn": 4,
    "cnn_batchnorm": 5,
    "lstm": 4,
    "attention": 6,
    "two_outputs": 3,
    "add_loss": 3,
    "activity": 2,
    "strings": 4,
    "running_mean": 3,
    "running_mean_at_once": 3,
    "mean_beside_penalty": 3,
    "observer_twice": 4,
    "codebook": 3,
    "usage_counts": 3,
    "quantizer": 3,
    "annealed": 3,
    "spectral_norm": 2,
    "sparse_input": 2,
    "positions": 4,
    "learned_positions": 4,
    "two_lookups": 3,
    "tokens_and_positions": 3,
    "unique_lookup": 3,
    "closed_vocabulary": 4,
    "own_metrics": 2,
    "vector_penalty": 3,
    "own_loss_class": 2,
    "no_weights": 2,
    "no_input": 3,
    "deep": 8,
    "skipping": 8,
    "two_blocks": 8,
    "deep_cnn": 8,
    "deep_batchnorm": 8,
}
"""By model: the most runs of layers into which it is cut. Others have no graph of layers."""

_FIRST = (("dense", "row"),)
RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "mlp": _FIRST,
    "cnn": _FIRST,
    "cnn_batchnorm": _FIRST,
    "lstm": (("embedding", "vocabulary"),),
    "attention": (
        ("embedding", "vocabulary"),
        ("multi_head_attention/(query|key|value)", "column"),
        ("multi_head_attention/attention_output", "row"),
        ("dense", "row"),
    ),
    "two_outputs": _FIRST,
    "add_loss": _FIRST,
    "strings": (("embedding", "vocabulary"),),
    "running_mean": _FIRST,
    "annealed": _FIRST,
    "vector_penalty": _FIRST,
    "no_weights": _FIRST,
    "positions": (("embedding", "vocabulary"), ("dense", "row")),
    "learned_positions": (("embedding", "vocabulary"), ("dense", "row")),
    "closed_vocabulary": (("embedding", "vocabulary"), ("dense", "row")),
    "deep": (("up_.*", "column"), ("down_.*", "row")),
    "skipping": (("up_.*", "column"), ("down_.*", "row")),
    "two_blocks": (
        ("embedding", "vocabulary"),
        (".*/(query|key|value)", "column"),
        (".*/attention_output", "row"),
        ("up_.*", "column"),
        ("down_.*", "row"),
    ),
    "deep_cnn": (("up_.*", "column"), ("down_.*", "row")),
    "deep_batchnorm": _FIRST,
}
"""By model: how its layers are divided, by the end of their paths."""


def make_parallel(model: Any, configuration: Configuration) -> None:
    """Makes a model a pipeline, or divides its matrices, if the strategy is for that.

    Args:
        model: Built and compiled under the strategy.
        configuration: Its seed decides where a pipeline is cut.
    """
    import tfscale.parallel

    if configuration.strategy in DIVIDED:
        rules = [
            tfscale.parallel.TensorRule(f"(.*/)?{path}", kind)
            for path, kind in RULES[configuration.model]
        ]
        tfscale.parallel.tensor_parallel(model, rules)
    elif configuration.runs:
        tfscale.parallel.Pipeline(
            model,
            _cuts(model, configuration),
            configuration.microbatches,
            schedule=configuration.pipeline_schedule,
            virtual_stages=configuration.virtual_stages,
        )


def whole_of(model: Any, configuration: Configuration) -> Any:
    """Returns the model, or a copy with whole matrices if they are divided."""
    if configuration.strategy not in DIVIDED:
        return model
    import tfscale.parallel

    return tfscale.parallel.whole(model)


def _cuts(model: Any, configuration: Configuration) -> list[str]:
    """Draws the layers at which the second run begins, the third, and so on."""
    from strategies.extension import graph_of, nodes_in_order, places_to_cut

    nodes = nodes_in_order(graph_of(model))
    names = [node.operation.name for node in nodes]
    # A name means its first call.
    allowed = [
        i for i, why in places_to_cut(nodes).items() if not why and names.index(names[i]) == i
    ]
    places = random.Random(configuration.seed).sample(allowed, configuration.runs - 1)
    return [names[place] for place in sorted(places)]
