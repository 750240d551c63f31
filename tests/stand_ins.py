"""Two small models with the contracts of the real ones, samples to run them on, and their exported bundles."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from heimdall_jax.config import Config
from heimdall_jax.export.bundle import write_bundle
from heimdall_jax.export.onnx import OPSET, to_onnx
from heimdall_jax.export.signature import Tensor, describe_inputs
from heimdall_jax.models.heads import Fix
from heimdall_jax.types import Domain, Sample


class SetNet(nnx.Module):
    """Masked attention over receivers, full covariance."""

    def __init__(self, width: int = 16, *, rngs: nnx.Rngs) -> None:
        self.token = nnx.Linear(3, width, rngs=rngs)
        self.identity = nnx.Embed(8, width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, width, dropout_rate=0.1, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, rss_db, receiver_m, heard, present, identity) -> Fix:
        power = jnp.where(heard, (rss_db + 70.0) / 10.0, 0.0)
        place = jnp.where(present[..., None], receiver_m / 1e4, 0.0)
        tokens = self.token(jnp.concatenate([power[..., None], place], axis=-1)) + self.identity(identity)
        tokens = self.norm(tokens + self.attention(tokens, mask=present[:, None, None, :]))
        weights = present[..., None].astype(jnp.float32)
        pooled = jnp.sum(self.dropout(tokens) * weights, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1.0)
        out = self.head(pooled)
        diagonal = jax.nn.softplus(out[:, 2:4]) + 0.1
        zero = jnp.zeros_like(diagonal[:, 0])
        lower = jnp.stack(
            [jnp.stack([diagonal[:, 0], zero], axis=-1), jnp.stack([out[:, 4], diagonal[:, 1]], axis=-1)], axis=-2
        )
        return Fix(out[:, :2] * 1e4, lower * 1e3)


class ChannelNet(nnx.Module):
    """One channel per receiver, convolution and batch norm, sigma per axis."""

    def __init__(self, receivers: int = 4, *, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(receivers, 8, (3, 3), strides=(2, 2), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, mel_spectrogram, heard=None) -> Fix:
        x = (mel_spectrogram + 80.0) / 20.0
        if heard is not None:
            x = jnp.where(heard[:, :, None, None], x, 0.0)
        x = jax.nn.relu(self.norm(self.conv(jnp.transpose(x, (0, 2, 3, 1)))))
        out = self.head(self.dropout(jnp.mean(x, axis=(1, 2))))
        return Fix(out[:, :2] * 1e4, jnp.exp(out[:, 2:]) * 1e3)


SET_NAMES = ("rss_db", "receiver_m", "heard", "present", "identity")
CHANNEL_NAMES = ("mel_spectrogram", "heard")
DOMAIN = Domain(origin_deg=(45.07, 7.69), receivers=("a", "b", "c", "d", "e", "f", "g"))


def set_samples() -> Sample:
    """Ten samples of six receivers; the last took no part, and values are NaN where meaningless."""
    rng = np.random.default_rng(1)
    present = np.ones((10, 6), bool)
    present[:, -1] = False
    heard = present & (rng.random((10, 6)) < 0.8)
    return {
        "rss_db": np.where(heard, rng.normal(-70, 10, (10, 6)), np.nan).astype(np.float32),
        "receiver_m": np.where(present[..., None], rng.normal(0, 1e4, (10, 6, 2)), np.nan).astype(np.float32),
        "heard": heard,
        "present": present,
        "identity": rng.integers(0, 8, (10, 6)).astype(np.int32),
    }


def channel_samples() -> Sample:
    """Ten samples of four receivers, 16 mel bands, 8 frames."""
    rng = np.random.default_rng(2)
    return {
        "mel_spectrogram": rng.normal(-80, 20, (10, 4, 16, 8)).astype(np.float32),
        "heard": rng.random((10, 4)) < 0.8,
    }


def set_bundle(folder: Path) -> Path:
    """A whole bundle of a `SetNet`; its model file."""
    inputs = describe_inputs(SET_NAMES, set_samples(), dynamic_receivers=True)
    return _bundle(folder, SetNet(rngs=nnx.Rngs(0)), inputs)


def channel_bundle(folder: Path) -> Path:
    """A whole bundle of a `ChannelNet`; its model file."""
    inputs = describe_inputs(CHANNEL_NAMES, channel_samples(), dynamic_receivers=False)
    return _bundle(folder, ChannelNet(rngs=nnx.Rngs(0)), inputs)


def _bundle(folder: Path, model: nnx.Module, inputs: tuple[Tensor, ...]) -> Path:
    path = folder / "model.onnx"
    outputs = to_onnx(model, path, inputs=inputs, domain=DOMAIN)
    write_bundle(path, inputs=inputs, outputs=outputs, opset=OPSET, domain=DOMAIN, config=Config(), parity={})
    return path
