"""Flags that are numbers, with the rules and the words of the `tfscale` command.

number_flags.define_integer("train_epochs", 40, "Passes over the training data.")
number_flags.define_float("dropout", 0.4, "Part of the features dropped.", PART)

absl's integers have other words for the same rules, and its floats need a validator.
"""

from __future__ import annotations

from typing import Generic

from absl import flags

from tfscale.cli import COUNT, Number, NumberRule, floats

PART = floats("in [0, 1)", "0.1", lambda part: 0 <= part < 1)


def define_integer(
    name: str, default: int | None, help: str, rule: NumberRule[int] = COUNT
) -> None:
    """Defines a flag that takes an integer.

    Args:
        name: Its name.
        default: Its value where it is not given.
        help: What `--help` says.
        rule: Which integers it takes; by default positive ones.
    """
    _define(_NumberParser(rule, "int"), name, default, help)


def define_float(name: str, default: float | None, help: str, rule: NumberRule[float]) -> None:
    """Defines a flag that takes a finite number.

    Args:
        name: Its name.
        default: Its value where it is not given.
        help: What `--help` says.
        rule: Which numbers it takes.
    """
    _define(_NumberParser(rule, "float"), name, default, help)


class _NumberParser(flags.ArgumentParser, Generic[Number]):
    def __init__(self, rule: NumberRule[Number], kind: str) -> None:
        self._rule: NumberRule[Number] = rule
        self._kind = kind
        self.syntactic_help = rule.words

    def parse(self, argument: str | Number) -> Number:
        # Defaults arrive as numbers.
        return self._rule.parse(argument if isinstance(argument, str) else repr(argument))

    def flag_type(self) -> str:
        return self._kind


def _define(parser: _NumberParser[Number], name: str, default: Number | None, help: str) -> None:
    flags.DEFINE(parser, name, default, help, serializer=flags.ArgumentSerializer())
