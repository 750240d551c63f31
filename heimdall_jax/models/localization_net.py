"""Spectrograms of a fixed set of receivers to a place and a sigma per axis."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.models.convnext import SIZES, ConvNeXt
from heimdall_jax.models.heads import Fix, Locator, Perceptron, SigmaHead
from heimdall_jax.models.normaliser import Normaliser
from heimdall_jax.models.recalibration import Recalibration
from heimdall_jax.models.resnet import ResNet18
from heimdall_jax.models.settings import check
from heimdall_jax.models.silence import Silence
from heimdall_jax.types import Domain

ANYWHERE = Domain(origin_deg=(0.0, 0.0), receivers=())
"""A domain that scales nothing: position and features as they are."""


class LocalizationNet(Locator):
    """Convolutional backbone over a spectrogram per receiver, one channel each, and two heads.

    A receiver that did not hear adds nothing to the stem but a learned vector of its own, so that no
    value in dB stands for silence.

    Args:
        config: `receivers` channels, `backbone`, `dropout` and the bounds of sigma.
        domain: Scales of features and positions, kept with the weights.
        dtype: Of the backbone's computation; parameters and heads are float32.
        rngs: Source of initial values and of dropout.

    Raises:
        ConfigError: A setting is outside its range.
    """

    def __init__(
        self,
        config: ModelConfig = ModelConfig(),  # noqa: B008 - frozen, so no call can change it
        domain: Domain = ANYWHERE,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        check(config)
        self.receivers, self.dtype = config.receivers, dtype
        self.normaliser = Normaliser(domain)
        self.backbone = _backbone(config, dtype, rngs)
        silent = nnx.initializers.normal(0.1)(rngs.params(), (config.receivers, self.backbone.stem_width), jnp.float32)
        self.silent = nnx.Param(silent)
        self.position = Perceptron(self.backbone.features, (0.0, 0.0), config.dropout, rngs=rngs)
        self.sigma = SigmaHead(self.backbone.features, domain.position_std_m, config, rngs=rngs)
        self.recalibration = Recalibration()

    def __call__(self, mel_spectrogram: Float[Array, "B R M L"], heard: Bool[Array, "B R"] | None = None) -> Fix:
        """Locate.

        Args:
            mel_spectrogram: Log-mel power in dB, one channel per receiver in the domain's order.
            heard: Which receivers heard; all when None. The spectrograms of others are ignored.

        Returns:
            Position and sigma (B, 2), east and north, local metres.

        Raises:
            DataError: The number of channels is not the network's.
        """
        if mel_spectrogram.shape[1] != self.receivers:
            raise DataError(
                explain(
                    "mel_spectrogram's receiver axis",
                    got=mel_spectrogram.shape[1],
                    allowed=self.receivers,
                    cure="Set model.receivers to the number of channels, or give the receivers of the domain.",
                )
            )
        image, silence = self.normaliser.feature(mel_spectrogram), None
        if heard is not None:
            image = jnp.where(heard[:, :, None, None], image, jnp.zeros_like(image))
            silence = Silence((~heard).astype(jnp.float32), self.silent[...])
        features = self.backbone(image.astype(self.dtype).transpose(0, 2, 3, 1), silence).astype(jnp.float32)
        used = jnp.ones(mel_spectrogram.shape[:2], bool) if heard is None else heard
        return self.recalibration(Fix(self.normaliser.metres(self.position(features)), self.sigma(features)), used)


def _backbone(config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs) -> ResNet18 | ConvNeXt:
    if config.backbone == "resnet18":
        return ResNet18(config.receivers, dtype=dtype, rngs=rngs)
    return ConvNeXt(config.receivers, *SIZES[config.backbone], dtype=dtype, rngs=rngs)
