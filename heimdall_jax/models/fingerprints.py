"""Where transmissions came from that were heard alike: a kernel density over recordings whose place is known.

Recording i, sent from x_i, weighs exp(-d_i / 2 T) with d_i the sum over known receivers of what speaks against it:

    present in both    min(|r - r_i|^2 / 60 m^2, 3), the way from where the receiver stood to where it stood then
    heard in both      and no 60 m apart: min((y - y_i)^2 / 8 dB^2, 9)
    heard in one       1
    present in one     2

and spreads as N(x_i, h^2 I) over places (fingerprinting with kernels: Roos et al. 2002). One in a hundred transmissions
is held to be like none of them, and may be anywhere. Limits keep one wrong receiver from outweighing all others.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.models.normaliser import Fixed, Tables

LEVEL_DB, MOST_LEVEL = 8.0, 9.0
APART_M, MOST_APART = 60.0, 3.0
SILENT, ABSENT = 1.0, 2.0
LIKE_ONE = 0.99
"""Share of transmissions that are like one that was recorded."""


class Fingerprints(Tables):
    """Recordings by receiver; empty until `fill`.

    Rows of its tables are receivers, columns recordings; `counts` is 1 for a recording, 0 for an empty place;
    `temperature` is T, `spread_m` h.

    Args:
        known: How many receivers are known.
        count: How many recordings it has room for.
    """

    def __init__(self, known: int, count: int) -> None:
        each = (known, count)
        self.place_m = Fixed(jnp.zeros((count, 2), jnp.float32))
        self.rss_db, self.heard, self.present = (Fixed(jnp.zeros(each, jnp.float32)) for _ in range(3))
        self.east_m, self.north_m = (Fixed(jnp.zeros(each, jnp.float32)) for _ in range(2))
        self.counts = Fixed(jnp.zeros(count, jnp.float32))
        self.temperature = Fixed(jnp.asarray(1.0, jnp.float32))
        self.spread_m = Fixed(jnp.asarray(100.0, jnp.float32))

    def mismatch(
        self,
        rss_db: Float[Array, "B R"],
        receiver_m: Float[Array, "B R 2"],
        heard: Bool[Array, "B R"],
        present: Bool[Array, "B R"],
        identity: Int[Array, "B R"],
    ) -> Float[Array, "B N"]:
        """What speaks against each recording (d); arguments as `ReceiverSetNet.fixes` has them."""
        known, heard = jnp.arange(1, self.rss_db.shape[0] + 1)[None, None], heard & present
        which = ((identity[..., None] == known) & present[..., None]).astype(rss_db.dtype)

        def by_identity(values: Array) -> Array:
            return jnp.sum(which * values[..., None], axis=1)[..., None]

        here, hears = by_identity(jnp.ones_like(rss_db)), by_identity(heard.astype(rss_db.dtype))
        stand_m = jnp.where(present[..., None], receiver_m, 0.0)
        east_m = by_identity(stand_m[..., 0]) - self.east_m[...][None]
        north_m = by_identity(stand_m[..., 1]) - self.north_m[...][None]
        apart = (east_m * east_m + north_m * north_m) / APART_M**2
        level = (by_identity(jnp.where(heard, rss_db, 0.0)) - self.rss_db[...][None]) / LEVEL_DB
        there, heard_then = self.present[...][None], self.heard[...][None]
        told = jnp.where(apart < 1.0, jnp.minimum(level * level, MOST_LEVEL), 0.0)
        against = jnp.minimum(apart, MOST_APART) + hears * heard_then * told
        against = here * there * (against + SILENT * jnp.abs(hears - heard_then))
        return jnp.sum(against + ABSENT * jnp.abs(here - there), axis=1)

    def log_density(
        self, mismatch: Float[Array, "B N"], east_m: Float[Array, " X"], north_m: Float[Array, " Y"], cell_m: float
    ) -> Float[Array, "B G"]:
        """Of the place per square metre: means over square cells, given by the middles of their columns and rows."""
        empty = (self.counts[...] - 1.0) * 1e4  # weighs nothing
        weight_BN = jax.nn.softmax(-0.5 * mismatch / self.temperature[...] + empty[None], axis=1)
        over_east = self._share(self.place_m[..., 0], east_m, cell_m)
        over_north = self._share(self.place_m[..., 1], north_m, cell_m)
        cells_NG = (over_north[:, :, None] * over_east[:, None, :]).reshape(len(over_east), -1)
        area_m2 = cell_m * cell_m * cells_NG.shape[1]
        return jnp.log(LIKE_ONE * (weight_BN @ cells_NG) / cell_m**2 + (1 - LIKE_ONE) / area_m2)

    def _share(self, from_m: Array, to_m: Array, cell_m: float) -> Float[Array, "N X"]:
        """Of each recording's spread along one axis: the part that falls into each cell."""
        scale = self.spread_m[...] * math.sqrt(2)
        low, high = ((to_m[None] + side - from_m[:, None]) / scale for side in (-cell_m / 2, cell_m / 2))
        return 0.5 * (jax.lax.erf(high) - jax.lax.erf(low))
