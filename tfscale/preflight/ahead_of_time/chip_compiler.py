"""Program: compiles a program for a TPU, without a TPU. Runs in a separate Python environment.

    ENVIRONMENT/bin/python -I chip_compiler.py FOLDER

Only this file imports JAX. The user's process never does, because JAX brings another XLA than
TensorFlow's. FOLDER contains `request.json`, such as {"topology": "v5e:2x2", "num_replicas": 4},
and `program.hlo`, the bytes of an `HloModuleProto`. The output is `result.json`, written last and
atomically, and for a program that compiles `optimized.txt`, the program as the chip runs it. If it
cannot be read back, that file has only its first line, and the message in `result.json` says why.

libtpu has no public interface for this. The file uses the same private functions as JAX's
ahead-of-time compilation, so it works only with the pinned versions (see `environment`).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# libtpu reads these when it is loaded. Without them it queries a metadata server for minutes, and
# cannot be loaded by two processes at once.
os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", JAX_PLATFORMS="cpu")

import jax
import libtpu
import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax.experimental import topologies
from jaxlib.mlir import ir

_SIZES = ("argument", "output", "alias", "temp", "generated_code")
_NO_MEMORY = ("RESOURCE_EXHAUSTED", "CompileTimeHbmOom", "Ran out of memory")


def main(folder: Path) -> int:
    """Compiles the program in `folder`.

    Returns:
        0 if the compiler gave an answer, whether or not the program compiles.
    """
    request = json.loads((folder / "request.json").read_text("utf-8"))
    program = (folder / "program.hlo").read_bytes()
    try:
        computation = xla_client.XlaComputation(program)
        executable = _compile(computation, request["topology"], request["num_replicas"])
    except Exception as error:
        text = str(error)
        is_memory = any(word in text for word in _NO_MEMORY)
        _answer(folder, {"kind": "out_of_memory" if is_memory else "refused", "message": text})
        return 0
    text, why_not_all = _optimized(executable, computation)
    (folder / "optimized.txt").write_text(text, "utf-8")
    stats = executable.get_compiled_memory_stats()
    sizes = {name: int(getattr(stats, f"{name}_size_in_bytes")) for name in _SIZES}
    _answer(folder, {"kind": "compiled", "bytes": sizes, "message": why_not_all})
    return 0


def _optimized(executable: Any, computation: Any) -> tuple[str, str]:
    """Returns the text of the program for the chip, and why it has only its first line, or "".

    jaxlib 0.10.2 cannot read the code that libtpu 0.0.52 makes of sums by row for the SparseCores
    of a v6e ("async-update instruction should have 1 operands but sees 4"). The layouts of the
    arguments are available without the text.
    """
    try:
        (module,) = executable.hlo_modules()
    except jax.errors.JaxRuntimeError as error:
        given = computation.program_shape().parameter_shapes()
        layouts = executable.get_parameter_layouts()
        arguments = ", ".join(
            str(shape).partition("{")[0] + str(layout)
            for shape, layout in zip(given, layouts, strict=True)
        )
        return f"HloModule unread, entry_computation_layout={{({arguments})->()}}", str(error)
    return str(module.to_string()), ""


def _compile(computation: Any, topology: str, num_replicas: int) -> Any:
    module = ir.Module.parse(
        xla_client._xla.mlir.xla_computation_to_mlir_module(computation),
        mlir.make_ir_context(),
    )
    _drop_copies(module)
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    if num_replicas > len(described.devices):
        raise ValueError(
            f"`num_replicas` must be at most {len(described.devices)}, the devices of {topology}. "
            f"Received: num_replicas={num_replicas}. Use a larger topology."
        )
    devices = tuple(described.devices[:num_replicas])
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = num_replicas, 1
    placed = np.array([[device.id] for device in devices])
    options.device_assignment = xla_client.DeviceAssignment.create(placed)
    return devices[0].client.compile(
        module, executable_devices=xla_client.DeviceList(devices), compile_options=options
    )


def _drop_copies(module: Any) -> None:
    """Removes the copy operations that TensorFlow adds, which this compiler interface lacks.

    They change no values, and the compiler adds its own copies as needed.
    """
    for copy in [found for found in _operations(module.operation) if found.name == "mhlo.copy"]:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


def _operations(operation: Any) -> list[Any]:
    found = []
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                found += [inner.operation, *_operations(inner.operation)]
    return found


def _answer(folder: Path, result: dict[str, Any]) -> None:
    versions = {"jax": jax.__version__, "libtpu": libtpu.__version__}
    temporary = folder / "result.json.tmp"
    temporary.write_text(json.dumps({**result, "versions": versions}), "utf-8")
    temporary.replace(folder / "result.json")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
