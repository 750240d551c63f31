"""Where arrival times say the transmitter is: Gauss-Newton about a prior, a few unrolled steps from several starts.

    minimise over p, b:   sum_i m_i (c t_i - |p - r_i| - b)^2 + (p - mu)^T S^-1 (p - mu),
    1 / m_i = c^2 (1 / a_i + clock_i^2)

t_i are arrival times of precision a_i, clock_i the receivers' clocks, b = c t0 a nuisance, which equals TDOA with its
full, correlated covariance (`physics`: R receivers, one common signal). N(mu, S) is what else is known of the place.
Far from the minimum the precisions are tempered by the distance that a start may be off; the cost is then smooth.

Where several minima remain (three receivers leave two places), the answer is the mixture's mean and covariance, each
minimum weighed by its posterior mass (Laplace): it moves smoothly from one to the other, and says that it is unsure.

Every step is a least-squares problem in two unknowns, solved by orthogonalising its columns: normal equations would
lose the weak direction in float32 where one direction is known a thousand times better than the other.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heimdall_jax.geodesy import ground_height_m
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.mixture import mixture_moments

REACH = 3.2
"""The grid of starts reaches this many spreads of the training places from their mean, on either side."""
STARTS_PER_SIDE = 41
STARTS = 4
"""How many minima of the grid are followed."""
APART = 4.0
"""Spacings between two starts, at least: closer ones end at the same minimum."""
TEMPERS = (0.4, 0.3, 0.15, 0.08, 0.03, 0.016, 0.005, *(0.0,) * 9)
"""Distance, in spacings of the grid, that is added to every arrival's spread at each step."""
FARTHEST_STEP = 3.0
"""A step is cut to this many spacings."""


class Arrivals(NamedTuple):
    """What the solver knows of each receiver, metres: c t_i, 1 / variance (0: no timing), and where it stands."""

    range_m: Float[Array, "B R"]
    precision_per_m2: Float[Array, "B R"]
    receiver_m: Float[Array, "B R 2"]
    up_m: Float[Array, "B R"]


class Stations(NamedTuple):
    """Where receivers stand: (B, 1, 2, R) and (B, 1, 1, R)."""

    receiver_m: Array
    up_m: Array


class Known(NamedTuple):
    """What stays as places move; receivers are the last axis, so that places (B, K, 2, 1) meet it."""

    range_m: Array
    stations: Stations
    prior_m: Array
    whitener: Array
    """Of the prior, transposed: (B, 1, 2, 2)."""
    rows: Array
    """The same, of each start: (B, K, 2, 2)."""
    level: Array
    """Zeros (B, K, 1, 2): the prior is not bent."""


class Weights(NamedTuple):
    """Of receivers (..., B, 1, 1, R): roots of precisions, and shares of their sum."""

    root: Array
    share: Array


class Rows(NamedTuple):
    """A least-squares problem in (east, north), linearised: two rows of the prior and R of arrivals, weighted.

    Attributes:
        slope: Direction (B, K, 2, R) from receivers to the place.
        late: What is left over (B, K, 1, 2 + R).
        inverse: Pseudo-inverse (B, K, 2, 2 + R): times `late` it gives the step.
        factor: Lower Cholesky factor (B, K, 2, 2) of the covariance, as its three numbers.
    """

    slope: Array
    late: Array
    inverse: Array
    factor: tuple[Array, Array, Array]


def solve(arrivals: Arrivals, prior: Fix, centre_m: Array, spread_m: Array, origin_deg: tuple[float, float]) -> Fix:
    """The place (B, 2) and the lower Cholesky factor (B, 2, 2) of its covariance, metres.

    Args:
        arrivals: Of the receivers.
        prior: Gaussian place, lower Cholesky factor.
        centre_m: Middle (2,) of the grid of starts.
        spread_m: Spread () of the training places.
        origin_deg: Of the local frame; the ground is curved about it.
    """
    unit = np.linspace(-REACH, REACH, STARTS_PER_SIDE)
    grid = jnp.asarray(np.stack(np.meshgrid(unit, unit), axis=-1).reshape(1, -1, 2), spread_m.dtype)
    spacing_m = spread_m * (2 * REACH / (STARTS_PER_SIDE - 1))
    starts_m = centre_m.reshape(1, 1, 2) + spread_m * grid
    known = _known(arrivals, prior)
    place_m = _descend(*jax.lax.stop_gradient((known, arrivals.precision_per_m2)), starts_m, spacing_m, origin_deg)
    # Gradients flow through one last step from the minimum, which is exact there (implicit differentiation).
    place_m = jax.lax.stop_gradient(place_m)
    weights = _weights(arrivals.precision_per_m2, 0.0 * spacing_m)
    distance_m = _distance_m(known.stations, place_m, origin_deg)
    off = _off(known, place_m)
    rows = _rows(known, weights, place_m, distance_m, off)
    minimum_m = (place_m + _cut(_step(rows.inverse, rows.late), spacing_m)[0])[..., 0]
    shift_m, spreads_m, factor = _bent(known, rows, weights, distance_m)
    return mixture_moments(minimum_m, factor, _cost(known, weights, distance_m, off)[:, :, 0, 0], shift_m, spreads_m)


def _known(arrivals: Arrivals, prior: Fix) -> Known:
    whitener = jnp.swapaxes(_inverse_lower(prior.scale_m), 1, 2)[:, None]
    rows = jnp.broadcast_to(whitener, (whitener.shape[0], STARTS, 2, 2))
    prior_m = prior.position_m[:, None, :, None]
    level = jnp.zeros_like(rows[:, :, :1])
    return Known(arrivals.range_m[:, None, None], _stations(arrivals), prior_m, whitener, rows, level)


def _stations(arrivals: Arrivals) -> Stations:
    return Stations(jnp.swapaxes(arrivals.receiver_m, 1, 2)[:, None], arrivals.up_m[:, None, None])


def _weights(precision_per_m2: Array, temper_m: Array) -> Weights:
    """Of precisions (B, R), tempered by distances (...)."""
    temper_m = temper_m.reshape(*temper_m.shape, 1, 1, 1, 1)
    precision = precision_per_m2[(None,) * (temper_m.ndim - 4)][..., None, None, :]
    precision = precision / (1.0 + precision * temper_m * temper_m)
    total = jnp.maximum(jnp.sum(precision, axis=-1, keepdims=True), 1e-30)
    return Weights(jnp.sqrt(precision), precision / total)


def _descend(
    known: Known, precision_per_m2: Array, starts_m: Array, spacing_m: Array, origin_deg: tuple[float, float]
) -> Array:
    """Places (B, K, 2, 1) at the minima below the starts; a step that climbs is halved instead of taken."""
    weights = _weights(precision_per_m2, jnp.asarray(TEMPERS, spacing_m.dtype) * spacing_m)
    first = Weights(*(each[0] for each in weights))
    # As `_off`; of so many places a matrix product is faster.
    prior_m, whitener = known.prior_m[..., 0], known.whitener[:, 0]
    off = jnp.matmul(prior_m - starts_m, whitener, precision=jax.lax.Precision.HIGHEST)[:, :, None]
    cost = _cost(known, first, _distance_m(known.stations, starts_m[..., None], origin_deg), off)
    place_m = _lowest(cost[:, :, 0, 0], starts_m, spacing_m)[..., None]

    def descend(carry: tuple[Array, ...], weights: Weights) -> tuple[tuple[Array, ...], None]:
        place_m, distance_m, off, radius_m = carry
        rows = _rows(known, weights, place_m, distance_m, off)
        step_m, length_m = _cut(_step(rows.inverse, rows.late), radius_m)
        # Hyperbolas are narrow, bent valleys: a straight step leaves them, so it is bent (Transtrum, Sethna 2012).
        next_m = place_m + step_m + _curve(known, rows, weights, distance_m, step_m, length_m)
        next_distance_m, next_off = _distance_m(known.stations, next_m, origin_deg), _off(known, next_m)
        before = jnp.sum(rows.late * rows.late, axis=(2, 3), keepdims=True)
        better = _cost(known, weights, next_distance_m, next_off) <= before + 1e-3
        radius_m = jnp.where(better, jnp.maximum(radius_m, 2.0 * length_m), 0.3 * length_m)
        after = next_m, next_distance_m, next_off
        place_m, distance_m, off = (
            jnp.where(better, new, old) for new, old in zip(after, (place_m, distance_m, off), strict=True)
        )
        return (place_m, distance_m, off, radius_m), None

    radius_m = jnp.ones_like(place_m[:, :, :1]) * (FARTHEST_STEP * spacing_m)
    start = (place_m, _distance_m(known.stations, place_m, origin_deg), _off(known, place_m), radius_m)
    (place_m, *_), _ = jax.lax.scan(descend, start, weights)
    return place_m


def _cut(step_m: Array, limit_m: Array) -> tuple[Array, Array]:
    """Steps (B, K, 2, 1) no longer than the limit, and their lengths (B, K, 1, 1)."""
    length_m = jnp.sqrt(jnp.sum(step_m * step_m, axis=2, keepdims=True) + 1e-12)
    cut_m = jnp.minimum(limit_m, length_m)
    return step_m * (cut_m / length_m), cut_m


def _curve(known: Known, rows: Rows, weights: Weights, distance_m: Array, step_m: Array, length_m: Array) -> Array:
    """By how much (B, K, 2, 1) a straight step of some length (B, K, 1, 1) leaves the valley, at most half of that."""
    along = jnp.sum(rows.slope * step_m, axis=2, keepdims=True)
    second = _centred((length_m * length_m - along * along) / distance_m, weights) * weights.root
    late = jnp.concatenate([known.level, second], axis=3)
    return -0.5 * _cut(_step(rows.inverse, late), length_m)[0]


def _bent(known: Known, rows: Rows, weights: Weights, distance_m: Array) -> tuple[Array, Array, Array]:
    """What bent valleys add to a minimum's Gaussian, a displacement (B, K, 2) and spreads (B, K, 3, 2); its factor.

    A place p + x - q(x) fits as well as p + x did where nothing was bent; q is quadratic. With x = u l1 + v l2, l the
    columns of the covariance's factor and u, v standard normal, q = u^2 q11 + u v q12 + v^2 q22 has the mean q11 + q22
    and the covariance 2 q11 q11^T + 2 q22 q22^T + q12 q12^T.
    """
    east, cross, north = rows.factor
    first, second = jnp.concatenate([east, cross], axis=2), jnp.concatenate([jnp.zeros_like(north), north], axis=2)
    steps_m = first, second, first + second
    lengths_m = (jnp.sqrt(jnp.sum(step_m * step_m, axis=2, keepdims=True)) for step_m in steps_m)
    curves = map(functools.partial(_curve, known, rows, weights, distance_m), steps_m, lengths_m)
    one, two, both = (curve[..., 0] for curve in curves)
    spreads = jnp.stack([math.sqrt(2.0) * one, math.sqrt(2.0) * two, both - one - two], axis=2)
    return one + two, spreads, jnp.concatenate([first, second], axis=-1)


def residuals_m(
    arrivals: Arrivals, place_m: Float[Array, "B 2"], origin_deg: tuple[float, float]
) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
    """How much later than expected each receiver heard, metres, about the weighted mean; and its distance, metres."""
    distance_m = _distance_m(_stations(arrivals), place_m[:, None, :, None], origin_deg)
    weights = _weights(arrivals.precision_per_m2, jnp.zeros((), place_m.dtype))
    late_m = _centred(arrivals.range_m[:, None, None] - distance_m, weights)
    return late_m[:, 0, 0], distance_m[:, 0, 0]


def _rows(known: Known, weights: Weights, place_m: Array, distance_m: Array, off: Array) -> Rows:
    """The problem linearised about places (B, K, 2, 1), at those distances and whitened distances from the prior."""
    slope = (place_m - known.stations.receiver_m) / distance_m
    left = jnp.concatenate([slope, known.range_m - distance_m], axis=2)
    prior = jnp.concatenate([known.rows, off], axis=2)
    matrix = jnp.concatenate([prior, _centred(left, weights) * weights.root], axis=3)
    east, north, late = matrix[:, :, :1], matrix[:, :, 1:2], matrix[:, :, 2:]
    # What of the east column is orthogonal to the north column.
    north_squared = jnp.sum(north * north, axis=3, keepdims=True)
    shared = jnp.sum(north * east, axis=3, keepdims=True)
    slant = shared / north_squared
    east = east - slant * north
    east_squared = jnp.sum(east * east, axis=3, keepdims=True)
    to_east = east / east_squared
    inverse = jnp.concatenate([to_east, (north - shared * to_east) / north_squared], axis=2)
    east_m = 1.0 / jnp.sqrt(east_squared)
    return Rows(slope, late, inverse, (east_m, -slant * east_m, 1.0 / jnp.sqrt(north_squared)))


def _step(inverse: Array, late: Array) -> Array:
    """The step (B, K, 2, 1) that minimises the problem."""
    return jnp.sum(inverse * late, axis=3, keepdims=True)


def _cost(known: Known, weights: Weights, distance_m: Array, off: Array) -> Array:
    """The sum to minimise (B, K, 1, 1) at places of these distances and whitened distances from the prior."""
    late = _centred(known.range_m - distance_m, weights) * weights.root
    return jnp.sum(late * late, axis=(2, 3), keepdims=True) + jnp.sum(off * off, axis=(2, 3), keepdims=True)


def _distance_m(stations: Stations, place_m: Array, origin_deg: tuple[float, float]) -> Array:
    """The distance (B, K, 1, R) in space from receivers to places (B or 1, K, 2, 1) on the ground."""
    away_m = place_m - stations.receiver_m
    above_m = ground_height_m(place_m, origin_deg, jnp, axis=2, keepdims=True) - stations.up_m
    return jnp.sqrt(jnp.sum(away_m * away_m, axis=2, keepdims=True) + (above_m * above_m + 1.0))


def _off(known: Known, place_m: Array) -> Array:
    """The whitened distance (B, K, 1, 2) from places (B, K, 2, 1) to the prior."""
    return jnp.sum((known.prior_m - place_m) * known.whitener, axis=2, keepdims=True)


def _centred(values: Array, weights: Weights) -> Array:
    """Values (..., R) less their weighted mean: the common time of sending."""
    return values - jnp.sum(weights.share * values, axis=-1, keepdims=True)


def _lowest(cost_BG: Array, starts_m: Array, spacing_m: Array) -> Array:
    """The places (B, K, 2) of the lowest costs, no two of them close on the grid."""
    places = []
    for _ in range(STARTS):
        place_m = _choose(cost_BG, starts_m)
        away = jnp.sum((starts_m - place_m) ** 2, axis=-1)
        cost_BG = cost_BG + jnp.where(away < (APART * spacing_m) ** 2, 1e30, 0.0)
        places.append(place_m)
    return jnp.concatenate(places, axis=1)


def _choose(cost_BK: Array, place_m: Array) -> Array:
    """The place (B, 1, 2) of the lowest cost."""
    lowest = jnp.argmin(cost_BK, axis=1).astype(jnp.int32)[:, None]
    chosen = (np.arange(cost_BK.shape[1], dtype=np.int32)[None] == lowest).astype(place_m.dtype)
    return jnp.sum(chosen[:, :, None] * place_m, axis=1, keepdims=True)


def _inverse_lower(factor: Array) -> Array:
    """Inverse (B, 2, 2) of lower triangular factors."""
    east, cross, north = factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1]
    top = jnp.stack([1.0 / east, jnp.zeros_like(east)], axis=-1)
    return jnp.stack([top, jnp.stack([-cross / (east * north), 1.0 / north], axis=-1)], axis=-2)
