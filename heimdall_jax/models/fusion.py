"""Power and time together: the place that a prior from powers and the arrival times agree on, and how sure that is."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_jax.models.arrival import Arrivals, residuals_m, solve
from heimdall_jax.models.heads import Fix, Perceptron, before_bound, smooth_bound
from heimdall_jax.models.normaliser import Normaliser
from heimdall_jax.models.norms import LayerNorm
from heimdall_jax.models.pair_delays import arrival_ranges, precision_per_m2

WIDTH, HEADS = 32, 4
TOKEN_FEATURES, PAIR_FEATURES, FIX_FEATURES = 5, 3, 5
SHRINK, GROW = math.log(0.5), math.log(20.0)
"""The solver's spread may be corrected by these factors, no further."""
SPAN_M = 1e5
"""Distances are seen in units of this."""


class ArrivalFusion(nnx.Module):
    """Solves for the place, then looks at what the solution leaves over and corrects place and spread.

    The solver is as good as its assumptions (Gaussian clocks, one path, the right minimum); residuals of receivers and
    of pairs betray where they fail. The correction starts at none.
    """

    def __init__(self, origin_deg: tuple[float, float], dropout: float, *, rngs: nnx.Rngs) -> None:
        self.origin_deg = origin_deg
        self.embed = nnx.Linear(TOKEN_FEATURES, WIDTH, rngs=rngs)
        self.pairs = PairBlock(rngs=rngs)
        self.norm = LayerNorm(WIDTH, rngs=rngs)
        self.correct = Perceptron(WIDTH + FIX_FEATURES, (before_bound(0.0, SHRINK, GROW), 0.0, 0.0), dropout, rngs=rngs)

    def __call__(
        self,
        prior: Fix,
        normaliser: Normaliser,
        receiver_m: Float[Array, "B R 2"],
        receiver_up_m: Float[Array, "B R"],
        clock_sigma_s: Float[Array, "B R"],
        tdoa_s: Float[Array, "B R R"],
        arrival_precision_per_s2: Float[Array, "B R"],
        timing_valid: Bool[Array, "B R R"],
    ) -> Fix:
        """The fused fix; arguments as `ReceiverSetNet` has them, meaningless values already replaced."""
        timed = jnp.any(timing_valid, axis=2)
        precision = jnp.where(timed, precision_per_m2(arrival_precision_per_s2, clock_sigma_s), 0.0)
        # Weighted by clocks too: delays to a receiver whose clock misled the correlator do not pull at the others.
        range_m = arrival_ranges(tdoa_s, precision, timing_valid)
        arrivals = Arrivals(range_m, precision, receiver_m, receiver_up_m)
        centre_m, spread_m = normaliser.position_mean_m[...], normaliser.position_std_m[...]
        fix = solve(arrivals, prior, centre_m, spread_m, self.origin_deg)
        apart_m = SPEED_OF_LIGHT_M_PER_S * tdoa_s - (range_m[:, :, None] - range_m[:, None, :])
        tokens, summary = _left_over(arrivals, prior, fix, self.origin_deg)
        tokens = self.pairs(self.embed(tokens), _pair_features(apart_m, arrival_precision_per_s2, timing_valid), timed)
        count = jnp.maximum(jnp.sum(timed.astype(range_m.dtype), axis=1), 1.0)[:, None]
        pooled = jnp.sum(jnp.where(timed[..., None], self.norm(tokens), 0.0), axis=1) / count
        raw = self.correct(jnp.concatenate([pooled, summary], axis=1))
        growth = jnp.exp(smooth_bound(raw[:, 0], SHRINK, GROW))
        shift_m = jnp.sum(fix.scale_m * raw[:, None, 1:], axis=-1)
        return Fix(fix.position_m + shift_m, fix.scale_m * growth[:, None, None])


class PairBlock(nnx.Module):
    """Attention among receivers whose weights and messages know what is left over of each pair's delay."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(WIDTH, rngs=rngs)
        self.query_key = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.value = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.bias = nnx.Linear(PAIR_FEATURES, HEADS, rngs=rngs)
        self.message = nnx.Linear(PAIR_FEATURES, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B R D"], pair: Float[Array, "B R R F"], visible: Bool[Array, "B R"]
    ) -> Float[Array, "B R D"]:
        """One residual step; nothing is read from receivers that are not visible."""
        y = self.norm(x)
        query, key = jnp.split(self.query_key(y), 2, axis=-1)
        depth = WIDTH // HEADS
        parts = [slice(head * depth, (head + 1) * depth) for head in range(HEADS)]
        bias, value, message = self.bias(pair), self.value(y), self.message(pair)
        heads = []
        for head, part in enumerate(parts):
            score = jnp.einsum("bqd,bkd->bqk", query[..., part], key[..., part]) / math.sqrt(depth) + bias[..., head]
            weight = jax.nn.softmax(jnp.where(visible[:, None, :], score, -1e9), axis=-1)
            heads.append(jnp.sum(weight[..., None] * (value[:, None, :, part] + message[..., part]), axis=2))
        return x + self.out(jnp.concatenate(heads, axis=-1))


def _left_over(arrivals: Arrivals, prior: Fix, fix: Fix, origin_deg: tuple[float, float]) -> tuple[Array, Array]:
    """Features of each receiver (B, R, F) and of the fix (B, F) at the solution."""
    late_m, distance_m = residuals_m(arrivals, fix.position_m, origin_deg)
    precision = arrivals.precision_per_m2
    sigma = jnp.log(_spread_m(fix) / SPAN_M)
    per_receiver = [
        _squashed(late_m * jnp.sqrt(precision)),
        jnp.abs(_squashed(late_m * jnp.sqrt(precision))),
        jnp.log(precision * 1e4 + 1e-6) / 5.0,
        distance_m / SPAN_M,
        jnp.broadcast_to(sigma[:, None] / 5.0, precision.shape),
    ]
    off = _whitened(prior, fix.position_m - prior.position_m)
    badness = jnp.sum(precision * late_m * late_m, axis=1)
    count = jnp.sum((precision > 0).astype(precision.dtype), axis=1)
    per_fix = [
        jnp.log1p(badness / jnp.maximum(count - 3.0, 1.0)),
        count / 5.0,
        sigma / 5.0,
        jnp.log(_spread_m(prior) / _spread_m(fix)) / 5.0,
        jnp.log1p(jnp.sum(off * off, axis=1)),
    ]
    return jnp.stack(per_receiver, axis=-1), jax.lax.stop_gradient(jnp.stack(per_fix, axis=-1))


def _pair_features(apart_m: Array, precision_per_s2: Array, valid: Array) -> Array:
    """What pairs leave over (B, R, R, F): closure in standard deviations, signed and not, and whether it counts."""
    precision = precision_per_s2 / SPEED_OF_LIGHT_M_PER_S**2
    total = jnp.maximum(jnp.sum(precision, axis=1), 1e-30)[:, None, None]
    precision = precision[:, :, None] * precision[:, None, :] / total
    closure = _squashed(jnp.where(valid, apart_m * jnp.sqrt(precision), 0.0))
    return jnp.stack([closure, jnp.abs(closure), valid.astype(closure.dtype)], axis=-1)


def _squashed(x: Array) -> Array:
    """Near zero as it is; far out a logarithm."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def _spread_m(fix: Fix) -> Array:
    """Geometric mean (B,) of the two standard deviations."""
    return jnp.sqrt(fix.scale_m[:, 0, 0] * fix.scale_m[:, 1, 1])


def _whitened(fix: Fix, offset_m: Array) -> Array:
    """Offsets (B, 2) in standard deviations of the fix."""
    east = offset_m[:, 0] / fix.scale_m[:, 0, 0]
    return jnp.stack([east, (offset_m[:, 1] - fix.scale_m[:, 1, 0] * east) / fix.scale_m[:, 1, 1]], axis=-1)
