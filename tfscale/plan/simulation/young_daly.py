"""How often a job should save, and how long it takes with failures: Young's and Daly's formulas."""

from __future__ import annotations

import math

from strategies.extension import number, whole_number

_LARGEST_EXPONENT = 700.0  # exp of more overflows


def checkpoint_interval(*, save_seconds: float, failure_seconds: float, workers: int = 1) -> float:
    """Returns the seconds of training between two saves that make a job shortest.

    With delta = `save_seconds` and M = `failure_seconds` / `workers`, the mean time between
    failures of the job:

        sqrt(2 delta M) (1 + sqrt(delta / (2 M)) / 3 + delta / (2 M) / 9) - delta

    The first factor is Young's interval. Failures are independent and their rate is constant. The
    time of a restart does not change the interval: a job pays it for every failure, however often
    it saves. The optimum is flat: half of it or twice as much costs a few percent.

    Args:
        save_seconds: What a save takes from training, in seconds. Positive and below 2 M. For
            `tfscale.callbacks.Checkpoint`, which writes beside the next steps, less than the
            seconds until a save is written.
        failure_seconds: Mean time between failures of one worker, in seconds. Positive. With the
            time of the whole job leave `workers` at 1.
        workers: Workers of the job. Each failure of one ends all of them. Positive.

    Returns:
        Seconds, from the end of a save to the beginning of the next one.

    Raises:
        ValueError: If an argument is out of range, or the interval too long for a float. With
            `save_seconds` of 2 M or more Daly's series does not hold, and such a job hardly
            advances.

    Example:
        A save of a minute, 64 workers of which each fails once in half a year:

        >>> round(checkpoint_interval(save_seconds=60, failure_seconds=182 * 86400, workers=64))
        5390

    Source: Young 1974, "A first order approximation to the optimum checkpoint interval", doi
    10.1145/361147.361115; Daly 2006, "A higher order estimate of the optimum checkpoint interval
    for restart dumps", doi 10.1016/j.future.2004.11.016, equation 37.
    """
    delta = positive_seconds("save_seconds", save_seconds)
    mean = positive_seconds("failure_seconds", failure_seconds) / whole_number("workers", workers)
    if delta >= 2 * mean:
        raise ValueError(
            "`save_seconds` must be less than twice the mean time between failures of the job, "
            f"{mean:g} s. Received: save_seconds={save_seconds!r}. Such a job hardly advances: "
            "save faster, or use fewer workers."
        )
    ratio = delta / (2 * mean)
    interval = math.sqrt(2 * delta * mean) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - delta
    if not math.isfinite(interval):
        raise ValueError(
            "`failure_seconds` and `save_seconds` must have an interval that a float can hold. "
            f"Received: failure_seconds={failure_seconds!r} with save_seconds={save_seconds!r}. A "
            "job whose workers fail so rarely needs no save but the last."
        )
    return interval


def expected_run_seconds(
    *,
    train_seconds: float,
    interval_seconds: float,
    save_seconds: float,
    failure_seconds: float,
    workers: int = 1,
    restart_seconds: float = 0.0,
) -> float:
    """Returns the mean time that a job takes if it fails now and then, saves and restarts.

    With tau = `interval_seconds`, delta = `save_seconds`, R = `restart_seconds`, M =
    `failure_seconds` / `workers`:

        M exp(R / M) (exp((tau + delta) / M) - 1) train_seconds / tau

    That is exact for failures of a constant rate, which may also come during a save or a restart,
    if training stands still during a save, and the work is a whole number of intervals.

    Args:
        train_seconds: What the job would take without saves and failures. Positive.
        interval_seconds: Seconds of training between two saves. Positive.
        save_seconds: Seconds of a save. At least 0.
        failure_seconds: Mean time between failures of one worker, in seconds. Positive.
        workers: Workers of the job. Each failure of one ends all of them. Positive.
        restart_seconds: From a failure to the first step that follows. At least 0.

    Returns:
        Seconds.

    Raises:
        ValueError: If an argument is out of range, or the time is too large for a float.

    Example:
        >>> hour = 3600.0
        >>> seconds = expected_run_seconds(
        ...     train_seconds=100 * hour, interval_seconds=hour, save_seconds=60.0,
        ...     failure_seconds=24 * hour, restart_seconds=120.0,
        ... )
        >>> round(seconds / hour, 1)
        104.0

    Source: Daly 2006, doi 10.1016/j.future.2004.11.016, equation 20.
    """
    work = positive_seconds("train_seconds", train_seconds)
    tau = positive_seconds("interval_seconds", interval_seconds)
    delta = seconds_from_zero("save_seconds", save_seconds)
    restart = seconds_from_zero("restart_seconds", restart_seconds)
    mean = positive_seconds("failure_seconds", failure_seconds) / whole_number("workers", workers)
    exponent = (tau + delta + restart) / mean
    if exponent > _LARGEST_EXPONENT:
        raise ValueError(
            "`interval_seconds` must be short enough for the job to reach a save between two "
            f"failures, which are {mean:g} s apart. Received: interval_seconds="
            f"{interval_seconds!r} with save_seconds={save_seconds!r} and restart_seconds="
            f"{restart_seconds!r}. `checkpoint_interval` returns the best one."
        )
    found = mean * math.exp(restart / mean) * math.expm1((tau + delta) / mean) * work / tau
    if not math.isfinite(found):
        raise ValueError(
            "`train_seconds` must give a time that a float can hold. Received: train_seconds="
            f"{train_seconds!r} with interval_seconds={interval_seconds!r}. Pass seconds."
        )
    return found


def positive_seconds(name: str, value: float) -> float:
    """Returns a time in seconds as a float.

    Raises:
        ValueError: If it is not a positive number.
    """
    cure = "Pass seconds."
    return number(name, value, "finite and positive", lambda found: found > 0, cure=cure)


def seconds_from_zero(name: str, value: float) -> float:
    """Returns a time in seconds as a float.

    Raises:
        ValueError: If it is not a number of at least 0.
    """
    cure = "Pass seconds."
    return number(name, value, "finite and at least 0", lambda found: found >= 0, cure=cure)
