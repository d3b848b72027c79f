"""Whole channels are taken out of a model: filters, columns and heads.

channels.py       numbers of channels, and which are tied
tracing.py        follows them through the graph of a model
weight_rules.py   what layers with weights do to them
tensor_rules.py   what other layers and operations do to them
groups.py         the groups of channels that can go, and their scores
masking.py        sets the weights of channels to zero
cutting.py        the smaller model
"""

from tfscale.shrink.structured.cutting import cut
from tfscale.shrink.structured.groups import (
    ChannelGroup,
    ChannelGroups,
    ChannelSlice,
    channel_groups,
)
from tfscale.shrink.structured.masking import first_matches, mask_channels

__all__ = [
    "ChannelGroup",
    "ChannelGroups",
    "ChannelSlice",
    "channel_groups",
    "cut",
    "first_matches",
    "mask_channels",
]
