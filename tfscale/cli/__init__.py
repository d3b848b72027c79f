"""What the `tfscale` commands share: flags and error output."""

from strategies.extension import COUNT, NOT_NEGATIVE, POSITIVE, Number, NumberRule, floats, integers
from tfscale.cli.errors import complain, complain_of_output, finish_output, is_of_output

__all__ = [
    "COUNT",
    "NOT_NEGATIVE",
    "POSITIVE",
    "Number",
    "NumberRule",
    "complain",
    "complain_of_output",
    "finish_output",
    "floats",
    "integers",
    "is_of_output",
]
