from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from recipes.images.sets import find_image_set


@pytest.mark.parametrize(
    ("dataset", "image_shape", "num_classes", "largest_pixel", "counts"),
    [
        ("digits", (8, 8, 1), 10, 16, (1437, 360)),
        ("digits:1.0.0", (8, 8, 1), 10, 16, (1437, 360)),
        ("stripes/stripes", (12, 10, 3), 5, 255, (203, 31)),
    ],
)
def test_the_shape_of_a_set_is_read_from_its_description(
    data_dir: str,
    dataset: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    largest_pixel: int,
    counts: tuple[int, int],
) -> None:
    image_set = find_image_set(dataset, data_dir=data_dir)
    image_set.prepare(shows_progress=False)
    assert image_set.image_shape == image_shape
    assert image_set.num_classes == num_classes
    assert image_set.largest_pixel == largest_pixel
    assert tuple(map(image_set.num_examples, ("train", "test"))) == counts
    images, labels = cast("tuple[np.ndarray, np.ndarray]", image_set.read("test"))
    assert images.shape == (counts[1], *image_shape)
    assert labels.max() == num_classes - 1


def test_preparing_prints_nothing_on_standard_output(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    find_image_set("digits", data_dir=str(tmp_path)).prepare(shows_progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "digits downloaded and prepared" in captured.err
