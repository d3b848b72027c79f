"""The process that tries one batch size: trains a few steps and writes what it measured.

    python -m tfscale.find.batch_probe REQUEST OUTCOME

REQUEST and OUTCOME are files of JSON, see `Request` and `Outcome`. The process may be killed at any
time, for its memory or its deadline; then there is no OUTCOME.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tfscale.files.room import peak_memory
from tfscale.launch.asked_process import files_of_request, write_answer

_NOISE_BATCHES = 16
_WARM_UP = 2


@dataclass(frozen=True)
class Request:
    """What to try.

    Attributes:
        target: "module:function".
        path: Folders to import from.
        strategy: Name of a strategy of one process.
        num_replicas: Of "mirrored", or None.
        batch_size: Of all replicas together.
        steps: To measure.
        has_noise: Whether to estimate the gradient noise scale after them.
    """

    target: str
    path: list[str]
    strategy: str
    num_replicas: int | None
    batch_size: int
    steps: int
    has_noise: bool


@dataclass(frozen=True)
class Outcome:
    """What was measured, or why not.

    Attributes:
        seconds_per_step: The median.
        host_bytes: Most memory of the process on the host.
        device_bytes: Most memory on one GPU, or None without one.
        noise_scale: In examples, or None if it was not asked for or is not known.
        exhausted: What TensorFlow said when a device had not enough memory.
        error: Another error.
        is_usage: Whether the error is about what the function returned.
    """

    seconds_per_step: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    noise_scale: float | None = None
    exhausted: str | None = None
    error: str | None = None
    is_usage: bool = False


def main(request: Request) -> Outcome:
    """Tries a batch size in this process."""
    sys.path[:0] = [folder for folder in request.path if folder not in sys.path]
    import keras
    import tensorflow as tf

    import strategies
    from tfscale.verify.user_model import WrongUsage, in_one_line

    replicas = {} if request.num_replicas is None else {"num_replicas": request.num_replicas}
    strategy = strategies.strategy_by_name(request.strategy, **replicas)
    keras.utils.set_random_seed(0)
    try:
        model, data = _built(request, strategy)
        seconds = _timed_steps(model, data, request)
        noise = _noise_scale(model, data, request) if request.has_noise else None
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        return Outcome(exhausted=in_one_line(error)[:300])
    except WrongUsage as error:
        return Outcome(error=str(error), is_usage=True)
    except Exception as error:  # of the user's model or data
        return Outcome(error=in_one_line(error)[:1500])
    gpus = [f"GPU:{i}" for i, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    on_devices = [tf.config.experimental.get_memory_info(each)["peak"] for each in gpus]
    return Outcome(
        seconds_per_step=seconds,
        host_bytes=peak_memory(),
        device_bytes=max(on_devices, default=None),
        noise_scale=noise,
    )


def _built(request: Request, strategy: Any) -> tuple[Any, Any]:
    import importlib

    from tfscale.verify.user_model import WrongUsage, checked_model

    module, _, name = request.target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise WrongUsage(f"{request.target} cannot be imported: {error}") from error
    with strategy.scope():
        return checked_model(request.target, function(request.batch_size))


def _timed_steps(model: Any, data: Any, request: Request) -> float:
    """Trains, and returns the median of the seconds between the ends of steps."""
    import keras
    import numpy as np

    class Ends(keras.callbacks.Callback):
        """When steps ended; the result of a step is waited for."""

        def __init__(self) -> None:
            super().__init__()
            self.at: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float((logs or {}).get("loss", 0.0))
            self.at.append(time.perf_counter())

    ends = Ends()
    model.steps_per_execution = 1
    model.fit(
        _batches(data, request),
        epochs=1,
        steps_per_epoch=_WARM_UP + request.steps,
        callbacks=[ends],
        verbose=0,
    )
    return float(np.median(np.diff(ends.at)[_WARM_UP - 1 :]))


def _batches(data: Any, request: Request) -> Any:
    """Returns endless batches of the size; rows of arrays are repeated where there are too few."""
    import numpy as np
    import tensorflow as tf

    from tfscale.find.fresh_data import fresh_data
    from tfscale.verify.user_model import WrongUsage

    size = request.batch_size
    arguments = fresh_data(lambda: data)
    if "batch_size" in arguments:
        arrays = _parts(arguments)
        rows = tf.nest.map_structure(lambda a: np.resize(a, (size, *a.shape[1:])), arrays)
        return tf.data.Dataset.from_tensors(rows).repeat()
    found = arguments["x"]
    first = next(iter(found)) if isinstance(found, tf.data.Dataset) else None
    if first is not None and (rows := int(tf.nest.flatten(first)[0].shape[0])) != size:
        raise WrongUsage(
            f"`{request.target}` must return batches of the size that it is called with. Received: "
            f"batches of {rows} rows for batch_size={size}. Batch the data in that size, or return "
            "arrays."
        )
    return found


def _parts(arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the arrays of arguments of `fit`, as a batch has them."""
    return tuple(arguments[k] for k in ("x", "y", "sample_weight") if k in arguments)


def _noise_scale(model: Any, data: Any, request: Request) -> float | None:
    """Estimates the noise scale at the model's weights, on the first device."""
    import keras
    import tensorflow as tf

    from tfscale.find.noise_scale import NoiseScale

    weights = model.trainable_variables

    @tf.function(reduce_retracing=True)
    def gradients(batch: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
        found = tape.gradient(loss, [weight.value for weight in weights])
        return [tf.convert_to_tensor(each) for each in found if each is not None]

    size, noise = None, None
    for batch in _few(data, request):
        rows = int(tf.nest.flatten(batch)[0].shape[0])
        if noise is None:
            size, noise = rows, NoiseScale(rows)
        if rows == size:
            noise.add([each.numpy() for each in gradients(batch)])
    return None if noise is None else noise.estimate()


def _few(data: Any, request: Request) -> Iterator[Any]:
    """Yields some small batches of different rows, of equal size."""
    import itertools

    import numpy as np
    import tensorflow as tf

    from tfscale.find.fresh_data import fresh_data

    arguments = fresh_data(lambda: data)
    if "batch_size" in arguments:
        arrays = _parts(arguments)
        rows = int(tf.nest.flatten(arrays)[0].shape[0])
        size = max(1, min(request.batch_size, rows // _NOISE_BATCHES))
        order = np.random.default_rng(0).permutation(rows)
        for place in range(min(_NOISE_BATCHES, rows // size)):
            own = order[place * size : (place + 1) * size]
            yield tf.nest.map_structure(lambda a, own=own: tf.convert_to_tensor(a[own]), arrays)
    elif isinstance(arguments["x"], tf.data.Dataset):
        yield from itertools.islice(arguments["x"], _NOISE_BATCHES)


if __name__ == "__main__":
    asked, file = files_of_request()
    write_answer(file, asdict(main(Request(**asked))))
