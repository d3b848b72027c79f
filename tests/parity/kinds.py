"""Facts about each model that the sweep needs before TensorFlow is imported.

A model that is not named here is an ordinary one, with features, three outputs, a compiled loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DATASETS = ("dataset", "unknown_length", "endless")
"""The kinds of data that may contain sparse tensors, None and parts without rows."""


@dataclass(frozen=True)
class Kind:
    """Facts about a model.

    Attributes:
        concern: What it tests; the builders of a concern are in the same file.
        inputs: "features", "image", "tokens", "words" or "sparse".
        has_compiled_loss: Whether `compile` gets a loss; otherwise its step computes one.
        has_call: Whether it has a `call()`, which `predict` needs.
        tests_itself: Whether it has its own `test_step`.
        scales_loss: Whether its step calls `optimizer.scale_loss`.
        builds_optimizers: Whether it builds its optimizers itself, for parts of its weights.
        takes_targets: Whether its data are `(x, y)`, not `x`.
        takes_weights: Whether rows and classes may have weights.
        beside: Its data without rows: "", "scalar", "shared", "no_weights" or "no_input".
        only: Allowed values of fields, by name of the field.
    """

    concern: str = "ordinary"
    inputs: str = "features"
    has_compiled_loss: bool = True
    has_call: bool = True
    tests_itself: bool = False
    scales_loss: bool = True
    builds_optimizers: bool = False
    takes_targets: bool = True
    takes_weights: bool = True
    beside: str = ""
    only: tuple[tuple[str, tuple[object, ...]], ...] = ()

    def allows(self, field: str, value: object) -> bool:
        """Returns whether a field of a configuration may have this value."""
        return value in dict(self.only).get(field, (value,))

    @property
    def can_evaluate(self) -> bool:
        """Whether `evaluate` and validation are possible."""
        return self.has_compiled_loss or self.tests_itself

    @property
    def takes_arrays(self) -> bool:
        """Whether its data can be NumPy arrays."""
        return self.inputs not in ("words", "sparse") and not self.beside


_OWN_LOSS: dict[str, Any] = {"has_compiled_loss": False, "takes_weights": False}
_NO_CALL: dict[str, Any] = {**_OWN_LOSS, "has_call": False, "scales_loss": False}

ORDINARY: dict[str, Kind] = {
    "mlp": Kind(),
    "cnn": Kind(inputs="image"),
    "cnn_batchnorm": Kind(inputs="image"),
    "lstm": Kind(inputs="tokens"),
    "attention": Kind(inputs="tokens"),
    "two_outputs": Kind(),
    "own_step": Kind(),
    "raw_step": Kind(**_OWN_LOSS),
    "subclass": Kind(),
    "add_loss": Kind(),
    "activity": Kind(),
    "strings": Kind(inputs="words"),
}

NEW: dict[str, Kind] = {
    "running_mean": Kind("layers"),
    "running_mean_at_once": Kind("layers"),
    "mean_beside_penalty": Kind("layers"),
    "observer_twice": Kind("layers"),
    "codebook": Kind("layers"),
    "usage_counts": Kind("layers"),
    "quantizer": Kind("layers"),
    "annealed": Kind("layers"),
    "spectral_norm": Kind("layers"),
    "row_maximum": Kind("layers"),
    "teacher": Kind("layers"),
    "clipped_gradients": Kind("gradients"),
    "adaptive_clipping": Kind("gradients"),
    "squashed_gradients": Kind("gradients"),
    "centralized_gradients": Kind("gradients"),
    "sharpness_aware": Kind("gradients"),
    "gradient_penalty": Kind("gradients"),
    "two_losses": Kind("gradients"),
    "inner_step": Kind("gradients", **_OWN_LOSS),
    "own_accumulation": Kind("conditions"),
    "every_other_step": Kind("conditions", builds_optimizers=True),
    "skipped_steps": Kind(
        "conditions", takes_weights=False, only=(("loss", ("mse",)), ("reduction", ("mean", "sum")))
    ),
    "slow_weights": Kind("conditions"),
    "function_step": Kind("conditions"),
    "functions_in_step": Kind("conditions"),
    "sparse_input": Kind("tables", inputs="sparse"),
    "positions": Kind("tables", inputs="tokens"),
    "learned_positions": Kind("tables", inputs="tokens"),
    "two_lookups": Kind("tables", inputs="tokens"),
    "tokens_and_positions": Kind("tables", inputs="tokens"),
    "unique_lookup": Kind("tables", inputs="tokens"),
    "closed_vocabulary": Kind("tables", inputs="words"),
    "own_metrics": Kind("losses", only=(("run_eagerly", (False,)),)),
    "scalar_trackers": Kind("losses", **_OWN_LOSS),
    "unreduced_loss": Kind("losses", **_OWN_LOSS),
    "summed_loss": Kind("losses", **_OWN_LOSS),
    "vector_penalty": Kind("losses"),
    "own_loss_class": Kind("losses", only=(("loss", ("mse",)),)),
    "scalar_beside": Kind("beside", beside="scalar"),
    "shared_beside": Kind("beside", beside="shared"),
    "no_weights": Kind("beside", beside="no_weights", takes_weights=False),
    "no_input": Kind("beside", beside="no_input"),
    "autoencoder": Kind("parts", takes_targets=False, **_NO_CALL),
    "variational": Kind("parts", **_NO_CALL),
    "siamese": Kind("parts", tests_itself=True, **_NO_CALL),
    "adversaries": Kind("parts", builds_optimizers=True, **_NO_CALL),
    "wasserstein": Kind("parts", builds_optimizers=True, **_NO_CALL),
}
"""Kinds found by trying public reports and examples of Keras."""


STAGED: dict[str, Kind] = {
    "deep": Kind("stages"),
    "skipping": Kind("stages"),
    "two_blocks": Kind("stages", inputs="tokens"),
    "deep_cnn": Kind("stages", inputs="image"),
    "deep_batchnorm": Kind("stages", inputs="image"),
}
"""Kinds with enough layers for four stages and matrices that two devices can share."""


def kind_of(model: str) -> Kind:
    """Returns the facts about the model of this name."""
    return NEW.get(model) or STAGED.get(model) or ORDINARY[model]
