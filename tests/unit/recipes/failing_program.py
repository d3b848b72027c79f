"""A recipe that ends as `--how` says. Run by test_entry_point."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence

import tensorflow as tf
from absl import flags, logging

import strategies
from recipes import entry_point, flag_sections
from recipes.run_record import run_record
from tfscale.report.json import to_json
from tfscale.report.page import render
from tfscale.report.record import Timing


class Deleted:
    """Gets Ctrl-C when it is deleted."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def main(_: Sequence[str]) -> None:
    how = flags.FLAGS.how
    logging.info("an information of a library")
    if how == "refuse":
        raise ValueError("`how` must be fine.\n  Received: how='refuse'. Leave it out.")
    if how == "not yet":
        raise NotImplementedError("`how` is not possible yet. Wait.")
    if how == "own failure":
        raise RuntimeError("The machine is too old. Buy another one.")
    if how == "disk":
        os.stat("/nosuch")  # noqa: PTH116
    if how == "warn":
        tf.get_logger().warning("a warning of TensorFlow")
    if how == "bug":
        json.loads("{")  # A ValueError from somewhere else.
    if how == "key":
        raise KeyError(how)
    if how == "record":
        strategy = strategies.one_device_strategy("CPU:0")
        record = run_record("a record", strategy, results={}, timing=Timing())
        print(json.dumps([flag_sections.values(), json.loads(to_json(record)), render(record)]))
        return
    if how == "interrupt":
        signal.raise_signal(signal.SIGINT)
    if how == "interrupt a deletion":
        deleted = Deleted()
        del deleted
        time.sleep(60)
    print("fine")


if __name__ == "__main__":
    with flag_sections.section("ends"):
        flags.DEFINE_string("how", "", "How to end.")
        flags.DEFINE_bool("quick", False, "End soon.")
        flags.DEFINE_string("api_token", "", "A secret.")
        flags.DEFINE_string("image_key", "image", "No secret.")
        flags.DEFINE_integer("max_tokens", 512, "No secret.")
    entry_point.define("Ends.")
    entry_point.run(main)
