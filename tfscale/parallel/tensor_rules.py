"""Rules of tensor parallelism: which layers are divided over the devices of a replica, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strategies.extension import one_of, text, whole_number

KINDS = ("column", "row", "vocabulary", "block")


@dataclass(frozen=True)
class TensorRule:
    """Says how some layers are divided.

    Attributes:
        pattern: A regular expression that matches the whole path of a layer, such as
            `r".*/attention/projection"`.
        kind: "column" gives each device some outputs of a `Dense` or `EinsumDense`, "row" some
            inputs, "vocabulary" some rows of an `Embedding`. "block" runs a layer with divided
            layers in it as a whole on each device, and adds up the results.
        groups: Equal groups of neighbouring outputs, of which each device has its part: 3 for a
            matrix of queries, keys and values. Only for "column". Positive.

    Raises:
        ValueError: If an argument is invalid.

    Example:
        >>> TensorRule(r".*/up", "column").kind
        'column'
    """

    pattern: str
    kind: str
    groups: int = 1

    def __post_init__(self) -> None:
        text("pattern", self.pattern)
        one_of("kind", self.kind, KINDS)
        whole_number("groups", self.groups, cure="Leave it out for one matrix.")
        if self.groups > 1 and self.kind != "column":
            raise ValueError(
                f'`groups` must be 1 for a rule other than "column". Received: '
                f"groups={self.groups} with kind={self.kind!r}. Leave it out."
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"`pattern` must be a regular expression. Received: {self.pattern!r} ({error}). "
                "re.escape(path) matches a path literally."
            ) from error

    def matches(self, path: str) -> bool:
        """Tells whether it is about the layer with this path."""
        return re.fullmatch(self.pattern, path) is not None


TRANSFORMER = (
    TensorRule(r"(.*/)?attention/projection", "column", groups=3),
    TensorRule(r"(.*/)?attention/output_projection", "row"),
    TensorRule(r"(.*/)?feed_forward/gate_and_up", "column", groups=2),
    TensorRule(r"(.*/)?feed_forward/down", "row"),
    TensorRule(r"(.*/)?(attention|feed_forward)", "block"),
    TensorRule(r"(.*/)?embedding", "vocabulary"),
)
"""The rules of the model of `recipes.language_model`."""


def chosen(rules: Sequence[TensorRule], layers: Sequence[Any]) -> list[tuple[Any, TensorRule]]:
    """Returns the layers that rules are about, each with the first rule that matches it.

    Raises:
        ValueError: If a rule matches no layer.
    """
    found: dict[int, tuple[Any, TensorRule]] = {}
    for rule in rules:
        matching = [layer for layer in layers if rule.matches(layer.path or layer.name)]
        if not matching:
            paths = ", ".join(sorted({layer.path or layer.name for layer in layers})[:20])
            raise ValueError(
                f"`rules` must match layers of the model. Received: {rule!r}, which matches none. "
                f"Its layers are: {paths}."
            )
        for layer in matching:
            found.setdefault(id(layer), (layer, rule))
    return list(found.values())
