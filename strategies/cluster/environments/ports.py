"""Ports for the tasks of an engine that assigns none.

All tasks have to arrive at the same ports without talking to each other, so nobody can ask the
system for free ones: they are computed from the job's number.
"""

from __future__ import annotations

from collections.abc import Mapping

from strategies.cluster.environments.variables import integer_variable

BASE_PORT_VARIABLE = "TFSCALE_BASE_PORT"

# Below 32768, where Linux starts to hand out ports to outgoing connections. The number of slots
# is prime, so that no common stride of job numbers falls into few slots.
_FIRST_PORT = 20_000
_PORTS_PER_SLOT = 64
_NUM_SLOTS = 181
_LARGEST_PORT = 65_535


def computed_ports(environ: Mapping[str, str], job_number: int, count: int) -> list[int]:
    """Returns `count` ports of one host that follow from the job's number.

    port i = 20000 + 64 (job_number mod 181) + i, or TFSCALE_BASE_PORT + i where that is set.

    Two jobs on one host collide when their numbers are equal modulo 181, and any other program may
    hold one of the ports: the server then fails to start. TFSCALE_BASE_PORT is the way out.

    Args:
        environ: The environment, for TFSCALE_BASE_PORT.
        job_number: The same in all tasks of a job; not negative.
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
