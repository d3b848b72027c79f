"""Chooses the test images of the bundled digits and writes their indices, one per line.

    python -m recipes.digits.split

Systematic stratified sampling: the images are sorted by class, within a class by the SHA-256 of
"seed:index", and every fifth of that list is a test image. A hash, unlike a random generator,
gives the same order under every version of Python and NumPy.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import pathlib

SEED = 0
EVERY = 5
FOLDER = pathlib.Path(__file__).parent


def choose_test_indices(labels: list[int], *, seed: int = SEED, every: int = EVERY) -> list[int]:
    """Returns the sorted indices of one image in `every`, so that each class keeps its proportion.

    Args:
        labels: The class of each image, in file order.
        seed: Another seed gives another split.
        every: One image in this many is a test image. Positive.

    Returns:
        Indices into `labels`, ascending.

    Raises:
        ValueError: If `every` is not positive.

    Example:
        >>> len(choose_test_indices([0, 1] * 10))
        4
    """
    if every < 1:
        raise ValueError(
            f"`every` must be a positive integer. Received: every={every!r}. "
            "Pass 5 to test on a fifth of the images."
        )

    def rank(index: int) -> tuple[int, bytes]:
        return labels[index], hashlib.sha256(f"{seed}:{index}".encode()).digest()

    return sorted(sorted(range(len(labels)), key=rank)[::every])


def main() -> None:
    """Writes `test_indices.txt` to the folder of this file."""
    with gzip.open(FOLDER / "digits.csv.gz", "rt", newline="") as stream:
        labels = [int(row[-1]) for row in csv.reader(stream)]
    indices = choose_test_indices(labels)
    (FOLDER / "test_indices.txt").write_text("".join(f"{index}\n" for index in indices))
    print(f"{len(indices)} of {len(labels)} images are test images: {FOLDER / 'test_indices.txt'}")


if __name__ == "__main__":
    main()
