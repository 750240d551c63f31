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

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S, ground_height_m
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
ROUNDS = 10
"""Of the fit of arrival times to pairs: where one pair of six receivers is missing, what is left is under a metre."""
WORST_CLOCK_S = 1.0
"""Clocks beyond it, and unknown ones, count as this: 300,000 km, which says nothing."""


class Arrivals(NamedTuple):
    """What the solver knows of each receiver, metres: c t_i, 1 / variance (0: no timing), and where it stands."""

    range_m: Float[Array, "B R"]
    precision_per_m2: Float[Array, "B R"]
    receiver_m: Float[Array, "B R 2"]
    up_m: Float[Array, "B R"]


class Rows(NamedTuple):
    """A least-squares problem in (east, north): R rows of arrivals and two of the prior, weighted."""

    arrivals_BKRE: Array
    arrivals_BKR: Array
    prior_BKPE: Array
    prior_BKP: Array


def arrival_ranges(
    tdoa_s: Float[Array, "B R R"], precision_per_s2: Float[Array, "B R"], valid: Bool[Array, "B R R"]
) -> Float[Array, "B R"]:
    """Arrival times (B, R) in metres, about a common zero, that fit pair delays best.

    Minimises sum_ij v_ij a_i a_j (tau_ij - t_i + t_j)^2: the weights of pairs of one common signal (Hahn, Tretter
    1973). With all pairs valid the weighted mean over j, a receiver itself among them, is exact at once; the other
    rounds serve pairs that are not.
    """
    itself = jnp.sum(valid.astype(tdoa_s.dtype), axis=2)[:, :, None] > jnp.zeros_like(tdoa_s)
    same = _same_receiver(tdoa_s)
    weight = jnp.where(valid | (itself & same), precision_per_s2[:, None, :], 0.0)
    weight = weight / jnp.maximum(jnp.max(weight, axis=(1, 2), keepdims=True), 1e-30)
    total = jnp.maximum(jnp.sum(weight, axis=2), 1e-30)
    arrival = jnp.zeros_like(precision_per_s2)
    for _ in range(ROUNDS):
        arrival = jnp.sum(weight * (tdoa_s + arrival[:, None, :]), axis=2) / total
    return SPEED_OF_LIGHT_M_PER_S * arrival


def _same_receiver(pairs: Array) -> Array:
    """True on the diagonal of (B, R, R), with any R."""
    number = jnp.cumsum(jnp.ones_like(pairs[:, :, :1]), axis=1)
    return jnp.abs(number - jnp.swapaxes(number, 1, 2)) < 0.5


def precision_per_m2(precision_per_s2: Float[Array, "B R"], clock_sigma_s: Float[Array, "B R"]) -> Float[Array, "B R"]:
    """1 / (c^2 (1/a + clock^2)), 0 where nothing arrived."""
    clock_m = SPEED_OF_LIGHT_M_PER_S * jnp.minimum(clock_sigma_s, WORST_CLOCK_S)
    arrived = precision_per_s2 / SPEED_OF_LIGHT_M_PER_S**2
    return arrived / (1.0 + arrived * clock_m * clock_m)


def solve(arrivals: Arrivals, prior: Fix, centre_m: Array, spread_m: Array, origin_deg: tuple[float, float]) -> Fix:
    """The place (B, 2) and the lower Cholesky factor (B, 2, 2) of its covariance, metres.

    Args:
        arrivals: Of the receivers.
        prior: Gaussian place, lower Cholesky factor.
        centre_m: Middle (2,) of the grid of starts.
        spread_m: Spread () of the training places.
        origin_deg: Of the local frame; the ground is curved about it.
    """
    whitener = _inverse_lower(prior.scale_m)
    unit = np.linspace(-REACH, REACH, STARTS_PER_SIDE)
    grid = jnp.asarray(np.stack(np.meshgrid(unit, unit), axis=-1).reshape(1, -1, 2), spread_m.dtype)
    spacing_m = spread_m * (2 * REACH / (STARTS_PER_SIDE - 1))
    starts_m = centre_m.reshape(1, 1, 2) + spread_m * grid
    fixed = jax.lax.stop_gradient((arrivals, prior, whitener))
    cost = _cost(*fixed, starts_m, TEMPERS[0] * spacing_m, origin_deg)
    place_m = _lowest(cost, starts_m, spacing_m)
    place_m = _descend(fixed, place_m, spacing_m, origin_deg)
    # Gradients flow through one last step from the minimum, which is exact there (implicit differentiation).
    place_m = jax.lax.stop_gradient(place_m)
    rows, bend = _rows(arrivals, prior, whitener, place_m, 0.0 * spacing_m, origin_deg)
    step_m, factor = _step(rows)
    cost = _cost(arrivals, prior, whitener, place_m, 0.0 * spacing_m, origin_deg)
    shift_m, spreads_m = _bent(rows, bend, factor)
    return mixture_moments(place_m + _cut(step_m, spacing_m), factor, cost, shift_m, spreads_m)


def _descend(
    fixed: tuple[Arrivals, Fix, Array], place_m: Array, spacing_m: Array, origin_deg: tuple[float, float]
) -> Array:
    """Places (B, K, 2) at the minima below the starts; a step that climbs is halved instead of taken."""

    def descend(carry: tuple[Array, Array], temper: Array) -> tuple[tuple[Array, Array], None]:
        place_m, radius_m = carry
        rows, bend = _rows(*fixed, place_m, temper * spacing_m, origin_deg)
        step_m = _cut(_step(rows)[0], radius_m)
        # Hyperbolas are narrow, bent valleys: a straight step leaves them, so it is bent (Transtrum, Sethna 2012).
        length = jnp.sqrt(jnp.sum(step_m * step_m, axis=-1, keepdims=True))
        curve_m, _ = _step(rows._replace(arrivals_BKR=bend(step_m), prior_BKP=jnp.zeros_like(rows.prior_BKP)))
        step_m = step_m + _cut(curve_m, 0.5 * length)
        before = jnp.sum(rows.arrivals_BKR**2, axis=-1) + jnp.sum(rows.prior_BKP**2, axis=-1)
        after = _cost(*fixed, place_m + step_m, temper * spacing_m, origin_deg)
        better = (after <= before + 1e-3)[..., None]
        place_m = jnp.where(better, place_m + step_m, place_m)
        return (place_m, jnp.where(better, jnp.maximum(radius_m, 2.0 * length), 0.3 * length)), None

    tempers = jnp.asarray(TEMPERS, place_m.dtype)
    radius_m = jnp.ones_like(place_m[..., :1]) * (FARTHEST_STEP * spacing_m)
    (place_m, _), _ = jax.lax.scan(descend, (place_m, radius_m), tempers)
    return place_m


def _cut(step_m: Array, limit_m: Array) -> Array:
    """Steps (B, K, 2) no longer than the limit."""
    length = jnp.sqrt(jnp.sum(step_m * step_m, axis=-1, keepdims=True) + 1e-12)
    return step_m * jnp.minimum(1.0, limit_m / length)


def _bent(rows: Rows, bend: Callable[[Array], Array], factor: Array) -> tuple[Array, Array]:
    """Displacement (B, K, 2) of the mean, and spreads (B, K, 3, 2), that bent valleys add to a minimum's Gaussian.

    A place p + x - q(x) fits as well as p + x did where nothing was bent; q is quadratic. With x = u l1 + v l2, l the
    columns of the covariance's factor and u, v standard normal, q = u^2 q11 + u v q12 + v^2 q22 has the mean q11 + q22
    and the covariance 2 q11 q11^T + 2 q22 q22^T + q12 q12^T.
    """

    def quadratic(step_m: Array) -> Array:
        length = jnp.sqrt(jnp.sum(step_m * step_m, axis=-1, keepdims=True))
        curve_m, _ = _step(rows._replace(arrivals_BKR=bend(step_m), prior_BKP=jnp.zeros_like(rows.prior_BKP)))
        return _cut(curve_m, 0.5 * length)

    first, second = factor[..., 0], factor[..., 1]
    one, two, both = quadratic(first), quadratic(second), quadratic(first + second)
    cross = both - one - two
    return one + two, jnp.stack([math.sqrt(2.0) * one, math.sqrt(2.0) * two, cross], axis=2)


def residuals_m(
    arrivals: Arrivals, place_m: Float[Array, "B 2"], origin_deg: tuple[float, float]
) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
    """How much later than expected each receiver heard, metres, about the weighted mean; and its distance, metres."""
    _, distance_m = _distances(arrivals, place_m[:, None], origin_deg)
    late_m, _ = _centred(arrivals.range_m[:, None] - distance_m, arrivals.precision_per_m2[:, None])
    return late_m[:, 0], distance_m[:, 0]


def _rows(
    arrivals: Arrivals, prior: Fix, whitener: Array, place_m: Array, temper_m: Array, origin_deg: tuple[float, float]
) -> tuple[Rows, Callable[[Array], Array]]:
    """The problem linearised about places (B, K, 2), and what is left over of a step (B, K, 2) that bends not."""
    away_m, distance_m = _distances(arrivals, place_m, origin_deg)
    precision = _tempered(arrivals.precision_per_m2, temper_m)[:, None]
    late_m, total = _centred(arrivals.range_m[:, None] - distance_m, precision)
    slope = away_m / distance_m[..., None]
    slope = slope - jnp.sum(precision[..., None] * slope, axis=-2, keepdims=True) / total[..., None]
    weight = jnp.sqrt(precision)
    prior_rows = jnp.broadcast_to(whitener[:, None], (*place_m.shape[:2], 2, 2))
    off = _times(whitener, prior.position_m[:, None] - place_m)

    def bend(step_m: Array) -> Array:
        along = jnp.sum(away_m * step_m[:, :, None], axis=-1) / distance_m
        second = (jnp.sum(step_m * step_m, axis=-1)[..., None] - along * along) / distance_m
        return -0.5 * weight * _centred(second, precision)[0]

    return Rows(slope * weight[..., None], late_m * weight, prior_rows, off), bend


def _step(rows: Rows) -> tuple[Array, Array]:
    """The step (B, K, 2) that minimises the problem, and the lower Cholesky factor (B, K, 2, 2) of its covariance."""
    arrivals, late, prior, off = rows
    north = (arrivals[..., 1], prior[..., 1])
    east = (arrivals[..., 0], prior[..., 0])
    north_length = jnp.sqrt(_dot(north, north))
    north = _over(north, north_length)
    shared = _dot(north, east)
    east = (east[0] - shared[..., None] * north[0], east[1] - shared[..., None] * north[1])
    east_length = jnp.sqrt(_dot(east, east))
    east = _over(east, east_length)
    east_step = _dot(east, (late, off)) / east_length
    north_step = (_dot(north, (late, off)) - shared * east_step) / north_length
    top = jnp.stack([1.0 / east_length, jnp.zeros_like(shared)], axis=-1)
    bottom = jnp.stack([-shared / (east_length * north_length), 1.0 / north_length], axis=-1)
    return jnp.stack([east_step, north_step], axis=-1), jnp.stack([top, bottom], axis=-2)


def _cost(
    arrivals: Arrivals, prior: Fix, whitener: Array, place_m: Array, temper_m: Array, origin_deg: tuple[float, float]
) -> Array:
    """The sum to minimise (B, K) at places (B or 1, K, 2)."""
    _, distance_m = _distances(arrivals, place_m, origin_deg)
    precision = _tempered(arrivals.precision_per_m2, temper_m)[:, None]
    late_m, _ = _centred(arrivals.range_m[:, None] - distance_m, precision)
    off = _times(whitener, prior.position_m[:, None] - place_m)
    return jnp.sum(precision * late_m * late_m, axis=-1) + jnp.sum(off * off, axis=-1)


def _distances(arrivals: Arrivals, place_m: Array, origin_deg: tuple[float, float]) -> tuple[Array, Array]:
    """East, north (B, K, R, 2) from receivers to places on the ground, and the distance (B, K, R) in space."""
    away_m = place_m[:, :, None] - arrivals.receiver_m[:, None]
    above_m = ground_height_m(place_m, origin_deg, jnp)[..., None] - arrivals.up_m[:, None]
    return away_m, jnp.sqrt(jnp.sum(away_m * away_m, axis=-1) + above_m * above_m + 1.0)


def _centred(values: Array, precision: Array) -> tuple[Array, Array]:
    """Values (B, K, R) less their weighted mean, and the sum of weights (B, K or 1, 1): the common time of sending."""
    total = jnp.maximum(jnp.sum(precision, axis=-1, keepdims=True), 1e-30)
    return values - jnp.sum(precision * values, axis=-1, keepdims=True) / total, total


def _tempered(precision_per_m2: Array, temper_m: Array) -> Array:
    return precision_per_m2 / (1.0 + precision_per_m2 * temper_m * temper_m)


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


def _times(matrix: Array, vectors: Array) -> Array:
    """Matrices (B, 2, 2) times vectors (B, K, 2)."""
    return jnp.sum(matrix[:, None] * vectors[:, :, None, :], axis=-1)


Column = tuple[Array, Array]


def _dot(a: Column, b: Column) -> Array:
    return jnp.sum(a[0] * b[0], axis=-1) + jnp.sum(a[1] * b[1], axis=-1)


def _over(column: Column, length: Array) -> Column:
    return column[0] / length[..., None], column[1] / length[..., None]
