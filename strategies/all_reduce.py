"""The names of all-reduce implementations, checked before TensorFlow sees them."""

from __future__ import annotations

from collections.abc import Sequence

from strategies.arguments import one_of


def check_all_reduce(all_reduce: str, accepted: Sequence[str], devices: Sequence[str]) -> None:
    """Refuses an implementation that a strategy does not have, or that its devices cannot run.

    Args:
        all_reduce: The name to check.
        accepted: The names this strategy has.
        devices: The devices it reduces over.

    Raises:
        ValueError: If `all_reduce` is not accepted, or is "nccl" without GPUs.
    """
    cure = "Use 'auto' unless a measurement says otherwise."
    one_of("all_reduce", all_reduce, accepted, cure=cure)
    if all_reduce == "nccl" and not all("GPU:" in name for name in devices):
        raise ValueError(
            "`all_reduce` must not be 'nccl' without GPUs: NCCL adds up between GPUs only. "
            f"Received: all_reduce='nccl' for {', '.join(devices)}. Use 'auto'."
        )
