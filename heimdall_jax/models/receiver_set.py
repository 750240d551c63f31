"""Any number of receivers, in any order, to a place and its covariance: a masked set transformer."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.config import FeatureConfig, ModelConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.models.attention import AttentionBlock
from heimdall_jax.models.fusion import ArrivalFusion
from heimdall_jax.models.heads import CholeskyHead, Fix, Locator, Perceptron
from heimdall_jax.models.normaliser import Normaliser
from heimdall_jax.models.norms import LayerNorm
from heimdall_jax.models.precision import at_least_single
from heimdall_jax.models.recalibration import Recalibration
from heimdall_jax.models.settings import check
from heimdall_jax.models.tokens import (
    FEATURES,
    SNR_FEATURES,
    IdentityEmbedding,
    SpectrogramEncoder,
    receiver_features,
    snr_features,
)
from heimdall_jax.types import Domain


class ReceiverSetNet(Locator):
    """Tokens are receivers; a learned query token, always visible, gathers the answer.

    With no receiver present the query alone speaks: the prior, learned from such examples if any. With
    `config.timing` what the transformer says is the prior of a solver for arrival times (`ArrivalFusion`): it never
    sees the times, so nothing counts twice.

    Args:
        config: `width`, `depth`, `heads`, `dropout`, `identity`, `identity_dropout`, `power`, `snr`, `timing`,
            `spectrogram`, bounds of sigma.
        domain: Scales of power and position and the known receivers, kept with the weights.
        n_mels: Bands of the spectrograms, used where `config.spectrogram`.
        dtype: Of the transformer's computation; None: that of the parameters and inputs, as in tokens and heads.
        rngs: Source of initial values and of dropout.

    Raises:
        ConfigError: A setting is outside its range.
    """

    def __init__(
        self,
        config: ModelConfig,
        domain: Domain,
        *,
        n_mels: int = FeatureConfig.n_mels,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check(config)
        width, self.dtype = config.width, dtype
        self.normaliser = Normaliser(domain)
        self.embed = nnx.Linear(FEATURES, width, rngs=rngs)
        known = len(domain.receivers)
        self.identity = IdentityEmbedding(known, width, config.identity_dropout, rngs=rngs) if config.identity else None
        self.snr = nnx.Linear(SNR_FEATURES, width, rngs=rngs) if config.snr else None
        self.spectrogram = SpectrogramEncoder(n_mels, width, rngs=rngs) if config.spectrogram else None
        self.query = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (1, 1, width), jnp.float32))
        last = config.depth - 1  # nothing but the query is read from it
        self.blocks = nnx.List(
            AttentionBlock(width, config.heads, config.dropout, first_alone=i == last, dtype=dtype, rngs=rngs)
            for i in range(config.depth)
        )
        self.norm = LayerNorm(width, rngs=rngs)
        self.position = Perceptron(width, (0.0, 0.0), config.dropout, rngs=rngs)
        self.cholesky = CholeskyHead(width, domain.position_std_m, config, rngs=rngs)
        self.power, self.double = config.power, config.timing
        self.fusion = ArrivalFusion(domain.origin_deg, config.dropout, rngs=rngs) if config.timing else None
        self.recalibration = Recalibration()

    def __call__(self, *arrays: Array, **named: Array | None) -> Fix:
        """The answer of `fixes`, whose arguments it takes."""
        return self.fixes(*arrays, **named)[0]

    def fixes(
        self,
        rss_db: Float[Array, "B R"],
        receiver_m: Float[Array, "B R 2"],
        heard: Bool[Array, "B R"],
        present: Bool[Array, "B R"],
        identity: Int[Array, "B R"] | None = None,
        mel_spectrogram: Float[Array, "B R M L"] | None = None,
        snr_db: Float[Array, "B R"] | None = None,
        snr_known: Bool[Array, "B R"] | None = None,
        receiver_up_m: Float[Array, "B R"] | None = None,
        clock_sigma_s: Float[Array, "B R"] | None = None,
        tdoa_s: Float[Array, "B R R"] | None = None,
        arrival_precision_per_s2: Float[Array, "B R"] | None = None,
        timing_valid: Bool[Array, "B R R"] | None = None,
    ) -> tuple[Fix, ...]:
        """Locate: the answer, and where it is fused, what powers alone said on the way to it.

        Args:
            rss_db: Received power; ignored where not heard, or without `config.power`.
            receiver_m: East, north of each receiver, local metres; ignored where not present.
            heard: It measured the transmission; ignored where not present.
            present: It took part; rows that are not present change nothing.
            identity: 0 for an unknown receiver, i + 1 for the domain's receiver i.
            mel_spectrogram: Log-mel power, dB; ignored where not heard.
            snr_db: Signal over noise; ignored where not known.
            snr_known: It is, for receivers that heard.
            receiver_up_m: Height over the local frame's plane; ignored where not present.
            clock_sigma_s: Of the receiver's clock, infinite where unknown; ignored where not heard.
            tdoa_s: Arrival time at one receiver less that at another; ignored where not valid.
            arrival_precision_per_s2: 1 / variance of the arrival time that noise alone leaves; ignored where not heard.
            timing_valid: The pair's delay counts, for receivers that both heard.

        Returns:
            Each a position (B, 2) and the lower Cholesky factor of its covariance (B, 2, 2); east, north, local metres.

        Raises:
            DataError: An input that the configured network needs is absent.
        """
        heard = heard & present
        prior = self._prior(rss_db, receiver_m, heard, present, identity, mel_spectrogram, snr_db, snr_known)
        if self.fusion is None:
            return (self.recalibration(prior, heard),)
        both = heard[:, :, None] & heard[:, None, :] & _needed("timing_valid", timing_valid)
        fused = self.fusion(
            prior,
            self.normaliser,
            jnp.where(present[..., None], receiver_m, 0.0),
            jnp.where(present, _needed("receiver_up_m", receiver_up_m), 0.0),
            jnp.where(heard, _needed("clock_sigma_s", clock_sigma_s), 1.0),
            jnp.where(both, _needed("tdoa_s", tdoa_s), 0.0),
            jnp.where(heard, _needed("arrival_precision_per_s2", arrival_precision_per_s2), 0.0),
            both,
        )
        return self.recalibration(fused, jnp.any(both, axis=2)), prior

    def _prior(
        self,
        rss_db: Array,
        receiver_m: Array,
        heard: Array,
        present: Array,
        identity: Array | None,
        mel_spectrogram: Array | None,
        snr_db: Array | None,
        snr_known: Array | None,
    ) -> Fix:
        """What the transformer says."""
        read = heard & self.power
        tokens = self.embed(receiver_features(self.normaliser, rss_db, receiver_m, read, present))
        if self.identity is not None:
            tokens = tokens + self.identity(jnp.where(present, _needed("identity", identity), 0))
        if self.snr is not None:
            known = heard & _needed("snr_known", snr_known)
            tokens = tokens + self.snr(snr_features(_needed("snr_db", snr_db), known))
        if self.spectrogram is not None:
            tokens = tokens + self.spectrogram(_needed("mel_spectrogram", mel_spectrogram), heard)
        query = jnp.broadcast_to(self.query[...], (tokens.shape[0], 1, tokens.shape[2]))
        x = jnp.concatenate([query, tokens], axis=1)
        x = x if self.dtype is None else x.astype(self.dtype)
        seen = present[:, None, None, :]  # before the query joins: jax2onnx cannot reshape an axis of R + 1
        visible = jnp.concatenate([jnp.ones_like(seen[..., :1]), seen], axis=-1)
        for block in self.blocks:
            x = block(x, visible)
        gathered = self.norm(at_least_single(x[:, 0]))
        return Fix(self.normaliser.metres(self.position(gathered)), self.cholesky(gathered))


def _needed(name: str, value: Array | None) -> Array:
    if value is None:
        raise DataError(
            explain(
                f"receiver-set network input {name}",
                got="nothing",
                allowed="an array: this network was configured with it",
                cure=f"Pass {name}, or build the network without it.",
            )
        )
    return value
