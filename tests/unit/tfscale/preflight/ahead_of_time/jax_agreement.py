"""Compiles the small network of `aot_models` with Keras's JAX backend, for comparison.

    ENVIRONMENT/bin/python -m pip install keras==3.15.1
    cd tests/unit/tfscale/preflight/ahead_of_time
    ENVIRONMENT/bin/python jax_agreement.py v5e:1x1

Run by hand, in the environment of `tfscale preflight --aot`, which holds JAX and libtpu. Prints the
memory in the words of `tfscale preflight --aot --json`; both should agree within 1 %. It is another
way to the same compiler: Keras's own JAX functions, and JAX's public ahead-of-time interface.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import jax
from aot_models import cnn  # type: ignore[import-not-found]  # found beside this program
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding


def main(topology: str) -> None:
    """Compiles and prints."""
    model, (x, y) = cnn()
    model.optimizer.build(model.trainable_variables)

    def loss_of(trainable: Any, other: Any, x: Any, y: Any) -> Any:
        logits, other = model.stateless_call(trainable, other, x, training=True)
        return model.loss(y, logits), other

    def step(trainable: Any, other: Any, slots: Any, x: Any, y: Any) -> Any:
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, other), gradients = gradient(trainable, other, x, y)
        trainable, slots = model.optimizer.stateless_apply(slots, gradients, trainable)
        return loss, trainable, other, slots

    (device, *_) = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    placed = SingleDeviceSharding(device)

    def described(values: Any) -> Any:
        return jax.tree.map(
            lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=placed), values
        )

    arguments = described(
        (
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            [v.value for v in model.optimizer.variables],
            x,
            y,
        )
    )
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*arguments).compile()
    stats = compiled.memory_analysis()
    sizes = {
        name: getattr(stats, f"{name}_size_in_bytes")
        for name in ("argument", "output", "alias", "temp", "generated_code")
    }
    total = sum(sizes.values()) - 2 * sizes["alias"]
    print(json.dumps({"target": topology, "bytes": sizes, "total": total}))


if __name__ == "__main__":
    main(sys.argv[1])
