"""Input pipelines: sources of examples, divided into global batches and replica batches.

train = tfscale.data.input_pipeline((images, labels), strategy, global_batch_size=256, seed=0)
model.fit(train, epochs=10)
"""

from strategies.extension import replica_batch_bounds, replica_batches
from tfscale.data import tfds
from tfscale.data.augmentation import random_flip, random_shift
from tfscale.data.cache import cached
from tfscale.data.composition import bucketed, filtered, mapped, mixture, packed
from tfscale.data.order import BlockShuffle
from tfscale.data.packing import PackedSource, pack, shards
from tfscale.data.pipeline import Pipeline, input_pipeline
from tfscale.data.remote import local_copies
from tfscale.data.service.served import served
from tfscale.data.shared import shared
from tfscale.data.sources import RandomAccessSource, Reader, ReadSource
from tfscale.data.sources.array_record_files import array_record
from tfscale.data.sources.csv_files import csv
from tfscale.data.sources.image_folder import ImageFolder, image_folder
from tfscale.data.sources.indexed import indexed
from tfscale.data.sources.json_files import json_lines
from tfscale.data.sources.line_files import text_lines
from tfscale.data.sources.parquet_files import parquet
from tfscale.data.sources.record_files import record_files

__all__ = [
    "BlockShuffle",
    "ImageFolder",
    "PackedSource",
    "Pipeline",
    "RandomAccessSource",
    "ReadSource",
    "Reader",
    "array_record",
    "bucketed",
    "cached",
    "csv",
    "filtered",
    "image_folder",
    "indexed",
    "input_pipeline",
    "json_lines",
    "local_copies",
    "mapped",
    "mixture",
    "pack",
    "packed",
    "parquet",
    "random_flip",
    "random_shift",
    "record_files",
    "replica_batch_bounds",
    "replica_batches",
    "served",
    "shards",
    "shared",
    "text_lines",
    "tfds",
]
