"""Images in folders, one for each class.

train = tfscale.data.image_folder("flowers/train", image_size=(64, 64))
pipeline = tfscale.data.input_pipeline(train, strategy, 256)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.python_calls import call_python
from tfscale.data.sources.image_decoding import ENDINGS, ImageDecoding, endings_of
from tfscale.data.sources.reading import ReadSource

# Images that TensorFlow cannot decode. Leaving them out would train on other data without a word.
_OTHER_ENDINGS = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".tif", ".tiff", ".webp")


def image_folder(
    folder: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
) -> ImageFolder:
    """Returns the images of a folder with one subfolder for each class, as a source.

    An example is `(image, label)`: uint8 [H, W, channels] and int64, the number of the class. The
    classes are numbered in the order of their names, and examples are in the order of class and
    file name. Files are read and decoded in the graph, outside Python's lock.

    JPEG, PNG, BMP and the first frame of GIF are images; the ending of the name tells, in upper or
    lower case. A JPEG has the pixels that Pillow and `keras.utils.load_img` decode.
    `image_dataset_from_directory` takes libjpeg's fast transform, which differs by some levels in
    most pixels. Hidden files, files of other kinds, and files beside the class folders are ignored.
    Symbolic links are followed. Build the strategy first, because reading initialises TensorFlow.

    Args:
        folder: The folder. Local.
        image_size: `(height, width)`, or one number for both: every image is resized to it,
            bilinear with antialiasing, without keeping the aspect ratio. None: all images must have
            the size of the first.
        channels: 3 for RGB, 1 for gray, 4 for RGBA (PNG and BMP only).

    Raises:
        ValueError: If `folder` has no subfolder, a class has no image, a class folder contains a
            folder or an image of another kind, or the first image cannot be decoded. A step that
            reads another broken file raises `tf.errors.InvalidArgumentError`, which names it.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     image = tf.zeros([8, 8, 3], tf.uint8)
        ...     _ = (folder / name / "1.png").write_bytes(tf.io.encode_png(image).numpy())
        >>> source = image_folder(folder)
        >>> source.class_names, source.num_examples, source.image_shape
        (('cat', 'dog'), 2, (8, 8, 3))
    """
    root = os.fspath(folder)
    size = _checked_size(image_size)
    if isinstance(channels, bool) or channels not in (1, 3, 4):
        raise ValueError(
            "`channels` must be 1, 3 or 4. Received: "
            f"channels={channels!r}. Use 3 for RGB, 1 for gray."
        )
    class_names = _class_names(root)
    files, labels = [], []
    for label, name in enumerate(class_names):
        found = _images(Path(root, name))
        files += found
        labels += [label] * len(found)
    sizes = [_size(path) for path in files]
    return ImageFolder(
        root,
        class_names,
        files,
        np.array(labels, np.int64),
        sizes,
        image_size=size,
        channels=channels,
    )


class ImageFolder(ReadSource):
    """Images of a folder: what `image_folder` returns.

    Attributes:
        class_names: Names of the classes, in the order of their numbers.
        files: Path of every image.
        labels: int64 [num_examples], the number of every image's class.
        sizes: Bytes of every file.
        image_shape: `(height, width, channels)` of every image.
        decoding: How their pixels are decoded.
    """

    def __init__(
        self,
        folder: str,
        class_names: Sequence[str],
        files: Sequence[str],
        labels: np.ndarray,
        sizes: Sequence[int],
        *,
        image_size: tuple[int, int] | None,
        channels: int,
    ) -> None:
        """See `image_folder`."""
        self.class_names = tuple(class_names)
        self.files = tuple(files)
        self.labels = labels
        self.sizes = tuple(sizes)
        self._folder = folder
        self._image_size, self._channels = image_size, channels
        self.image_shape = (*(image_size or self._first_size()), channels)
        self.decoding = ImageDecoding(self.image_shape, image_size, endings_of(files))
        super().__init__(_Files(self.files, labels, self._described()), self._decode)

    def subset(self, indices: np.ndarray) -> ImageFolder:
        """Returns the source of some of the images, with the same classes and the same size.

        Args:
            indices: int64 [n], each in `[0, num_examples)`. At least one.
        """
        return ImageFolder(
            self._folder,
            self.class_names,
            [self.files[index] for index in indices],
            self.labels[indices],
            [self.sizes[index] for index in indices],
            image_size=self._image_size,
            channels=self._channels,
        )

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the images and labels at `indices`, int64 [n]."""
        # An op that fails does not say which file it failed for. If one does, the batch has no
        # element here, and what follows in the dataset finds the file and says what is wrong.
        batch = tf.data.Dataset.from_tensors(indices).map(super().take).ignore_errors()
        blamed = tf.data.Dataset.from_tensors(indices).map(self._blamed)
        images, labels = batch.concatenate(blamed).take(1).get_single_element()
        rows = indices.shape[0]
        images.set_shape([rows, *self.image_shape])
        labels.set_shape([rows])
        return images, labels

    def take_encoded(self, indices: tf.Tensor) -> Any:
        """Returns the contents of the files and the labels at `indices`, int64 [n]."""
        paths, labels = self._read(indices)
        return tf.map_fn(tf.io.read_file, paths), labels

    def _decode(self, example: Any) -> tuple[tf.Tensor, tf.Tensor]:
        path, label = example
        image = self.decoding.decode(tf.io.read_file(path), tf.strings.substr(path, -4, 4))
        return image, label

    def _blamed(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = call_python(self._raise_first_error, [indices], [tf.uint8, tf.int64])
        return tf.ensure_shape(images, [indices.shape[0], *self.image_shape]), labels

    def _raise_first_error(self, indices: np.ndarray) -> Any:
        # If no file fails this time, the file was completed meanwhile, or memory was short.
        images = [self.decoded(index) for index in indices]
        return np.stack(images), self.labels[indices]

    def decoded(self, index: int) -> np.ndarray:
        """Returns one image, uint8 [H, W, channels].

        Args:
            index: In `[0, num_examples)`.

        Raises:
            ValueError: If it cannot be read, or has another size.
        """
        path = self.files[index]
        try:
            with tf.device("CPU:0"):
                image, _ = self._decode((tf.constant(os.fsencode(path)), tf.constant(0, tf.int64)))
                return np.asarray(image)
        except (tf.errors.OpError, ValueError) as error:
            size = self._size_of(path)
            if size is not None and self._image_size is None and size != self.image_shape[:2]:
                raise ValueError(
                    "`folder` must contain images of one size if `image_size` is not passed. "
                    f"Received: {path} of {size[0]} x {size[1]}, while {self.files[0]} has "
                    f"{self.image_shape[0]} x {self.image_shape[1]}. Pass image_size=(height, "
                    "width)."
                ) from error
            raise _broken(path, self._channels, error) from error

    def _size_of(self, path: str) -> tuple[int, int] | None:
        try:
            with tf.device("CPU:0"):
                contents = tf.io.read_file(os.fsencode(path))
                image = tf.io.decode_image(
                    contents, channels=self._channels, expand_animations=False
                )
        except tf.errors.OpError:
            return None
        return int(image.shape[0]), int(image.shape[1])

    def _first_size(self) -> tuple[int, int]:
        size = self._size_of(self.files[0])
        if size is None:
            raise _broken(self.files[0], self._channels, None)
        return size

    def _described(self) -> str:
        """A hash of names and sizes, and how images are decoded."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for path, label, size in zip(self.files, self.labels, self.sizes, strict=True):
            name = os.path.relpath(path, self._folder)
            digest.update(os.fsencode(f"{name}\0{label}\0{size}\n"))
        return f"images {self.image_shape} {digest.hexdigest()[:16]}"


class _Files:
    """Reads the path and the label of images."""

    def __init__(self, files: Sequence[str], labels: np.ndarray, fingerprint: str) -> None:
        self.num_examples = len(files)
        self.element_spec = (tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64))
        self.fingerprint = fingerprint
        self._paths = np.array([os.fsencode(path) for path in files], object)
        self._labels = labels

    def read(self, indices: np.ndarray) -> Any:
        return self._paths[indices], self._labels[indices]


def _broken(path: str, channels: int, error: Exception | None) -> ValueError:
    """Returns the error about a file that is no complete image."""
    reason = f" ({str(error).splitlines()[0]})" if error is not None and str(error) else ""
    return ValueError(
        f"`folder` must contain images that decode to {channels} channels. Received: "
        f"{path}{reason}. Repair, convert or remove the file, and build the source again."
    )


def _checked_size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if type(image_size) is int else image_size
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(type(size) is int and size > 0 for size in pair):
        raise ValueError(
            "`image_size` must be (height, width) or one number, positive integers. Received: "
            f"image_size={image_size!r}. Example: image_size=(64, 64)."
        )
    return pair[0], pair[1]


def _class_names(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise ValueError(
            f"`folder` must be a folder that can be read. Received: folder={root!r} "
            f"({error.strerror}). Check the path."
        ) from error
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise ValueError(
            "`folder` must have one subfolder for each class. Received: "
            f"folder={root!r}, which has no subfolder. Move the images to {root}/CLASS/."
        )
    return names


def _images(folder: Path) -> list[str]:
    """Returns the paths of the images of one class, sorted by name."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            ending = Path(entry.name).suffix.lower()
            if entry.is_dir():
                raise ValueError(
                    "`folder` must have images in its class folders. Received: the folder "
                    f"{entry.path} inside of class {folder.name!r}. Move its images "
                    "up, or pass a folder one level below."
                )
            if ending in _OTHER_ENDINGS:
                raise ValueError(
                    "`folder` must contain images that TensorFlow decodes: JPEG, PNG, BMP or GIF. "
                    f"Received: {entry.path}. Convert or remove it."
                )
            if ending in ENDINGS:
                files.append(entry.path)
    if not files:
        raise ValueError(
            "`folder` must have at least one image in every class folder. Received: "
            f"{folder} without one. Add images ({', '.join(ENDINGS)}), or remove the folder."
        )
    return sorted(files)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise ValueError(
            f"`folder` must contain files that can be read. Received: {path} ({error.strerror}). "
            "Restore or remove it."
        ) from error
