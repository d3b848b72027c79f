"""A run as one self-contained HTML page: `tfscale report`, and what every recipe leaves.

    record = tfscale.report.RunRecord(title="Digits", results={"accuracy": 0.97})
    Path("report.html").write_text(tfscale.report.render(record))

Importing this package imports none of its modules: `tfscale --help` lists the command only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.report.json import RUN_FILE, to_json
    from tfscale.report.page import REPORT_FILE, render
    from tfscale.report.record import Confusion, Curve, RunRecord, Timing
    from tfscale.report.run_environment import environment
    from tfscale.report.stages import Pass, Stages

_LAZY = {
    "Confusion": "tfscale.report.record",
    "Curve": "tfscale.report.record",
    "Pass": "tfscale.report.stages",
    "REPORT_FILE": "tfscale.report.page",
    "RUN_FILE": "tfscale.report.json",
    "RunRecord": "tfscale.report.record",
    "Stages": "tfscale.report.stages",
    "Timing": "tfscale.report.record",
    "environment": "tfscale.report.run_environment",
    "render": "tfscale.report.page",
    "to_json": "tfscale.report.json",
}

__all__ = [
    "REPORT_FILE",
    "RUN_FILE",
    "Confusion",
    "Curve",
    "Pass",
    "RunRecord",
    "Stages",
    "Timing",
    "environment",
    "render",
    "to_json",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
