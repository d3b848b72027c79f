"""Sizes of the language model, by name."""

from __future__ import annotations

from dataclasses import dataclass

_MULTIPLE = 32


@dataclass(frozen=True)
class ModelSize:
    """The size of a decoder-only transformer.

    Attributes:
        layers: Blocks of attention and feed-forward. Positive.
        width: Elements of a token's vector. Positive, an even multiple of `heads`.
        heads: Heads of the attention. Positive.
    """

    layers: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`--{name}` must be at least 1. Received: --{name}={getattr(self, name)}. "
                    "Leave it out for that of --size."
                )
        if self.width % (2 * self.heads):
            multiple = 2 * self.heads
            raise ValueError(
                "`--width` must be an even multiple of --heads: rotary embedding turns pairs of "
                f"the elements of a head. Received: --width={self.width}, --heads={self.heads}. "
                f"Use --width={max(1, round(self.width / multiple)) * multiple}."
            )

    @property
    def head_width(self) -> int:
        """Elements of one head's queries, keys and values."""
        return self.width // self.heads

    @property
    def hidden_width(self) -> int:
        """Hidden elements of the feed-forward layer.

        Two thirds of the usual `4 * width`, so that its three matrices have the parameters of the
        usual two, rounded up to a multiple of 32. Source: Shazeer 2020, arXiv:2002.05202, section
        3.1.
        """
        return -(-8 * self.width // (3 * _MULTIPLE)) * _MULTIPLE


SIZES = {
    "nano": ModelSize(layers=2, width=64, heads=2),
    "tiny": ModelSize(layers=4, width=128, heads=4),
    "small": ModelSize(layers=6, width=256, heads=4),
    "base": ModelSize(layers=12, width=768, heads=12),
}
"""Sizes by name. base has the layers and the width of GPT-2 small."""
