"""Program: two workers find a batch size, of which the second has less memory.

tfscale launch --num_workers=2 -- python batch_sizes_of_workers.py FOLDER
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

from tfscale.find.batch_size import find_batch_size

MODELS = "tests.unit.tfscale.find.found_batches"
LIMITS = (8 * 2**30, int(2.3 * 2**30))


def refusal(**arguments: object) -> str:
    """What is raised."""
    try:
        find_batch_size(**{"make": f"{MODELS}:linear", **arguments})  # type: ignore[arg-type]
    except Exception as error:  # of any kind, to be compared
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder: Path) -> None:
    """Writes what this worker has found."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    several = {"strategy": "multi_worker_mirrored"}
    refused = [
        refusal(),
        refusal(**several, smallest=15),
        refusal(**several, steps=3 + index),
        refusal(**several, make=f"{MODELS}:linear" if index else f"{MODELS}:broken", steps=3),
        refusal(**several, make=f"{MODELS}:broken", smallest=4, steps=3),
    ]
    found = find_batch_size(
        f"{MODELS}:huge",
        strategy="multi_worker_mirrored",
        smallest=2,
        largest=4,
        steps=3,
        memory_limit=LIMITS[index],
    )
    result = {"refused": refused, "found": dataclasses.asdict(found)}
    (folder / f"{index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
