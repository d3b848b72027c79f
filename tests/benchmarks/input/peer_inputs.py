"""Program: PyTorch's DataLoader and grain read the images, and libjpeg decodes them in threads.

It runs in the peers' environment (`make peers`):

python -m tests.benchmarks.input.peer_inputs ADDRESS VARIANT NUM_WORKERS THREADS READING
"""

from __future__ import annotations

import functools
import io
import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.input.images import LABEL_BYTES, PAD, SIZE
from tests.benchmarks.input.reading import Input, Inputs, Reading, program

Decode = Callable[[bytes], np.ndarray]
_TASK = 64
"""Images that a thread of the limit decodes at a time."""


def by_pillow(jpeg: bytes) -> np.ndarray:
    """Decodes an image with Pillow, as most users do."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def by_libjpeg(jpeg: bytes) -> np.ndarray:
    """Decodes an image with little more than a call of libjpeg."""
    import simplejpeg

    pixels: np.ndarray = simplejpeg.decode_jpeg(jpeg, "RGB")
    return pixels


def augmented(image: np.ndarray, *, flip: bool, top: int, left: int) -> np.ndarray:
    """Flips and crops an image."""
    if flip:
        image = image[:, ::-1]
    padded = np.zeros((SIZE + 2 * PAD, SIZE + 2 * PAD, 3), np.uint8)
    padded[PAD:-PAD, PAD:-PAD] = image
    return np.ascontiguousarray(padded[top : top + SIZE, left : left + SIZE])


class Folder:
    """Image files by index, with their classes.

    Args:
        folder: Their folder.
        decode: Decodes an image.
    """

    def __init__(self, folder: Path, decode: Decode) -> None:
        self._paths = [str(path) for path in sorted(folder.glob("*/*.jpg"))]
        self._labels = [int(Path(path).parent.name.removeprefix("class")) for path in self._paths]
        self._decode = decode

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        with open(self._paths[index], "rb") as file:  # noqa: PTH123
            return self._decode(file.read()), self._labels[index]


class Augmented(Folder):
    """The same, flipped and cropped at random: a dataset of PyTorch."""

    def __getitem__(self, index: int) -> Any:
        import torch

        image, label = super().__getitem__(index)
        draw = random.Random(random.random())
        image = augmented(
            image,
            flip=draw.random() < 0.5,
            top=draw.randrange(2 * PAD + 1),
            left=draw.randrange(2 * PAD + 1),
        )
        return torch.from_numpy(image), label


def torch_folder(reading: Reading, *, decode: Decode) -> Input:
    """PyTorch's DataLoader reads image files in worker processes."""
    import torch

    torch.set_num_threads(reading.threads)
    loader = torch.utils.data.DataLoader(
        Augmented(reading.images.folder, decode),
        batch_size=reading.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=reading.threads,
        persistent_workers=True,
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return Input(endless(), decode)


def grain_folder(reading: Reading, *, decode: Decode) -> Input:
    """grain reads image files in worker processes."""
    return _of_grain(Folder(reading.images.folder, decode), reading, decode)


def grain_array_record(reading: Reading, *, decode: Decode) -> Input:
    """grain reads an ArrayRecord file in worker processes."""
    import grain

    return _of_grain(
        grain.sources.ArrayRecordDataSource(str(reading.images.array_record)),
        reading,
        decode,
        functools.partial(_of_record, decode=decode),
    )


def _of_record(record: bytes, *, decode: Decode) -> Any:
    return decode(record[LABEL_BYTES:]), int.from_bytes(record[:LABEL_BYTES], "little")


def _of_grain(
    source: Any, reading: Reading, decode: Decode, parse: Callable[[bytes], Any] | None = None
) -> Input:
    import grain

    examples = grain.MapDataset.source(source).seed(1).shuffle().repeat()
    if parse is not None:
        examples = examples.map(parse)
    # Batched after `to_iter_dataset`: before it, grain would read 500 batches ahead, not examples.
    # One thread a worker process gave more images a second than two, or grain's default of 16.
    streamed = examples.random_map(_augmented_by_grain).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=500)
    )
    options = grain.MultiprocessingOptions(num_workers=reading.threads)
    return Input(iter(streamed.batch(reading.batch_size).mp_prefetch(options)), decode)


def _augmented_by_grain(example: Any, draw: np.random.Generator) -> Any:
    image, label = example
    top, left = (int(place) for place in draw.integers(0, 2 * PAD + 1, 2))
    return augmented(image, flip=draw.random() < 0.5, top=top, left=left), np.int64(label)


def libjpeg(reading: Reading) -> Input:
    """libjpeg decodes images in memory, in threads: nothing is read, changed or batched."""
    jpegs = [path.read_bytes() for path in sorted(reading.images.folder.glob("*/*.jpg"))]
    pool = ThreadPoolExecutor(reading.threads)
    labels = np.zeros(reading.batch_size, np.int64)

    def decoded(part: list[bytes]) -> list[np.ndarray]:
        return [by_libjpeg(jpeg) for jpeg in part]

    def endless() -> Iterator[Any]:
        stream = itertools.cycle(jpegs)
        while True:
            batch = list(itertools.islice(stream, reading.batch_size))
            parts = [batch[start : start + _TASK] for start in range(0, len(batch), _TASK)]
            yield [image for part in pool.map(decoded, parts) for image in part], labels

    return Input(endless(), by_libjpeg)


INPUTS: Inputs = {
    "libjpeg": libjpeg,
    "torch": functools.partial(torch_folder, decode=by_pillow),
    "torch_libjpeg": functools.partial(torch_folder, decode=by_libjpeg),
    "grain": functools.partial(grain_folder, decode=by_pillow),
    "grain_libjpeg": functools.partial(grain_folder, decode=by_libjpeg),
    "grain_array_record": functools.partial(grain_array_record, decode=by_pillow),
    "grain_array_record_libjpeg": functools.partial(grain_array_record, decode=by_libjpeg),
}

if __name__ == "__main__":
    program(INPUTS)
