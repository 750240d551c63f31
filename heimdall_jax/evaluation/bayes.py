"""How good is good: the best any estimator can do on a simulated world.

The posterior mean given the world's own likelihood, field and prior has the least mean squared error of all
estimators (the Bayes bound). With powers P_r = P_0 + g_r(p) + e_r, e_r ~ N(0, s^2), let z_r = P_r - g_r(p) at the n
receivers that heard; then P_0, uniform on [a, b], integrates out in closed form:

    L(p)  ~  exp(-sum (z_r - m)^2 / 2 s^2) [Phi((b - m) sqrt(n) / s) - Phi((a - m) sqrt(n) / s)],  m = mean of z

A receiver that did not hear contributes Phi((threshold - P_0 - g_r(p)) / s), which couples to P_0: fixes with one are
integrated over P_0 by Gauss-Legendre quadrature instead.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Float32, Float64
from numpy import ndarray

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.simulation.world import World, gain_db, place

FIX_CHUNK = 8
"""Fixes computed at once; each needs a few floats per cell of the grid."""
CELL_CHUNK = 4096
"""Cells whose field is computed at once."""
CELLS_PER_CORRELATION = 20
"""Cells of the grid, by default, to the shadowing's correlation distance: half of that changes the error by 0.7 %."""
COARSEST_M = 500.0


def posterior_mean(
    world: World,
    received_power_dbm_NR: Float[Any, "N R"],
    heard_NR: Bool[Any, "N R"],
    *,
    spacing_m: float | None = None,
) -> tuple[Float64[ndarray, "N 2"], Float64[ndarray, "N 2 2"]]:
    """The Bayes estimator from received powers: mean (N, 2) in metres and covariance (N, 2, 2) in square metres.

    The grid covers the prior (uniform in latitude and longitude over the stations' box) in equal cells of about
    `spacing_m`, evaluated at their middles; it knows the shadowing field but nothing of the transmissions. The mean
    squared error of the mean is the bound on that of any estimator; the covariance includes the cells' own size.

    Args:
        world: Whose likelihood and prior.
        received_power_dbm_NR: Of the signal alone, as `Transmission` has it; ignored where not heard.
        heard_NR: Which receivers heard.
        spacing_m: By default `default_spacing_m`.

    Raises:
        ConfigError: The spacing or the world's fading is not above zero, or the world has echoes, several carriers or
            a field for every transmission.
        DataError: Shapes do not match the world's stations, or a heard power is not finite.
    """
    power = np.asarray(received_power_dbm_NR, np.float32)
    heard = np.asarray(heard_NR, bool)
    spacing_m = default_spacing_m(world) if spacing_m is None else spacing_m
    _check(world, power, heard, spacing_m)
    position_m_GE, gain_db_RG = _grid(world, spacing_m)
    mean = np.empty((len(power), 2))
    covariance = np.empty((len(power), 2, 2))
    censored = ~heard.all(axis=1)
    for kind in (False, True):
        chosen = np.flatnonzero(censored == kind)
        nodes = _nodes(world) if kind else None
        for start in range(0, chosen.size, FIX_CHUNK):
            rows = chosen[start : start + FIX_CHUNK]
            same_size = np.resize(rows, FIX_CHUNK)
            moments = _moments(world, position_m_GE, gain_db_RG, power[same_size], heard[same_size], nodes)
            mean[rows], covariance[rows] = (np.asarray(moment)[: rows.size] for moment in moments)
    return mean, covariance


def default_spacing_m(world: World) -> float:
    """A twentieth of the shadowing's correlation distance, at most 500 m.

    The posterior is kilometres wide, but an exponentially correlated field is rough: over half a cell of 500 m it moves
    by 1.9 dB at 6 dB and 5 km, which is all of the fading.
    """
    return min(COARSEST_M, world.config.shadowing_correlation_m / CELLS_PER_CORRELATION)


def known_gain_db(world: World, position_m: Float[Array, " 2"]) -> Float[Array, " R"]:
    """Received over transmitted power (R,) at a place, all that is fixed in the world included: the likelihood's mean.

    A constant of each station that shifts what it reports belongs here.
    """
    return gain_db(world, position_m)


def _check(world: World, power: np.ndarray, heard: np.ndarray, spacing_m: float) -> None:
    shape = (len(power), len(world.stations))
    if power.shape != shape or heard.shape != shape:
        got = f"powers {power.shape}, heard {heard.shape}"
        raise DataError(explain("posterior", got=got, allowed=f"(N, {shape[1]}) both", cure="One column per station."))
    if not np.all(np.isfinite(power[heard])):
        raise DataError(explain("posterior", got="a heard power that is not finite", allowed="dBm", cure="Mask it."))
    if world.config.echoes:
        cure = "Set world.echoes to 0: the likelihood of their fading is not known here."
        raise ConfigError(explain("posterior", got="a world with echoes", allowed="none", cure=cure))
    for name, value in {"spacing_m": spacing_m, "world.fading_db": world.config.fading_db}.items():
        if not value > 0:
            cure = "The likelihood needs a width and a grid."
            raise ConfigError(explain(name, got=value, allowed="above 0", cure=cure))


def _grid(world: World, spacing_m: float) -> tuple[Array, Array]:
    """Middles of equal cells of the prior (G, E) in metres, and the gains (R, G) there in dB."""
    south_west, north_east = degrees_to_local(np.array(world.box_deg), world.origin_deg)
    columns, rows = (max(1, math.ceil(side / spacing_m)) for side in north_east - south_west)
    east, north = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    unit_GE = jnp.asarray(np.stack([east.ravel(), north.ravel()], axis=-1), jnp.float32)
    position_m_GE, gain_db_GR = _evaluate(world, unit_GE)
    return position_m_GE, gain_db_GR.T


@jax.jit
def _evaluate(world: World, unit_GE: Array) -> tuple[Array, Array]:
    def cell(unit_E: Array) -> tuple[Array, Array]:
        position_m = place(world, unit_E)
        return position_m, known_gain_db(world, position_m)

    return jax.lax.map(cell, unit_GE, batch_size=CELL_CHUNK)


def _nodes(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre powers and weights (K,), closer together than the narrowest likelihood of P_0 is wide."""
    low, high = world.config.power_min_dbm, world.config.power_max_dbm
    width = world.config.fading_db / math.sqrt(len(world.stations))
    count = 8 + math.ceil(math.pi / 2 * (high - low) / width)
    node, weight = np.polynomial.legendre.leggauss(count)
    return ((high + low + (high - low) * node) / 2).astype(np.float32), (weight / 2).astype(np.float32)


@jax.jit
def _moments(
    world: World,
    position_m_GE: Float32[Array, "G 2"],
    gain_db_RG: Float32[Array, "R G"],
    power_dbm_NR: Array,
    heard_NR: Array,
    nodes: tuple[Array, Array] | None,
) -> tuple[Array, Array]:
    """Mean and covariance of the posterior over the cells."""
    count_N = jnp.sum(heard_NR, axis=-1).astype(jnp.float32)
    sent_dbm_NG, log_fit_NG = _fit(world, gain_db_RG, power_dbm_NR, heard_NR, count_N)
    if nodes is None:
        log_likelihood_NG = log_fit_NG + _log_power_in_range(world, sent_dbm_NG, count_N)
    else:
        log_likelihood_NG = log_fit_NG + _log_censored(world, gain_db_RG, heard_NR, sent_dbm_NG, count_N, nodes)
    weight_NG = jax.nn.softmax(log_likelihood_NG, axis=-1)
    mean_NE = jnp.matmul(weight_NG, position_m_GE, precision=jax.lax.Precision.HIGHEST)
    east_NG = position_m_GE[None, :, 0] - mean_NE[:, 0, None]
    north_NG = position_m_GE[None, :, 1] - mean_NE[:, 1, None]
    east_east = jnp.sum(weight_NG * east_NG**2, axis=-1)
    east_north = jnp.sum(weight_NG * east_NG * north_NG, axis=-1)
    north_north = jnp.sum(weight_NG * north_NG**2, axis=-1)
    covariance = jnp.stack([east_east, east_north, east_north, north_north], axis=-1).reshape(-1, 2, 2)
    return mean_NE, covariance


def _fit(world: World, gain_db_RG: Array, power_dbm_NR: Array, heard_NR: Array, count_N: Array) -> tuple[Array, Array]:
    """Mean of z (N, G), the transmit power that fits best, and the log density of the z about it."""
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    heard = heard_NR.astype(jnp.float32)
    # Both centred on one level, so that the squares below keep their digits in float32.
    level = jnp.mean(gain_db_RG)
    gain = gain_db_RG - level
    middle = (world.config.power_min_dbm + world.config.power_max_dbm) / 2
    power = jnp.where(heard_NR, power_dbm_NR - level - middle, 0.0)
    sum_NG = jnp.sum(power, axis=-1)[:, None] - product(heard, gain)
    squares_NG = jnp.sum(power**2, axis=-1)[:, None] - 2 * product(power, gain) + product(heard, gain**2)
    count = jnp.maximum(count_N, 1.0)[:, None]
    mean_NG = sum_NG / count
    spread_NG = squares_NG - sum_NG * mean_NG
    return mean_NG + middle, -0.5 * spread_NG / world.config.fading_db**2


def _log_power_in_range(world: World, sent_dbm_NG: Array, count_N: Array) -> Array:
    """Log (N, G) of the likelihood of P_0 integrated over its prior, where every receiver heard."""
    low, high, sigma = world.config.power_min_dbm, world.config.power_max_dbm, world.config.fading_db
    scale_N1 = jnp.sqrt(count_N)[:, None] / sigma
    off_centre = jnp.abs(sent_dbm_NG - (low + high) / 2) * scale_N1
    if low == high:
        return -0.5 * off_centre**2
    half_width = (high - low) / 2 * scale_N1
    log_upper = log_ndtr(half_width - off_centre)
    if (high - low) / 2 * math.sqrt(len(world.stations)) / sigma > 6:
        return log_upper  # the other end of the range is below 1e-9 of this one
    return log_upper + jnp.log(-jnp.expm1(log_ndtr(-half_width - off_centre) - log_upper))


def _log_censored(
    world: World,
    gain_db_RG: Array,
    heard_NR: Array,
    sent_dbm_NG: Array,
    count_N: Array,
    nodes: tuple[Array, Array],
) -> Array:
    """The same (N, G) with the receivers that did not hear, by quadrature over P_0."""
    sigma = world.config.fading_db
    missed_NR = (~heard_NR).astype(jnp.float32)

    def add(total_NG: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        power_dbm, weight = node
        log_silent_RG = log_ndtr((world.threshold_dbm - power_dbm - gain_db_RG) / sigma)
        log_power_NG = -0.5 * count_N[:, None] * ((power_dbm - sent_dbm_NG) / sigma) ** 2
        silent_NG = jnp.matmul(missed_NR, log_silent_RG, precision=jax.lax.Precision.HIGHEST)
        return jnp.logaddexp(total_NG, jnp.log(weight) + log_power_NG + silent_NG), None

    return jax.lax.scan(add, jnp.full_like(sent_dbm_NG, -jnp.inf), nodes)[0]
