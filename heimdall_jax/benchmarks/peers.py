"""The same networks in PyTorch (extra `bench`): same layers, parameters, loss and optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from heimdall_jax.config import ModelConfig, TrainingConfig
from heimdall_jax.models.resnet import BLOCKS


class Block(nn.Module):
    """As `models.resnet.BasicBlock`."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.project = nn.Identity()
        if stride != 1 or channels_in != channels:
            conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.project = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Any) -> Any:
        """One residual step."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.project(x))


class ResNet(nn.Module):
    """As `LocalizationNet` with ResNet-18, every receiver heard."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        conv = nn.Conv2d(config.receivers, 64, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*[Block(*shape) for shape in BLOCKS])
        self.position, self.sigma = (_perceptron(512, 2, config.dropout) for _ in range(2))

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Place and sigma (B, 2) of (B, R, M, L)."""
        y = self.blocks(self.stem(x)).mean((2, 3))
        return self.position(y), nn.functional.softplus(self.sigma(y)) + 1e-3


class SetTransformer(nn.Module):
    """As `ReceiverSetNet`: tokens of receivers and a query through `nn.TransformerEncoder`."""

    def __init__(self, config: ModelConfig, features: int) -> None:
        super().__init__()
        width = config.width
        self.embed, self.query = nn.Linear(features, width), nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.position, self.sigma = (_perceptron(width, 2, config.dropout) for _ in range(2))

    def forward(self, tokens: Any, absent: Any) -> tuple[Any, Any]:
        """Place and sigma (B, 2) of features (B, R, F); rows that are absent (B, R) change nothing."""
        x = torch.cat([self.query.expand(len(tokens), 1, -1), self.embed(tokens)], 1)
        seen = torch.cat([torch.zeros_like(absent[:, :1]), absent], 1)
        y = self.encoder(x, src_key_padding_mask=seen)[:, 0]
        return self.position(y), nn.functional.softplus(self.sigma(y)) + 1e-3


def train_step(
    net: nn.Module, inputs: tuple[Any, ...], truth: Any, config: TrainingConfig, *, compiled: bool
) -> Callable[[], Any]:
    """One step of AdamW with clipping on a Gaussian's negative log-likelihood; ends when the loss is known."""
    decay = [p for p in net.parameters() if p.ndim > 1]
    groups = [{"params": decay}, {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)
    forward = torch.compile(net) if compiled else net

    def step() -> float:
        optimizer.zero_grad()
        place, sigma = forward(*inputs)
        loss = (torch.log(sigma) + 0.5 * ((truth - place) / sigma) ** 2).sum(1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
        optimizer.step()
        return loss.item()

    return step


def _perceptron(features: int, outputs: int, dropout: float) -> nn.Module:
    """As `models.heads.Perceptron`."""
    layers: list[Any] = []
    for width in (128, 64):
        layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, outputs))
