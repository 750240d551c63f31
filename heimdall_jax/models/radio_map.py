"""The posterior of the place given received powers and a radio map: Bayes on a grid, in one graph.

At grid point g, receiver r reads N(m_rg + p, v_rg), where p ~ N(0, S_g) is what transmit power and map share. With
a_r = 1 / v_rg summed over the receivers that heard, A = sum a_r, and the weighted mean and scatter of z_r = y_r - m_rg,

    log L(g) = -1/2 [ sum log v_rg + log(1 + S A) + sum a_r (z_r - mean)^2 + mean^2 A / (1 + S A) ]

and p given these is N(S A mean / (1 + S A), S / (1 + S A)). A receiver that was there and did not hear adds
log(o + (1 - o) Phi((least_r - m_rg - E p) / sqrt(v_rg + var p))), o the share of transmissions it misses anyhow:
exact for one such receiver, for several as if p were drawn for each. With cross-validated spreads y is the power of the
signal, what receivers read less their noise (`propagation.py`): near the floor its variance is larger, at the floor it
was not heard, and far below it the receiver fails and says nothing. The mean of the posterior has the least mean
squared error of all estimates, its geometric median the least mean error: where a second peak is far off, it stays with
the first.

Recordings of known places may speak, too (`fingerprints.py`): they know echoes, walks and the days' receivers, the map
knows what lies between. Neither is told what the other has already said, so each log-likelihood counts by a share,
which validation rows choose: a logarithmic opinion pool (Genest and Zidek 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.models.fingerprints import Fingerprints
from heimdall_jax.models.heads import Fix, Locator
from heimdall_jax.models.normaliser import Fixed, Tables
from heimdall_jax.models.recalibration import Recalibration
from heimdall_jax.propagation import BELIEVED_DB, MARGIN_DB, NO_FLOOR_DB, signal_db, signal_noise_db2
from heimdall_jax.types import Domain

NEAREST_M = 20.0
"""Shorter distances count as this one: the far-field law ends, and positions are no better known."""
MOST_CELLS = 1_000_000
"""Of a map: with 24 neighbours each, their places alone take gigabytes beyond it."""
MEDIAN_STEPS = 15
"""Weiszfeld's; of 470 answers on POWDER 100 steps move 95 % by less than 0.2 m and one by 25."""


class RadioMapNet(Locator, Tables):
    """Maps of known receivers that stand still; a distance law for the others. Nothing in it is trained by gradient.

    It is empty until `fill`, and then knows what a receiver reads from anywhere on the grid. Rows of its tables are
    identities, 0 for an unknown receiver; `temperature` divides the log-likelihood; `shares` (2,) are those of map and
    fingerprints.

    Args:
        domain: The known receivers, and the box that the grid covers.
        config: Spacing, spreads, and what is missed.
    """

    def __init__(self, domain: Domain, config: RadioMapConfig) -> None:
        places_m = grid(domain.position_box_m, config)
        known = len(domain.receivers) + 1  # row 0 is any other receiver
        self.config = config
        self.columns = int(np.sum(places_m[:, 1] == places_m[0, 1]))
        self.places_m = Fixed(jnp.asarray(places_m, jnp.float32))
        self.mean_db = Fixed(jnp.zeros((known, len(places_m)), jnp.float32))
        self.own_db2 = Fixed(jnp.ones((known, len(places_m)), jnp.float32))
        self.shared_db2 = Fixed(jnp.zeros(len(places_m), jnp.float32))
        self.mapped = Fixed(jnp.zeros(known, jnp.float32))
        self.about_law_db = Fixed(jnp.full(known, config.moving_std_db, jnp.float32))
        self.bias_db = Fixed(jnp.zeros(known, jnp.float32))
        self.least_db = Fixed(jnp.zeros(known, jnp.float32))
        self.floor_db = Fixed(jnp.full(known, NO_FLOOR_DB, jnp.float32))
        self.exponent = Fixed(jnp.asarray(2.0, jnp.float32))
        self.temperature = Fixed(jnp.asarray(1.0, jnp.float32))
        self.shares = Fixed(jnp.asarray((1.0, 0.0), jnp.float32))
        room = config.fingerprints
        self.fingerprints = Fingerprints(known - 1, room) if room and known > 1 else None
        self.recalibration = Recalibration()

    def __call__(
        self,
        rss_db: Float[Array, "B R"],
        receiver_m: Float[Array, "B R 2"],
        heard: Bool[Array, "B R"],
        present: Bool[Array, "B R"],
        identity: Int[Array, "B R"],
    ) -> Fix:
        """Locate; arguments as `ReceiverSetNet.fixes` has them.

        Returns:
            The posterior's mean (B, 2) and the lower Cholesky factor (B, 2, 2) of its covariance; east, north, metres.
            If spreads were cross-validated, its geometric median at temperature 1, and its second moment about that.
        """
        heard = heard & present
        logs_BG = self.log_likelihoods(rss_db, receiver_m, heard, present, identity)
        return self.recalibration(self.answer(logs_BG), heard)

    def log_likelihoods(
        self,
        rss_db: Float[Array, "B R"],
        receiver_m: Float[Array, "B R 2"],
        heard: Bool[Array, "B R"],
        present: Bool[Array, "B R"],
        identity: Int[Array, "B R"],
    ) -> tuple[Float[Array, "B G"], ...]:
        """Of every grid point, up to a constant of each transmission: the map's, and the fingerprints' if there are."""
        identity, heard = jnp.where(present, identity, 0), heard & present
        by_map = self._log_likelihood(rss_db, receiver_m, heard, present, identity)
        if self.fingerprints is None:
            return (by_map,)
        mismatch = self.fingerprints.mismatch(rss_db, receiver_m, heard, present, identity)
        east_m, north_m = self.places_m[: self.columns, 0], self.places_m[:: self.columns, 1]
        return by_map, self.fingerprints.log_density(mismatch, east_m, north_m, self.config.spacing_m)

    def answer(self, logs_BG: Sequence[Float[Array, "B G"]]) -> Fix:
        """Place and spread of the pooled log-likelihoods, before recalibration."""
        log_fit_BG = logs_BG[0]
        if len(logs_BG) > 1:
            log_fit_BG = self.shares[0] * logs_BG[0] + self.shares[1] * logs_BG[1]
        weight_BG = jax.nn.softmax(log_fit_BG / self.temperature[...], axis=1)
        places_m = self.places_m[...]
        if self.config.cross_validate:
            answer_m = geometric_median(jax.nn.softmax(log_fit_BG, axis=1), places_m, self.config.spacing_m)
        else:
            answer_m = _mean(weight_BG, places_m)
        east_m, north_m = places_m[None, :, 0] - answer_m[:, :1], places_m[None, :, 1] - answer_m[:, 1:]
        cell_m2 = self.config.spacing_m**2 / 12
        east_m2 = jnp.sum(weight_BG * east_m * east_m, axis=1) + cell_m2
        north_m2 = jnp.sum(weight_BG * north_m * north_m, axis=1) + cell_m2
        both_m2 = jnp.sum(weight_BG * east_m * north_m, axis=1)
        return Fix(answer_m, _cholesky(east_m2, both_m2, north_m2))

    def _expected(
        self, receiver_m: Array, present: Array, identity: Array
    ) -> tuple[Float[Array, "B R G"], Float[Array, "B R G"]]:
        """Mean and own variance of each receiver's reading at every grid point."""
        rows = [jnp.take(table[...], identity, axis=0) for table in (self.mean_db, self.own_db2)]
        mapped = jnp.take(self.mapped[...], identity, axis=0)[..., None] > 0.5
        bias_db = jnp.take(self.bias_db[...], identity, axis=0)[..., None]
        stand_m = jnp.where(present[..., None], receiver_m, 0.0)[:, :, None, :]
        law_db = bias_db - 10.0 * self.exponent[...] * decades(self.places_m[...][None, None] - stand_m, jnp)
        far_db2 = jnp.take(self.about_law_db[...] ** 2, identity, axis=0)[..., None]
        return jnp.where(mapped, rows[0], law_db), jnp.where(mapped, rows[1], far_db2)

    def _log_likelihood(
        self, rss_db: Array, receiver_m: Array, heard: Array, present: Array, identity: Array
    ) -> Float[Array, "B G"]:
        """Of every grid point, up to a constant of each transmission."""
        mean_db, own_db2 = self._expected(receiver_m, present, identity)
        if self.config.cross_validate:
            rss_db, floor_db = jnp.where(heard, rss_db, 0.0), jnp.take(self.floor_db[...], identity, axis=0)
            present = present & ~(heard & (rss_db < floor_db - BELIEVED_DB))
            heard = heard & (rss_db > floor_db + MARGIN_DB)
            noise_db2 = jnp.where(heard, signal_noise_db2(rss_db, floor_db, jnp), 0.0)
            own_db2 = own_db2 + noise_db2[..., None]
            rss_db = signal_db(rss_db, floor_db, jnp)
        shared_db2 = self.config.offset_db**2 + self.shared_db2[...][None]
        precision = jnp.where(heard[..., None], 1.0 / own_db2, 0.0)
        left_db = jnp.where(heard, rss_db, 0.0)[..., None] - mean_db
        total = jnp.sum(precision, axis=1)
        level_db = jnp.sum(precision * left_db, axis=1) / jnp.maximum(total, 1e-9)
        scatter = jnp.sum(precision * (left_db - level_db[:, None]) ** 2, axis=1)
        widened = 1.0 + shared_db2 * total
        spreads = jnp.sum(jnp.where(heard[..., None], jnp.log(own_db2), 0.0), axis=1)
        log_fit = -0.5 * (spreads + jnp.log(widened) + scatter + level_db**2 * total / widened)
        offset_db, offset_db2 = shared_db2 * total * level_db / widened, shared_db2 / widened
        least_db = jnp.take(self.least_db[...], identity, axis=0)[..., None]
        below = (least_db - mean_db - offset_db[:, None]) / jnp.sqrt(own_db2 + offset_db2[:, None])
        silent = 0.5 * (1.0 + jax.lax.erf(below / math.sqrt(2)))
        log_silent = jnp.log(self.config.missed + (1.0 - self.config.missed) * silent)
        return log_fit + jnp.sum(jnp.where((present & ~heard)[..., None], log_silent, 0.0), axis=1)


def decades(offset_m: Any, xp: ModuleType) -> Any:
    """log10 of the length in metres of offsets (..., E), in NumPy or JAX."""
    squared = offset_m[..., 0] ** 2 + offset_m[..., 1] ** 2
    return 0.5 * xp.log(xp.maximum(squared, NEAREST_M**2)) / math.log(10)


def grid(box_m: tuple[float, float, float, float], config: RadioMapConfig) -> np.ndarray:
    """Middles (G, E) of square cells of the configured size over a box (west, south, east, north) and its margin.

    Raises:
        ConfigError: More than `MOST_CELLS` cells.
    """
    west, south, east, north = box_m
    counts = [
        max(1, round((high - low + 2 * config.margin_m) / config.spacing_m))
        for low, high in ((west, east), (south, north))
    ]
    if math.prod(counts) > MOST_CELLS:
        least_m = math.ceil(config.spacing_m * math.sqrt(math.prod(counts) / MOST_CELLS) * 1.01)
        got = f"{config.spacing_m:g}, {counts[0]} x {counts[1]} cells over these places"
        cure = f"--radio-map.spacing-m {least_m} is coarse enough; or leave far places out."
        raise ConfigError(explain("radio_map.spacing_m", got=got, allowed=f"{MOST_CELLS} cells at most", cure=cure))
    axes = [
        (low + high) / 2 + (np.arange(count) - (count - 1) / 2) * config.spacing_m
        for (low, high), count in zip(((west, east), (south, north)), counts, strict=True)
    ]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def geometric_median(
    weight_BG: Float[Array, "B G"], places_m: Float[Array, "G 2"], spacing_m: float
) -> Float[Array, "B 2"]:
    """The place with the least mean distance under weights that sum to 1 over cells (Weiszfeld 1937).

    A cell's distance is the root of the mean squared one to its points, so that none is 0.
    """
    answer_m = _mean(weight_BG, places_m)
    for _ in range(MEDIAN_STEPS):
        east_m, north_m = places_m[None, :, 0] - answer_m[:, :1], places_m[None, :, 1] - answer_m[:, 1:]
        pull_BG = weight_BG / jnp.sqrt(east_m**2 + north_m**2 + spacing_m**2 / 6)
        answer_m = _mean(pull_BG / jnp.sum(pull_BG, axis=1, keepdims=True), places_m)
    return answer_m


def _mean(weight_BG: Array, places_m: Array) -> Float[Array, "B 2"]:
    """Under weights that sum to 1."""
    return jnp.stack([jnp.sum(weight_BG * places_m[None, :, axis], axis=1) for axis in (0, 1)], axis=-1)


def _cholesky(east_m2: Array, both_m2: Array, north_m2: Array) -> Float[Array, "B 2 2"]:
    """Lower factors of covariances given by their entries (B,)."""
    east_m = jnp.sqrt(east_m2)
    cross_m = both_m2 / east_m
    top = jnp.stack([east_m, jnp.zeros_like(east_m)], axis=-1)
    return jnp.stack([top, jnp.stack([cross_m, jnp.sqrt(north_m2 - cross_m * cross_m)], axis=-1)], axis=-2)
