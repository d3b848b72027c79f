"""Several sizes trained on the same tokens: a table of what a larger model costs and brings."""

from __future__ import annotations

from collections.abc import Mapping

from recipes.language.training import Trained

_HEADINGS = ("size", "parameters", "tokens", "tokens/s", "MFU", "bits per byte", "seconds")


def scaling_table(outcomes: Mapping[str, Trained]) -> str:
    """Returns a table in Markdown, one line for each size.

    Args:
        outcomes: What was measured, by the name of the size.
    """
    rows = [_HEADINGS, tuple("---" if i == 0 else "---:" for i in range(len(_HEADINGS)))]
    for name, trained in outcomes.items():
        rows.append(
            (
                name,
                f"{trained.num_parameters:,}",
                f"{trained.num_tokens:,}",
                shown_speed(trained.tokens_per_second),
                shown_share(trained.flops_utilization),
                f"{trained.bits_per_byte:.3f}",
                f"{trained.training_seconds:.0f}",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown_speed(tokens_per_second: float | None) -> str:
    """Returns tokens a second as text."""
    return "-" if tokens_per_second is None else f"{tokens_per_second:,.0f}"


def shown_share(share: float | None) -> str:
    """Returns a share as a percentage."""
    return "-" if share is None else f"{100 * share:.1f} %"
