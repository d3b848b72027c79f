"""The benchmark of reading input: JPEGs are read, decoded, flipped, cropped and batched.

python -m tests.benchmarks input --rounds=7 --keep
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.input.images import PAD, SIZE, image_set
from tests.benchmarks.input.reading import Reading
from tfscale.bench.flags import add_turn_arguments, add_variants_argument
from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.peers.environment import peer_versions
from tfscale.bench.racing import Result, rows_of, run_race
from tfscale.bench.variant import Variant
from tfscale.cli.arguments import count

SUMMARY = "time reading images: decode, augment and batch"

_DESCRIPTION = f"""\
Reads {SIZE}x{SIZE} JPEGs in random order, decodes them, flips and crops them (padded by {PAD}), and
makes batches of uint8. A process of each variant takes batches of an endless stream in turns;
the peers' processes that read for it are counted in processor time and memory. Buffers are emptied
before each turn. The files are generated into the user's cache, and are in the memory of the
operating system when they are read: nothing decoded is kept, but by the variants that cache.
"""
_EPILOG = """\
examples:
  python -m tests.benchmarks input --keep
  python -m tests.benchmarks input --variants=tf_data_tuned,tfscale --num_images=2000 --rounds=3

exit status: 0 measured (goals are informational), 1 a variant failed, 2 wrong usage.
"""
_OURS = "tests.benchmarks.input.tensorflow_inputs"
_PEERS = "tests.benchmarks.input.peer_inputs"
FILES, RECORDS, UNDECODED = "image files", "record files", "record files, read only"
CACHED = "image files, decoded once"
# Largest ratios of time: 1.3 times the examples a second of grain, 1.7 times those of the
# DataLoader, random access at 0.8 of the speed of reading in order, a cache at 6 times the speed
# of naive tf.data.
_GRAIN, _TORCH, _IN_ORDER, _NAIVE = 0.77, 0.59, 1.25, 0.167


def _peer(name: str, text: str, requires: str) -> Variant:
    return Variant(name, text, program=_PEERS, requires=requires, limit="libjpeg")


VARIANTS = (
    Variant(
        "libjpeg",
        "limit: libjpeg in threads, decodes only",
        program=_PEERS,
        requires="simplejpeg",
    ),
    Variant("tf_data_naive", "tf.data: list_files, map, batch", program=_OURS, limit="libjpeg"),
    Variant("tf_data_tuned", "tf.data: the same with AUTOTUNE", program=_OURS, limit="libjpeg"),
    _peer("torch", "DataLoader, Pillow", "torch"),
    _peer("torch_libjpeg", "DataLoader, simplejpeg", "torch"),
    _peer("grain", "grain, Pillow", "grain"),
    _peer("grain_libjpeg", "grain, simplejpeg", "grain"),
    Variant(
        "tfscale",
        "tfscale, image_folder",
        program=_OURS,
        limit="libjpeg",
        peer="grain",
        goal=_GRAIN,
        other_goals={"grain_libjpeg": _GRAIN, "torch": _TORCH, "torch_libjpeg": _TORCH},
    ),
    Variant(
        "tfscale_cache",
        "tfscale, decoded images in a folder",
        program=_OURS,
        peer="tf_data_naive",
        goal=_NAIVE,
    ),
    Variant(
        "tfscale_cache_memory",
        "tfscale, decoded images in memory",
        program=_OURS,
        peer="tf_data_naive",
        goal=_NAIVE,
    ),
    Variant(
        "tf_data_record_naive", "tf.data: TFRecord, map, batch", program=_OURS, limit="libjpeg"
    ),
    Variant(
        "tf_data_record_tuned", "tf.data: the same with AUTOTUNE", program=_OURS, limit="libjpeg"
    ),
    Variant(
        "tfscale_record",
        "tfscale, TFRecord with an index",
        program=_OURS,
        limit="libjpeg",
        peer="tf_data_record_tuned",
    ),
    _peer("grain_array_record", "grain, ArrayRecord, Pillow", "grain"),
    _peer("grain_array_record_libjpeg", "grain, ArrayRecord, simplejpeg", "grain"),
    Variant(
        "tfscale_array_record",
        "tfscale, ArrayRecord",
        program=_OURS,
        limit="libjpeg",
        peer="grain_array_record",
        goal=_GRAIN,
        other_goals={"grain_array_record_libjpeg": _GRAIN},
    ),
    Variant("in_order", "tfscale, ArrayRecord, in order", program=_OURS),
    Variant(
        "at_random",
        "tfscale, ArrayRecord, at random",
        program=_OURS,
        peer="in_order",
        goal=_IN_ORDER,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the benchmark."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_variants_argument(parser, VARIANTS)
    parser.add_argument(
        "--num_images", type=count, default=20_000, metavar="N", help="images (default: 20000)"
    )
    parser.add_argument(
        "--batch_size", type=count, default=256, metavar="N", help="of each batch (default: 256)"
    )
    parser.add_argument(
        "--data_dir", type=Path, metavar="FOLDER", help="of the images (default: the user's cache)"
    )
    add_turn_arguments(parser)


def subject(arguments: argparse.Namespace) -> str:
    """Returns what is measured: only runs of one subject are compared."""
    return f"{arguments.num_images} images"


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Times the variants that the flags choose.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        ValueError: If a batch is larger than the set.
        Failed: If a variant cannot be timed.
    """
    if arguments.batch_size > arguments.num_images:
        raise ValueError(
            f"`--batch_size` must be at most --num_images={arguments.num_images}. Received: "
            f"--batch_size={arguments.batch_size}. Use a smaller batch."
        )
    timeout = arguments.timeout_seconds
    say("images: generated if they are not in the cache")
    images = image_set(arguments.num_images, arguments.data_dir)
    reading = Reading(
        root=str(images.root),
        num_images=images.num_images,
        batch_size=arguments.batch_size,
        steps=images.num_images // arguments.batch_size,
        rounds=arguments.rounds,
        threads=arguments.threads or os.cpu_count() or 1,
        timeout_seconds=timeout,
        patience_seconds=timeout * (len(arguments.variants) + 1),
    )
    machine = Machine.of_this_host()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = run_race(reading, arguments.variants, Path(folder), say)
    counted = reading.rounds - 1
    left_out = ("root", "timeout_seconds", "patience_seconds")
    settings = dataclasses.asdict(reading)
    return Outcome(
        kind="input",
        subject=subject(arguments),
        text=f"{images.num_images} JPEGs of {SIZE}x{SIZE}, batches of {reading.batch_size}, an "
        f"epoch a turn, {reading.threads} threads or worker processes, median of {counted} "
        f"round{'s' if counted > 1 else ''} ({reading.rounds} run, the first dropped)",
        settings={name: value for name, value in settings.items() if name not in left_out},
        machine=machine.at_end(peer_versions()),
        rows=_rows(result, reading),
        notes=(
            "Efficiency is the time of the limit divided by the time of the row. Peak RSS is the "
            "sum over a variant's processes, which count shared pages each. Pixels is a checksum "
            "of decoded images.",
        ),
    )


def _rows(result: Result, reading: Reading) -> tuple[Row, ...]:
    scale = 1e6 / (reading.steps * reading.batch_size)
    return tuple(
        dataclasses.replace(row, group=_group(row.name), facts=_facts(row, result))
        for row in rows_of(result, unit="us an example", scale=scale)
    )


def _facts(row: Row, result: Result) -> dict[str, float | str]:
    if not row.rounds:
        return {}
    pixels = round(result.first_loss[row.name])
    rate = 1e6 / sorted(row.rounds)[len(row.rounds) // 2]
    return {
        "pixels": f"{pixels:08x}" if pixels else "",
        "examples/s": round(rate),
        "peak RSS MiB": row.facts["peak RSS MiB"],
    }


def _group(name: str) -> str:
    if name in ("in_order", "at_random"):
        return UNDECODED
    if "cache" in name:
        return CACHED
    return RECORDS if "record" in name else FILES
