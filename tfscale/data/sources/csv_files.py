"""CSV files, of which a block of whole rows is decoded at a time."""

from __future__ import annotations

import csv as library
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from strategies.extension import whole_number
from tfscale.data.remote import local_files
from tfscale.data.sources.reading import ReadSource
from tfscale.data.sources.tables import (
    TableReader,
    chosen_columns,
    file_state,
    nulls,
    pyarrow_library,
    refuse_changed,
    table_source,
)
from tfscale.records.paths import Files, record_paths

_BLOCK_BYTES = 2**18
_MOST_ROW_BYTES = 2**26
_QUOTE, _NEWLINE = b'"\n'


def csv(
    files: Files,
    columns: Sequence[str] | None = None,
    *,
    target: str | None = None,
    delimiter: str = ",",
    cache_bytes: int = 2**28,
) -> ReadSource:
    r"""Returns the rows of CSV files with a header as a source.

    An example is a dict of the columns, or with `target` a pair of a dict and that column. All
    files are parsed once here, which finds the types: a column is int64, float64, bool, or else
    string. Only an index stays in memory, about 200 bytes for a block of 256 KiB of rows; later,
    rows are read by block. Decoded blocks are kept, up to `cache_bytes`; all threads share them. If
    the files do not fit, pass `shuffle=BlockShuffle(...)`, or write Parquet.

    Fields in double quotes may contain delimiters, newlines, and quotes written twice (RFC 4180).

    Args:
        files: A file, a pattern such as "data/part-*.csv", or a list of them, in UTF-8. Remote
            files are copied first: see `local_copies`.
        columns: Names of the columns to read. None reads all.
        target: Name of the column that the model learns.
        delimiter: The character between fields.
        cache_bytes: Most bytes of decoded blocks to keep, besides those in use. Not negative.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If a file is missing, has a row with another number of fields or quotes within a
            field without quotes, the headers differ, or a number or bool is missing. Reading a file
            that has changed raises `tf.errors.InvalidArgumentError`.

    Example:
        >>> import pathlib, tempfile
        >>> import tensorflow as tf
        >>> path = pathlib.Path(tempfile.mkdtemp(), "a.csv")
        >>> _ = path.write_text("x,name,label\n1.5,a,0\n2.5,b,1\n")
        >>> features, label = csv(path, target="label").take(tf.constant([1, 0], tf.int64))
        >>> features["x"].numpy(), features["name"].numpy(), label.numpy()
        (array([2.5, 1.5]), array([b'b', b'a'], dtype=object), array([1, 0]))
    """
    whole_number("cache_bytes", cache_bytes, at_least=0, cure="Count bytes.")
    if not isinstance(delimiter, str) or len(delimiter.encode()) != 1 or delimiter in '"\r\n':
        raise ValueError(
            "`delimiter` must be one ASCII character, no quote and no newline. Received: "
            f"delimiter={delimiter!r}. Use ',' or '\\t'."
        )
    arrow = pyarrow_library()
    paths = record_paths(local_files(files))
    header, _ = _header(paths[0], delimiter)
    names = chosen_columns(
        arrow.schema([(n, arrow.null()) for n in header]), columns, target, paths
    )
    digest = hashlib.sha256(repr((names, delimiter)).encode())
    blocks: list[_Block] = []
    types: dict[str, Any] = {name: arrow.null() for name in names}
    missing: dict[str, str] = {}
    for path in paths:
        own, first = _header(path, delimiter)
        if own != header:
            raise ValueError(
                f"`files` must have the same header. Received: {path} with {', '.join(own)}, "
                f"where {paths[0]} has {', '.join(header)}. Write them alike."
            )
        for start, content in _whole_rows(path, first, delimiter):
            table = _parsed(path, content, header, delimiter, dict.fromkeys(names))
            if table.num_rows:
                blocks.append(_Block(path, start, len(content), table.num_rows))
            digest.update(f"{Path(path).name} {len(content)} {zlib.crc32(content)}".encode())
            for name in names:
                types[name] = _common(types[name], table.column(name).type)
                if table.column(name).null_count:
                    missing.setdefault(name, path)
    for name, path in missing.items():
        if types[name] != arrow.string():  # where an empty field is a text
            raise nulls(name, path)
    states = {path: file_state(path) for path in paths}

    def decode(number: int) -> Any:
        block = blocks[number]
        refuse_changed(block.path, states[block.path])
        with Path(block.path).open("rb") as stream:
            stream.seek(block.start)
            return _parsed(block.path, stream.read(block.size), header, delimiter, types)

    reader = TableReader(
        decode,
        [block.rows for block in blocks],
        arrow.schema(list(types.items())),
        f"csv {digest.hexdigest()[:16]}",
        lambda number: blocks[number].path,
        cache_bytes,
    )
    return table_source(reader, target)


class _Block(NamedTuple):
    """Whole rows of a file."""

    path: str
    start: int
    size: int
    rows: int


def _header(path: str, delimiter: str) -> tuple[list[str], int]:
    """Returns the names of a file's columns, and where its rows begin."""
    with Path(path).open("rb") as stream:
        content = stream.read(_BLOCK_BYTES)
    ends = _row_ends(content)
    size = int(ends[0]) if len(ends) else len(content)
    try:
        text = io.StringIO(content[:size].decode("utf-8-sig"), newline="")
        names = next(library.reader(text, delimiter=delimiter), [])
    except (UnicodeDecodeError, library.Error) as error:
        raise _damaged(path, str(error)) from error
    return names, size


def _whole_rows(path: str, start: int, delimiter: str) -> Iterator[tuple[int, bytes]]:
    """Yields blocks of whole rows, and where each begins."""
    rest = b""
    with Path(path).open("rb") as stream:
        stream.seek(start)
        while chunk := stream.read(_BLOCK_BYTES):
            content = rest + chunk
            ends = _row_ends(content)
            size = int(ends[-1]) if len(ends) else 0
            if size:
                yield start, _with_plain_quotes(path, content[:size], delimiter)
            elif len(content) > _MOST_ROW_BYTES:
                raise _damaged(path, f"a row of more than {_MOST_ROW_BYTES} bytes")
            start, rest = start + size, content[size:]
    if rest:
        yield start, _with_plain_quotes(path, rest, delimiter)


def _row_ends(content: bytes) -> np.ndarray:
    """Returns the places after the newlines that are not within quotes."""
    data = np.frombuffer(content, np.uint8)
    is_within = np.bitwise_xor.accumulate((data == _QUOTE).view(np.uint8))
    return np.flatnonzero((data == _NEWLINE) & (is_within == 0)) + 1


def _with_plain_quotes(path: str, content: bytes, delimiter: str) -> bytes:
    """Returns `content` if quotes are only around fields, or twice within quotes.

    Elsewhere they are text, and it is not known whether a newline ends a row.
    """
    data = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    around = np.frombuffer(f'{delimiter}\r\n"'.encode(), np.uint8)
    is_plain = np.isin(data[quotes[0::2] - 1], around).all()
    is_plain &= np.isin(data[quotes[1::2] + 1], around).all()
    if len(quotes) % 2 or not is_plain:
        raise _damaged(path, "a quote within a field without quotes, or one without its end")
    return content


def _parsed(
    path: str, content: bytes, header: list[str], delimiter: str, types: dict[str, Any]
) -> Any:
    """Returns the columns of rows; the types that are None are found."""
    from pyarrow import csv as parser

    arrow = pyarrow_library()
    try:
        return parser.read_csv(
            arrow.BufferReader(content),
            parser.ReadOptions(column_names=header, block_size=len(content) + 1, use_threads=False),
            parser.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            parser.ConvertOptions(
                include_columns=list(types),
                column_types={name: kind for name, kind in types.items() if kind is not None},
            ),
        )
    except arrow.ArrowInvalid as error:
        raise _damaged(path, str(error)) from error


def _common(one: Any, other: Any) -> Any:
    """Returns the type of a column whose blocks have two."""
    arrow = pyarrow_library()
    if arrow.types.is_null(one):
        one = other
    numbers = (arrow.int64(), arrow.float64())
    if one == other or arrow.types.is_null(other):
        return one if one in (*numbers, arrow.bool_(), arrow.null()) else arrow.string()
    return arrow.float64() if one in numbers and other in numbers else arrow.string()


def _damaged(path: str, reason: str) -> ValueError:
    return ValueError(
        "`files` must be CSV files in UTF-8, with a header, as many fields in every row, and "
        f"double quotes around a whole field only. Received: {path} ({reason}). Write it again, "
        "for instance with Python's csv module."
    )
