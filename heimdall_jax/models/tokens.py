"""One token per receiver: what it heard, where it stands, which it is.

Masked rows are read through `where` before any arithmetic, so that neither their values nor a NaN in
them reach the answer or a gradient.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.models.normaliser import Normaliser
from heimdall_jax.models.norms import LayerNorm

OCTAVES = 3
"""Fourier features of the place (Tancik et al. 2020): half-periods of 4, 2 and 1 spreads of the truths."""

FEATURES = 8 + 4 * OCTAVES
SNR_FEATURES = 2


def receiver_features(
    normaliser: Normaliser,
    rss_db: Float[Array, "B R"],
    receiver_m: Float[Array, "B R 2"],
    heard: Bool[Array, "B R"],
    present: Bool[Array, "B R"],
) -> Float[Array, "B R F"]:
    """What a receiver's power and place say, alone and beside the others'.

    Power; power below the strongest, which an unknown transmit power leaves alone; heard; the place; the
    place from the power-weighted centroid, and the logarithm of that distance; Fourier features of the place.
    """
    power = jnp.where(heard, normaliser.feature(jnp.where(heard, rss_db, 0.0)), 0.0)
    below = jnp.where(heard, power - jnp.max(jnp.where(heard, power, -1e6), axis=1, keepdims=True), 0.0)
    place = normaliser.place(jnp.where(present[:, :, None], receiver_m, 0.0))
    weight = jnp.where(heard, jnp.exp(2.0 * below), 0.0)[:, :, None]
    total = jnp.maximum(jnp.sum(weight, axis=1, keepdims=True), 1.0)  # the strongest weighs 1
    away = place - jnp.sum(weight * place, axis=1, keepdims=True) / total
    distance = 0.5 * jnp.log(jnp.sum(away * away, axis=2) + 1e-4)
    angles = [place * (math.pi / 4 * 2**octave) for octave in range(OCTAVES)]
    waves = [wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)]
    scalars = jnp.stack([power, below, heard.astype(power.dtype), distance], axis=2)
    return jnp.concatenate([scalars, place, away, *waves], axis=2)


def snr_features(snr_db: Float[Array, "B R"], known: Bool[Array, "B R"]) -> Float[Array, "B R F"]:
    """Signal over noise in units of 20 dB, and whether it is known."""
    return jnp.stack([jnp.where(known, snr_db / 20.0, 0.0), known.astype(snr_db.dtype)], axis=2)


class IdentityEmbedding(nnx.Module):
    """A learned vector per known receiver; row 0 is any unknown one.

    In training each receiver's identity is hidden with probability `hide`, so that unknown ones work.
    """

    def __init__(self, known: int, width: int, hide: float, *, rngs: nnx.Rngs) -> None:
        self.table = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (known + 1, width), jnp.float32))
        self.hide, self.deterministic = hide, False
        self.rngs = rngs.dropout.fork()

    def __call__(self, identity: Int[Array, "B R"]) -> Float[Array, "B R D"]:
        """Look up; an identity beyond the table gives NaN."""
        if self.hide > 0.0 and not self.deterministic:
            hidden = jax.random.bernoulli(self.rngs(), self.hide, identity.shape)
            identity = jnp.where(hidden, 0, identity)
        return jnp.take(self.table[...], identity, axis=0, mode="fill")


class SpectrogramEncoder(nnx.Module):
    """Each band's mean and spread over frames, in a receiver's own spectrogram less its level, to a token.

    The level is left to the received power, which receivers share a scale for.
    """

    def __init__(self, n_mels: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(2 * n_mels, rngs=rngs)
        self.first = nnx.Linear(2 * n_mels, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, mel_spectrogram: Float[Array, "B R M L"], heard: Bool[Array, "B R"]) -> Float[Array, "B R D"]:
        """Encode; zero where not heard."""
        mel = jnp.where(heard[:, :, None, None], mel_spectrogram, 0.0)
        band = jnp.mean(mel, axis=3)
        ripple = mel - band[:, :, :, None]
        spread = jnp.sqrt(jnp.mean(ripple * ripple, axis=3) + 1e-4)
        shape = band - jnp.mean(band, axis=2, keepdims=True)
        token = self.second(jax.nn.gelu(self.first(self.norm(jnp.concatenate([shape, spread], axis=2)))))
        return jnp.where(heard[:, :, None], token, 0.0)
