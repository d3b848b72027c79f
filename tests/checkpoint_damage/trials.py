"""One kind of damage after another to a run, each to the files as they were written."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.checkpoint_damage.accidents import ACCIDENTS
from tests.checkpoint_damage.forgeries import FORGERIES
from tests.checkpoint_damage.made import NEWEST, STEPS, name, write_run
from tests.checkpoint_damage.outcome import Wrong, outcome, scene_in, set_up

DAMAGES = {**ACCIDENTS, **FORGERIES}


@dataclass
class Found:
    """The outcomes of the trials.

    Attributes:
        outcomes: How often each kind of damage had each outcome.
        wrong: A line for each trial in which something wrong happened.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def run_trials(folder: Path, trials: int, seed: int) -> Found:
    """Damages a run with each kind in turn, `trials` times in all.

    Args:
        folder: An empty folder.
        trials: How many.
        seed: With the number of a trial, it seeds all that is random in it.
    """
    scene = scene_in(folder, write_run(folder / "written"))
    found = Found({kind: Counter() for kind in DAMAGES})
    for number in range(trials):
        kind = list(DAMAGES)[number % len(DAMAGES)]
        DAMAGES[kind](scene, Random(f"{seed}/{number}"))
        try:
            found.outcomes[kind][outcome(scene, is_forged=kind in FORGERIES)] += 1
        except Wrong as error:
            found.outcomes[kind]["WRONG"] += 1
            found.wrong.append(f"trial {number} of seed {seed}, {kind}: {error}")
        for path in scene.root.iterdir():
            if path.name == name(STEPS[0]):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        set_up(scene.newest, scene.files[NEWEST])
    return found


def report(found: Found) -> str:
    """Returns a table of the outcomes, and the first wrong ones."""
    columns = sorted({column for counts in found.outcomes.values() for column in counts})
    rows = [["damage", *columns]]
    rows += [[kind, *(str(n[c]) for c in columns)] for kind, n in found.outcomes.items()]
    total: Counter[str] = sum(found.outcomes.values(), Counter())
    rows.append(["all", *(str(total[c]) for c in columns)])
    lines = [
        "  ".join([row[0].ljust(28), *(cell.rjust(15) for cell in row[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *found.wrong[:20]])
