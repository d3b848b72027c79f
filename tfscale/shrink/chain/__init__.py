"""Several ways to make a model smaller, one after the other, each keeping what came before."""

from tfscale.shrink.chain.chain import Chain
from tfscale.shrink.chain.compressing import Compressed, compress
from tfscale.shrink.chain.costs import StageCost
from tfscale.shrink.chain.picture import trade_off_page
from tfscale.shrink.chain.search import FoundChain, chain_ladder, search_chain

__all__ = [
    "Chain",
    "Compressed",
    "FoundChain",
    "StageCost",
    "chain_ladder",
    "compress",
    "search_chain",
    "trade_off_page",
]
