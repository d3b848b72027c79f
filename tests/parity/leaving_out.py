"""Our strategies without one of their repairs: what was repaired must show again."""

from __future__ import annotations


def leave_out(row: str) -> None:
    """Takes the seams of one repair away from what the factories install in this process.

    Args:
        row: Name of the defect, such as "S4".
    """
    from strategies.keras_support import installation
    from strategies.keras_support.defects import table

    seams = {seam for repair in table.REPAIRS if repair.row == row for seam in repair.seams}
    left = tuple(seam for seam in table.SEAMS if seam not in seams)
    vars(installation)["SEAMS"] = left
