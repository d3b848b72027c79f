"""What the `tfscale` commands share: flags, sizes and error output."""

from strategies.extension import COUNT, NOT_NEGATIVE, POSITIVE, Number, NumberRule, floats, integers
from tfscale.cli.errors import complain, complain_of_output, finish_output, is_of_output
from tfscale.cli.sizes import shown_bytes

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
    "shown_bytes",
]
