"""What the `tfscale` commands share: flags, error output, the check for shadowed packages."""

from tfscale.cli.errors import complain, complain_of_output, finish_output, is_of_output

__all__ = ["complain", "complain_of_output", "finish_output", "is_of_output"]
