"""Ports for the tasks of an engine that assigns none.

All tasks need the same list of ports without communicating, so they cannot ask the system for free
ones. The ports are computed from the number of the job.
"""

from __future__ import annotations

from collections.abc import Mapping

from strategies.cluster.environments.variables import integer_variable

BASE_PORT_VARIABLE = "TFSCALE_BASE_PORT"

# Below 32768, where Linux starts to assign ports to outgoing connections. The number of slots is
# prime, so that no common stride of job numbers uses only few slots.
_FIRST_PORT = 20_000
_PORTS_PER_SLOT = 64
_NUM_SLOTS = 181
_LARGEST_PORT = 65_535


def computed_ports(environ: Mapping[str, str], job_number: int, count: int) -> list[int]:
    """Returns `count` ports of one host, computed from the number of the job.

    port i = 20000 + 64 (job_number mod 181) + i, or TFSCALE_BASE_PORT + i if that is set.

    Two jobs on one host collide if their numbers are equal modulo 181, and another program may use
    one of the ports. Then the server fails to start; set TFSCALE_BASE_PORT.

    Args:
        environ: The environment, for TFSCALE_BASE_PORT.
        job_number: The same in all tasks of a job. Not negative.
        count: Tasks on the fullest host. Without TFSCALE_BASE_PORT at most 64.

    Raises:
        ValueError: If the ports do not fit.
    """
    if not environ.get(BASE_PORT_VARIABLE):
        if count > _PORTS_PER_SLOT:
            raise ValueError(
                f"`{BASE_PORT_VARIABLE}` must be set for more than {_PORTS_PER_SLOT} tasks on one "
                f"host. Received: tasks={count}. Set it to the first of {count} ports that are "
                "free on every host."
            )
        first = _FIRST_PORT + _PORTS_PER_SLOT * (job_number % _NUM_SLOTS)
    else:
        cure = f"Set it to the first of {count} free ports, for instance 23000."
        first = integer_variable(environ, BASE_PORT_VARIABLE, minimum=1, cure=cure)
        if first + count - 1 > _LARGEST_PORT:
            raise ValueError(
                f"`{BASE_PORT_VARIABLE}` must leave room for {count} ports up to {_LARGEST_PORT}. "
                f"Received: {BASE_PORT_VARIABLE}={first}. {cure}"
            )
    return list(range(first, first + count))
