"""Prepares the set "squares" in DATA_DIR, as one task of several. Run by test_tfds_preparation.

python prepare_squares.py DATA_DIR SILENCE_SECONDS

Says on stdout: "generating PID" in the middle of generation, when it waits for a line on stdin;
"waiting" when it waits for another task; at the end the number of train examples.
"""

from __future__ import annotations

import logging
import sys

from absl import logging as absl_logging

from tests.unit.tfscale.data import squares_dataset_builder
from tfscale.data import tfds, work_lock
from tfscale.data.tfds_preparation import prepare


class _SayWaiting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        print("waiting" if message.startswith("Waiting") else message, flush=True)


absl_logging.get_absl_logger().addHandler(_SayWaiting(logging.WARNING))
work_lock.FIRST_NOTICE_SECONDS = 0.0
work_lock.SECONDS_BETWEEN_NOTICES = 600.0
squares_dataset_builder.wait_for_line = True
builder = tfds.find_builder("squares/fixed", data_dir=sys.argv[1])
prepare(builder, is_preparer=True, deadline_seconds=300.0, silence_seconds=float(sys.argv[2]))
print(len(tfds.load_arrays(builder, "train")[1]), flush=True)
