"""What each value of the inputs contributed to an output."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Attributions:
    """What each value of the inputs contributed to the output of its row.

    Attributes:
        method: "integrated gradients" or "occlusion".
        inputs: The rows, in the structure that was passed.
        names: Names of the inputs.
        attributions: In the structure and shapes of `inputs`, in the unit of the output. Above 0,
            the output is larger because of this value.
        elements: Index of the number that is explained in the flat output of each row.
        outputs: This number. Shape [rows].
        baseline_outputs: The number for the baseline; None for occlusion.
        scales: The largest absolute output on the line of each row; None for occlusion.
        tolerance: Largest gap that counts as complete, as a part of `scales`.
        steps: Gradients, or changed inputs, that were computed for each row.
    """

    method: str
    inputs: Any
    names: tuple[str, ...]
    attributions: Any
    elements: np.ndarray
    outputs: np.ndarray
    baseline_outputs: np.ndarray | None = None
    scales: np.ndarray | None = None
    tolerance: float = 0.0
    steps: np.ndarray | None = None

    @property
    def gaps(self) -> np.ndarray | None:
        """By how much the attributions of each row exceed the difference of its outputs.

        None if the method does not promise that they are equal.
        """
        if self.baseline_outputs is None:
            return None
        sums = sum(
            np.asarray(each).reshape(len(self.outputs), -1).sum(axis=1, dtype=np.float64)
            for each in keras.tree.flatten(self.attributions)
        )
        return np.asarray(sums - (self.outputs - self.baseline_outputs))

    @property
    def incomplete(self) -> list[int]:
        """Rows whose gap is larger than the tolerance."""
        gaps = self.gaps
        if gaps is None or self.scales is None:
            return []
        return [int(row) for row in np.flatnonzero(np.abs(gaps) > self.tolerance * self.scales)]

    def flat(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Returns name, rows and attributions of each input."""
        return list(
            zip(
                self.names,
                keras.tree.flatten(self.inputs),
                keras.tree.flatten(self.attributions),
                strict=True,
            )
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the attributions as JSON values."""
        gaps = self.gaps
        return {
            "method": self.method,
            "rows": len(self.outputs),
            "targets": self.elements.tolist(),
            "outputs": self.outputs.tolist(),
            "baseline_outputs": None
            if self.baseline_outputs is None
            else self.baseline_outputs.tolist(),
            "gaps": None if gaps is None else gaps.tolist(),
            "incomplete": self.incomplete,
            "tolerance": self.tolerance,
            "steps": None if self.steps is None else self.steps.tolist(),
            "attributions": {name: values.tolist() for name, _, values in self.flat()},
        }

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "",
        labels: Sequence[str] = (),
        features: Sequence[str] = (),
        tokens: Callable[[int], str] | Sequence[str] | None = None,
    ) -> None:
        """Writes a page: images as heat maps, features as bars, tokens in colour.

        Args:
            path: The file, in a folder that exists. An earlier page is replaced.
            title: The heading.
            labels: Names of the elements of the output, such as classes, by index.
            features: Names of the columns of a table.
            tokens: Texts of tokens: a list by token, or a function of the token. None shows the
                numbers.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the file exists and is no page.
        """
        # Imported here: the arrays alone need no templates.
        from tfscale.explain.page import page
        from tfscale.files.output_files import write_whole
        from tfscale.report.page import refuse_other_files

        refuse_other_files(Path(path))
        text = page(self, title=title, labels=labels, features=features, tokens=tokens)
        write_whole(Path(path), text)
