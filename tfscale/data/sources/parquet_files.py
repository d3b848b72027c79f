"""Parquet files, of which a row group is decoded as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strategies.extension import whole_number
from tfscale.data.remote import local_files
from tfscale.data.sources.reading import ReadSource
from tfscale.data.sources.tables import (
    TableReader,
    chosen_columns,
    file_state,
    plain_type,
    pyarrow_library,
    refuse_changed,
    table_source,
)
from tfscale.records.paths import Files, record_paths


def parquet(
    files: Files,
    columns: Sequence[str] | None = None,
    *,
    target: str | None = None,
    cache_bytes: int = 2**28,
) -> ReadSource:
    """Returns the rows of Parquet files as a source.

    An example is a dict of the columns, or with `target` a pair of a dict and that column. Numbers,
    booleans and strings become scalars, fixed-size lists arrays, and other lists ragged rows.

    The smallest part of a file that can be decoded is a row group. Decoded ones are kept, up to
    `cache_bytes`; all threads share them. If the columns do not fit, a permutation of all rows
    decodes a group for nearly each row: pass `shuffle=BlockShuffle(block=rows of a group)`, or
    write smaller groups.

    Args:
        files: A file, a pattern such as "data/part-*.parquet", or a list of them. Remote
            files are copied first: see `local_copies`.
        columns: Names of the columns to read. None reads all.
        target: Name of the column that the model learns.
        cache_bytes: Most bytes of decoded row groups to keep, besides those in use. Not negative.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If a file is missing or damaged, the files have different columns, or a column
            is of another type or missing values. Reading a file that has changed, or a missing
            value that the file does not count, raises `tf.errors.InvalidArgumentError`.

    Example:
        >>> import tempfile, pyarrow, pyarrow.parquet
        >>> import tensorflow as tf
        >>> path = tempfile.mkdtemp() + "/a.parquet"
        >>> pyarrow.parquet.write_table(pyarrow.table({"x": [1.5, 2.5], "label": [0, 1]}), path)
        >>> source = parquet(path, target="label")
        >>> features, label = source.take(tf.constant([1, 0], tf.int64))
        >>> features["x"].numpy(), label.numpy()
        (array([2.5, 1.5]), array([1, 0]))
    """
    whole_number("cache_bytes", cache_bytes, at_least=0, cure="Count bytes.")
    pyarrow_library()
    from pyarrow import parquet as library

    paths = record_paths(local_files(files))
    infos = [_opened(library, path) for path in paths]
    schema = infos[0].schema.to_arrow_schema()
    names = chosen_columns(schema, columns, target, paths)
    digest = hashlib.sha256(repr(names).encode())
    groups: list[tuple[int, int]] = []
    for number, (path, info) in enumerate(zip(paths, infos, strict=True)):
        own = info.schema.to_arrow_schema()
        for name in names:
            found = own.field(name).type if name in own.names else "no such column"
            if found != schema.field(name).type:
                raise ValueError(
                    "`files` must have the same columns. Received: column "
                    f"{name!r} of {path} of type {found}, where {paths[0]} has "
                    f"{schema.field(name).type}. Write it alike, or leave it out: columns=[...]."
                )
        digest.update(f"{Path(path).name} {_footer(path)}".encode())
        groups += [(number, group) for group in range(info.num_row_groups)]
    rows = [infos[file].row_group(group).num_rows for file, group in groups]
    states = [file_state(path) for path in paths]

    def decode(block: int) -> Any:
        file, group = groups[block]
        refuse_changed(paths[file], states[file])
        table = library.ParquetFile(paths[file], metadata=infos[file]).read_row_group(
            group, columns=names
        )
        return table.select(names).cast(plain)

    arrow = pyarrow_library()
    plain = arrow.schema([arrow.field(name, plain_type(schema.field(name))) for name in names])
    reader = TableReader(
        decode,
        rows,
        plain,
        f"parquet {digest.hexdigest()[:16]}",
        lambda block: paths[groups[block][0]],
        cache_bytes,
    )
    return table_source(reader, target)


def _opened(library: Any, path: str) -> Any:
    try:
        return library.read_metadata(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`files` must be complete Parquet files. Received: {path} ({error}). Write it again."
        ) from error


def _footer(path: str) -> str:
    """Returns a hash of a file's description: sizes, places and statistics of its columns."""
    with Path(path).open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(size - 8)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return f"{size} {hashlib.sha256(stream.read()).hexdigest()}"
