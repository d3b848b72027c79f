"""How many operations a token needs, for model FLOPs utilization.

    operations of a token = 6 N + 12 L H Q T

N are the parameters, L the layers, H the heads, Q the width of a head, T the length of a row. Each
parameter is used in a multiplication and an addition in the forward pass, and in twice as many in
the backward pass. Each of the T keys costs each head 2 Q operations forward and 4 Q backward, and
so does each value. The embedding counts once: its matrix makes the logits, and looking up a row
needs no operation. Causal attention counts as a whole, and recomputed activations do not count.

Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
"""

from __future__ import annotations

from recipes.language.sizes import ModelSize


def flops_per_token(size: ModelSize, *, num_parameters: int, context: int) -> int:
    """Returns the floating-point operations of training on one token.

    Args:
        size: The size of the model.
        num_parameters: Its parameters. Positive.
        context: Tokens of a row. Positive.

    Example:
        >>> tiny = ModelSize(layers=4, width=128, heads=4)
        >>> flops_per_token(tiny, num_parameters=1_000_000, context=256)
        7572864
    """
    return 6 * num_parameters + 12 * size.layers * size.heads * size.head_width * context
