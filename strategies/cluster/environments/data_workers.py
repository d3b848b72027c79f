"""The data workers of this job, which compute its input, as `tfscale launch` describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from strategies.cluster.environments.variables import integer_variable

DATA_WORKERS_VARIABLE = "TFSCALE_DATA_WORKERS"
"""The variable for the addresses of the data workers: host:port,host:port,..."""
DATA_WORKER_VARIABLE = "TFSCALE_DATA_WORKER"
"""The variable for the index of this process among them; only a data worker has it."""

_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class DataWorkers:
    """The data workers of a job.

    Attributes:
        addresses: "host:port" of each.
        index: The index of this process among them, or None if it trains.
    """

    addresses: tuple[str, ...]
    index: int | None = None


def data_workers(environ: Mapping[str, str]) -> DataWorkers | None:
    """Returns the data workers that `environ` describes, or None.

    Args:
        environ: The environment.

    Raises:
        ValueError: If an address is malformed or the index is not that of an address.

    Example:
        >>> data_workers({"TFSCALE_DATA_WORKERS": "127.0.0.1:21000"})
        DataWorkers(addresses=('127.0.0.1:21000',), index=None)
    """
    text = environ.get(DATA_WORKERS_VARIABLE, "").strip()
    if not text:
        return None
    addresses = tuple(part.strip() for part in text.split(","))
    wrong = [address for address in addresses if not _ADDRESS.fullmatch(address)]
    if wrong:
        raise ValueError(
            f"`{DATA_WORKERS_VARIABLE}` must be host:port,host:port,... Received: {wrong[0]!r} in "
            f"{DATA_WORKERS_VARIABLE}={text!r}. Let `tfscale launch --num_data_workers` set it."
        )
    if not environ.get(DATA_WORKER_VARIABLE, "").strip():
        return DataWorkers(addresses)
    cure = f"It is an index of {DATA_WORKERS_VARIABLE}, from 0."
    index = integer_variable(environ, DATA_WORKER_VARIABLE, minimum=0, cure=cure)
    if index >= len(addresses):
        raise ValueError(
            f"`{DATA_WORKER_VARIABLE}` must be less than {len(addresses)}, the number of data "
            f"workers. Received: {DATA_WORKER_VARIABLE}={index}. {cure}"
        )
    return DataWorkers(addresses, index)
