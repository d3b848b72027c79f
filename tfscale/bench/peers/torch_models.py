"""The built-in models of `tfscale bench` in PyTorch: the same layers, sizes, optimizer and loss.

The outputs are logits, because PyTorch's cross-entropy takes logits. Keras's takes the inputs of a
final softmax too, so both compute the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tfscale.bench.models import SIZED, width_of


@dataclass(frozen=True)
class TorchModel:
    """A model of `tfscale.bench.models` in PyTorch.

    Attributes:
        module: Builds the model.
        loss: Returns the mean loss of a batch, given outputs and targets.
    """

    module: Callable[[], nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class _Block(nn.Module):
    """Self-attention and two dense layers, each behind a layer normalization and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(128, eps=1e-3)
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.second_norm = nn.LayerNorm(128, eps=1e-3)
        self.dense = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first_norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.dense(self.second_norm(x))


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        self.blocks = nn.Sequential(_Block(), _Block())
        self.classes = nn.Linear(128, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classes(self.blocks(self.embedding(tokens)).mean(dim=1))


def _tiny_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def _mlp() -> nn.Module:
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(512, 10))


def adam(module: nn.Module) -> torch.optim.Optimizer:
    """Returns the optimizer of all models: Adam as PyTorch has it, with Keras's epsilon."""
    return torch.optim.Adam(module.parameters(), lr=1e-3, eps=1e-7)


_entropy = nn.functional.cross_entropy
TORCH_MODELS = {
    "tiny_mlp": TorchModel(_tiny_mlp, nn.functional.mse_loss),
    "mlp": TorchModel(_mlp, _entropy),
    "transformer": TorchModel(_Transformer, _entropy),
}


def torch_model_named(name: str) -> TorchModel | None:
    """Returns a model of `tfscale.bench.models.model_named` in PyTorch, or None without one."""
    if match := SIZED.fullmatch(name):
        return TorchModel(functools.partial(_sized_mlp, width_of(int(match[1]))), _entropy)
    return TORCH_MODELS.get(name)


def _sized_mlp(width: int) -> nn.Module:
    hidden = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))
