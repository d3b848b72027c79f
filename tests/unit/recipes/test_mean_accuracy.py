from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT


@pytest.mark.parametrize(("at_least", "status"), [("0.98", 0), ("0.9801", 1)])
def test_the_mean_decides(tmp_path: Path, at_least: str, status: int) -> None:
    paths = [tmp_path / name for name in ("0.json", "1.json")]
    for path, accuracy in zip(paths, (0.97, 0.99), strict=True):
        path.write_text(json.dumps({"test_accuracy": accuracy}))
    done = subprocess.run(
        [sys.executable, "-m", "recipes.mean_accuracy", f"--at_least={at_least}", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status
    assert done.stdout.splitlines() == [
        f"{paths[0]}: test accuracy 0.9700",
        f"{paths[1]}: test accuracy 0.9900",
        "mean test accuracy of 2 runs: 0.9800",
    ]
    assert done.stderr == ("" if status == 0 else "The mean is below 0.9801.\n")
