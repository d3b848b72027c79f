"""Sources of examples for an input pipeline.

`RandomAccessSource` is the interface; a source that is made of others implements it too.
"""

from tfscale.data.sources.arrays import ArraySource
from tfscale.data.sources.conversion import Source, as_source
from tfscale.data.sources.random_access import Division, EqualBatches, RandomAccessSource
from tfscale.data.sources.reading import Reader, ReadSource
from tfscale.data.sources.stream import StreamSource

__all__ = [
    "ArraySource",
    "Division",
    "EqualBatches",
    "RandomAccessSource",
    "ReadSource",
    "Reader",
    "Source",
    "StreamSource",
    "as_source",
]
