"""The images of the input benchmark: 64x64 JPEGs, generated reproducibly into a cache folder.

They are in three forms, with the same bytes: a folder of files, one subfolder a class; TFRecord
files of `tf.train.Example`; and an ArrayRecord file, whose record is the label (int64, little
endian) and the JPEG.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 64
"""Height and width in pixels."""
PAD = 4
"""Pixels of border before the random crop to SIZE."""
CLASSES = 10
RECORD_SHARDS = 4
LABEL_BYTES = 8
_SEED = 7
_QUALITY = 90
_VERSION = 1
"""Part of the folder's name: a change of the images needs another one."""


@dataclass(frozen=True)
class ImageSet:
    """The files of a set.

    Attributes:
        root: Folder of the set.
        num_images: Number of images.
    """

    root: Path
    num_images: int

    @property
    def folder(self) -> Path:
        """One subfolder a class, with files `<number>.jpg`."""
        return self.root / "folder"

    @property
    def record_files(self) -> list[Path]:
        """TFRecord files with the features "image" and "label"."""
        return [self.root / f"{index}.tfrecord" for index in range(RECORD_SHARDS)]

    @property
    def array_record(self) -> Path:
        """An ArrayRecord file with one record a group."""
        return self.root / "images.array_record"


def cache_folder() -> Path:
    """Returns the folder of generated files, below the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tfscale" / "benchmarks"


def image_set(num_images: int, folder: Path | None = None) -> ImageSet:
    """Returns a set of images, generated if it is not there yet.

    Args:
        num_images: Positive.
        folder: Where sets are kept; None means `cache_folder()`.
    """
    root = (folder or cache_folder()) / f"jpeg{SIZE}_v{_VERSION}_{num_images}"
    images = ImageSet(root, num_images)
    if not root.exists():
        part = root.with_name(f"{root.name}.part{os.getpid()}")
        part.mkdir(parents=True)
        try:
            _write(ImageSet(part, num_images))
            part.rename(root)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return images


def pixels(index: int) -> np.ndarray:
    """Returns image `index` before compression, uint8 [SIZE, SIZE, 3].

    A sky of smooth colour, some discs and bars with sharp edges, and a little grain: it compresses
    like a photograph (about 2 KB), neither like noise nor like a plain area.
    """
    draw = np.random.default_rng([_SEED, index])
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    corners = draw.uniform(40, 215, [2, 2, 3])
    top = corners[0, 0] * (1 - x[..., None]) + corners[0, 1] * x[..., None]
    bottom = corners[1, 0] * (1 - x[..., None]) + corners[1, 1] * x[..., None]
    image = top * (1 - y[..., None]) + bottom * y[..., None]
    for _ in range(draw.integers(3, 8)):
        colour, centre = draw.uniform(0, 255, 3), draw.uniform(0, 1, 2)
        radius, angle = draw.uniform(0.05, 0.3), draw.uniform(0, np.pi)
        along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        if draw.random() < 0.5:
            inside = along**2 + across**2 < radius**2
        else:
            inside = (np.abs(along) < 2 * radius) & (np.abs(across) < radius / 3)
        shade = 1 + 0.3 * np.sin(along * draw.uniform(5, 60))[..., None]
        image = np.where(inside[..., None], colour * shade, image)
    image += draw.normal(0, 4, [SIZE, SIZE, 1])
    found: np.ndarray = np.clip(image, 0, 255).astype(np.uint8)
    return found


def label(index: int) -> int:
    """Returns the class of image `index`."""
    return index % CLASSES


def _write(images: ImageSet) -> None:
    import tensorflow as tf
    from array_record.python import array_record_module

    for number in range(CLASSES):
        (images.folder / f"class{number}").mkdir(parents=True)
    records: list[Any] = [tf.io.TFRecordWriter(str(path)) for path in images.record_files]
    array_record = array_record_module.ArrayRecordWriter(str(images.array_record), "group_size:1")
    for index in range(images.num_images):
        jpeg = tf.io.encode_jpeg(pixels(index), quality=_QUALITY).numpy()
        number = label(index)
        path = images.folder / f"class{number}" / f"{index:06}.jpg"
        path.write_bytes(jpeg)
        features = {
            "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        records[index * RECORD_SHARDS // images.num_images].write(example.SerializeToString())
        array_record.write(number.to_bytes(LABEL_BYTES, "little") + jpeg)
    for writer in (*records, array_record):
        writer.close()
