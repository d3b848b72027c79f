"""The flags of a recipe that is looked at and not run."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from absl import flags

from tfscale.verify.user_model import WrongUsage


def parse_recipe_flags(module: ModuleType, given: Sequence[str]) -> None:
    """Defines and parses the flags of a module that has `define_flags`, as running it would.

    Args:
        module: The user's module.
        given: Its flags, such as `["--global_batch_size=128"]`.

    Raises:
        WrongUsage: If a flag is unknown or has an impossible value, or the module takes none.
    """
    define_flags = getattr(module, "define_flags", None)
    if define_flags is None:
        if given:
            raise WrongUsage(
                f"`--flags` must be left out for a module without define_flags. Received: "
                f"--flags={' '.join(given)!r} for {module.__name__}."
            )
        return
    define_flags()
    try:
        rest = flags.FLAGS([module.__name__, *given])
    except flags.Error as error:
        raise WrongUsage(f"`--flags` must be flags of {module.__name__}. {error}") from error
    if len(rest) > 1:
        raise WrongUsage(
            f"`--flags` must hold flags alone. Received: {' '.join(rest[1:])!r}. Flags start with "
            "two dashes."
        )
