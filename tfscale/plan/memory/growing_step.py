"""A step to which operations are added: what several replicas, microbatches or devices need."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tfscale.plan.memory.liveness import (
    ACTIVATION,
    NOT_COUNTED,
    OWN,
    SHARES,
    WEIGHT_COPY,
    Operation,
    Tensor,
)
from tfscale.plan.memory.operation_costs import seconds_for

_NETWORK_BYTES_A_SECOND = 5e8
"""Only the ratio to what a core computes matters, and only for what overlaps."""


class GrowingStep:
    """Operations and tensors that grow.

    Args:
        operations: The first ones.
        tensors: What they number.
        phases: Of each operation.

    Attributes:
        operations: In any order.
        tensors: What they read and make.
        phases: Of each operation.
    """

    def __init__(
        self, operations: Sequence[Operation], tensors: Sequence[Tensor], phases: Sequence[str]
    ) -> None:
        self.operations = list(operations)
        self.tensors = list(tensors)
        self.phases = list(phases)
        self._devices = {t: each.device for each in operations for t in each.outputs}

    def put(self, phase: str, operation: Operation) -> int:
        """Adds an operation whose tensors are there. Returns its number."""
        self.operations.append(operation)
        self.phases.append(phase)
        self._devices.update(dict.fromkeys(operation.outputs, operation.device))
        return len(self.operations) - 1

    def add(
        self,
        phase: str,
        inputs: Sequence[int],
        outputs: Sequence[tuple[int, str]],
        memory: str = OWN,
        waits_for: Iterable[int] = (),
        *,
        scratch: int = 0,
        travels: bool = False,
        device: int | None = None,
    ) -> tuple[int, ...]:
        """Adds an operation. Returns the numbers of the tensors that it makes.

        Args:
            phase: See the attributes.
            inputs: Numbers of tensors.
            outputs: Bytes and kinds of what it makes.
            memory: See `Operation`.
            waits_for: See `Operation`.
            scratch: See `Operation`.
            travels: See `Operation`.
            device: Where it is; None is where its first input is, or else the first device.
        """
        made = tuple(range(len(self.tensors), len(self.tensors) + len(outputs)))
        self.tensors += [Tensor(size, kind) for size, kind in outputs]
        touched = sum(self.tensors[number].bytes for number in (*inputs, *made))
        seconds = 0.0 if memory == SHARES else seconds_for(touched)
        if travels:
            seconds = touched / _NETWORK_BYTES_A_SECOND
        if device is None:
            device = self.device_of(inputs[0]) if inputs else 0
        operation = Operation(
            *(tuple(inputs), made, memory, tuple(waits_for), scratch, seconds),
            travels=travels,
            device=device,
        )
        self.put(phase, operation)
        return made

    def device_of(self, tensor: int) -> int:
        """Returns the device that has a tensor."""
        return self._devices[tensor]

    def put_on_one_device(self) -> None:
        """Lets all devices be one."""
        self.operations = [dataclasses.replace(each, device=0) for each in self.operations]
        self._devices = dict.fromkeys(self._devices, 0)

    def copy_between_devices(self, reads: Mapping[int, int]) -> Counter[int]:
        """Sends each tensor once to every other device that reads it, as soon as it is there.

        Args:
            reads: The tensors that are values of parameters.

        Returns:
            The bytes that each device sends to the others of its replica.
        """
        sent: Counter[int] = Counter()
        copies: dict[tuple[int, int], int] = {}
        for place, operation in enumerate(list(self.operations)):
            inputs = []
            for number in operation.inputs:
                source, tensor = self.device_of(number), self.tensors[number]
                if source == operation.device or not tensor.bytes:
                    inputs.append(number)
                    continue
                key = number, operation.device
                if key not in copies:
                    kind = tensor.kind
                    if kind == NOT_COUNTED:
                        kind = WEIGHT_COPY if number in reads else ACTIVATION
                    made = [(tensor.bytes, kind)]
                    phase = self.phases[place]
                    copies[key] = self.add(
                        phase, (number,), made, travels=True, device=operation.device
                    )[0]
                    sent[source] += tensor.bytes
                inputs.append(copies[key])
            if tuple(inputs) != operation.inputs:
                self.operations[place] = dataclasses.replace(operation, inputs=tuple(inputs))
        return sent
