"""Folders of images, compared with what PIL decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data import taking
from tfscale.data import image_folder

Image = pytest.importorskip("PIL.Image")


def pixels(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes with 2, 1 and 1 images, and things that are no images."""
    for name in ("cat", "ant", "dog", ".hidden"):
        (tmp_path / name).mkdir()
    Image.fromarray(pixels(0)).save(tmp_path / "cat" / "b.png")
    Image.fromarray(pixels(1)).save(tmp_path / "cat" / "A.BMP")
    Image.fromarray(pixels(2)).save(tmp_path / "ant" / "1.png")
    (tmp_path / "elsewhere").write_bytes((tmp_path / "ant" / "1.png").read_bytes())
    (tmp_path / "dog" / "link.png").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cat" / ".c.png").write_bytes(b"hidden")
    (tmp_path / "cat" / "notes.txt").write_bytes(b"no image")
    return tmp_path


def taken(source: Any, rows: list[int]) -> Any:
    images, labels = taking.taken(source, rows)
    return images.numpy(), labels.numpy()


def test_examples_are_in_the_order_of_class_and_file_name(folder: Path) -> None:
    source = image_folder(folder)
    assert source.class_names == ("ant", "cat", "dog")
    names = [str(Path(path).relative_to(folder)) for path in source.files]
    assert names == ["ant/1.png", "cat/A.BMP", "cat/b.png", "dog/link.png"]
    images, labels = taken(source, [3, 1, 2, 0])
    assert labels.tolist() == [2, 1, 1, 0]
    np.testing.assert_array_equal(images, [pixels(2), pixels(1), pixels(0), pixels(2)])


def test_gray_and_colour_are_converted_to_the_channels_wanted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    gray = pixels(0)[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "a" / "gray.png")
    images, _ = taken(image_folder(tmp_path), [0])
    np.testing.assert_array_equal(images[0], np.stack([gray] * 3, -1))
    images, _ = taken(image_folder(tmp_path, channels=1), [0])
    np.testing.assert_array_equal(images[0, :, :, 0], gray)


@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
def test_a_jpeg_has_the_pixels_that_pil_decodes(tmp_path: Path, subsampling: int) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "1.JPEG"
    Image.fromarray(pixels(0, 33, 48)).save(path, subsampling=subsampling)
    images, _ = taken(image_folder(tmp_path), [0])
    np.testing.assert_array_equal(images[0], Image.open(path))
    # TensorFlow's default takes the fast transform: this test can fail.
    assert (tf.io.decode_image(path.read_bytes()).numpy() != images[0]).mean() > 0.1


def test_a_jpeg_beside_other_kinds_has_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels(0)).save(tmp_path / "a" / "1.jpg")
    Image.fromarray(pixels(1)).save(tmp_path / "a" / "2.BMP")
    Image.fromarray(pixels(2)).save(tmp_path / "a" / "3.png")
    frames = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (40, 200)]
    frames[0].save(tmp_path / "a" / "4.GIF", save_all=True, append_images=frames[1:])
    images, _ = taken(image_folder(tmp_path), [3, 2, 1, 0])
    jpeg = np.asarray(Image.open(tmp_path / "a" / "1.jpg"))
    np.testing.assert_array_equal(images, [frames[0], pixels(2), pixels(1), jpeg])


def test_the_first_frame_of_a_gif_is_the_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (40, 200)]
    frames[0].save(tmp_path / "a" / "1.gif", save_all=True, append_images=frames[1:])
    images, _ = taken(image_folder(tmp_path), [0])
    assert images.shape == (1, 4, 4, 3)
    assert np.abs(images.astype(int) - 40).max() <= 8


def test_images_are_resized_as_a_mean_over_the_pixels_they_cover(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for seed, height in enumerate((8, 16)):
        blocks = pixels(seed, 4, 4).repeat(height // 4, axis=0).repeat(2, axis=1)
        Image.fromarray(blocks).save(tmp_path / "a" / f"{seed}.png")
    source = image_folder(tmp_path, image_size=(4, 4))
    images, _ = taken(source, [0, 1])
    assert (images.dtype, images.shape) == (np.uint8, (2, 4, 4, 3))
    for seed in (0, 1):
        with Image.open(tmp_path / "a" / f"{seed}.png") as image:
            expected = np.asarray(image.resize((4, 4), Image.Resampling.BILINEAR), int)
        assert np.abs(images[seed] - expected).max() <= 1


def test_a_batch_without_rows_is_empty(folder: Path) -> None:
    images, labels = taken(image_folder(folder), [])
    assert (images.shape, labels.shape) == ((0, 6, 5, 3), (0,))


@pytest.mark.parametrize("damage", ["cut", "text", "header", "body", "gone", "empty"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_broken_image_is_named(folder: Path, damage: str, kind: str) -> None:
    path = folder / "cat" / f"q.{kind}"
    Image.fromarray(pixels(5)).save(path)
    source = image_folder(folder)
    good = path.read_bytes()
    broken = {
        "cut": good[: len(good) // 2],
        "text": b"no image",
        "header": good[:20] + b"\0" * 12 + good[32:],
        "body": good[: len(good) // 2] + b"\xff\xfe" * 8 + good[len(good) // 2 + 16 :],
        "empty": b"",
    }
    path.unlink() if damage == "gone" else path.write_bytes(broken[damage])
    try:
        images, _ = taken(source, [0, 3, 4])
    except tf.errors.InvalidArgumentError as error:
        assert f"Received: {path}" in str(error)  # noqa: PT017
        assert "Repair, convert or remove" in str(error)  # noqa: PT017
    else:  # libjpeg decodes some damage, with other pixels
        assert (kind, images.shape) == ("jpg", (3, 6, 5, 3))
        assert damage in ("body", "header")


def test_an_image_of_another_size_is_named_with_the_cure(folder: Path) -> None:
    Image.fromarray(pixels(5, 7, 5)).save(folder / "cat" / "q.png")
    source = image_folder(folder)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"q\.png of 7 x 5, while .*1\.png has 6 x 5\. Pass"
    ):
        taken(source, [0, 3])


def test_the_fingerprint_changes_with_names_sizes_and_decoding(folder: Path) -> None:
    first = image_folder(folder).fingerprint
    assert image_folder(folder).fingerprint == first
    assert image_folder(folder, channels=1).fingerprint != first
    (folder / "ant" / "1.png").rename(folder / "ant" / "2.png")
    assert image_folder(folder).fingerprint != first


def test_a_subset_has_the_same_classes(folder: Path) -> None:
    source = image_folder(folder).subset(np.array([3, 0]))
    assert source.class_names == ("ant", "cat", "dog")
    images, labels = taken(source, [0, 1])
    assert labels.tolist() == [2, 0]
    np.testing.assert_array_equal(images, [pixels(2), pixels(2)])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("empty/", r"at least one image in every class.*empty without one\. Add images"),
        ("cat/deep/", r"cat/deep inside of class 'cat'\. Move its images up"),
        ("cat/x.webp", r"cat/x\.webp\. Convert or remove it"),
        ("ant/0.png", r"3 channels\. Received: .*ant/0\.png.*\. Repair"),
    ],
)
def test_a_wrong_folder_is_refused_with_the_cure(folder: Path, made: str, message: str) -> None:
    path = folder / made
    path.mkdir() if made.endswith("/") else path.write_bytes(b"1234")
    with pytest.raises(ValueError, match=message):
        image_folder(folder)


def test_a_link_without_a_file_is_refused(folder: Path) -> None:
    (folder / "cat" / "lost.png").symlink_to(folder / "nowhere")
    with pytest.raises(ValueError, match=r"lost\.png \(No such file or directory\)"):
        image_folder(folder)


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no subfolder\. Move the images to .*/CLASS/"):
        image_folder(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere' \(No such file or directory\)"):
        image_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, (4,), (4, 0), (4, 4.0), "4", True])
def test_a_wrong_size_is_refused(folder: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r"`image_size` must be .*Example"):
        image_folder(folder, image_size=size)
