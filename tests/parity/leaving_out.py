"""The strategies without one of their fixes: the defect must show again."""

from __future__ import annotations


def leave_out(row: str) -> None:
    """Removes the patches of one fix from those that the factories install in this process.

    Args:
        row: Name of the defect, such as "S4".
    """
    from strategies.keras_support import installation, patches
    from strategies.keras_support.defects import table

    taken = {patch for fix in table.FIXES if fix.row == row for patch in fix.patches}
    left = tuple(patch for patch in patches.PATCHES if patch not in taken)
    vars(installation)["PATCHES"] = left
