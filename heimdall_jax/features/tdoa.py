"""Differences of arrival times: `tdoa_s[i, j]` > 0 says that receiver i hears LATER than receiver j.

    tdoa_ij = t_i - t_j,    R_ij(k) = sum_n x_i(n + k) conj(x_j(n)) is largest at k = +(t_i - t_j) sample_rate

1. Lag products of short blocks, a DFT over blocks: the joint peak over lag and frequency gives each pair's offset, and
   those with the strongest receiver each receiver's own (`offsets`, `pairs`).
2. Recordings are turned back by their own offsets, lag products taken again over all lags (`lags`).
3. The peak between the lags and what is left of the offset are refined in turn (`interpolation`, `offsets`).
4. Recordings are moved to one time by their own lags and correlated once more near lag 0, with the offset and the
   difference of sample rates (`shifts`, `alignment`): the delay of `plain`, and for all methods what follows.
5. Peak heights give each receiver's SNR by a rank-one fit, their curvature the recording's rms bandwidth, and both the
   precision by Stein's formula (IEEE Trans. ASSP 29 (1981) 588) shared among R receivers (`snr`), less what unknown
   sample rates add.

Real arithmetic and matrix products only, all pairs as (R, R): the graph exports with dynamic batch and receivers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from heimdall_jax.config import TimingConfig
from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.features.alignment import Aligned, align, rate_variance
from heimdall_jax.features.interpolation import Peak, find_peak, safe_ratio, values_at
from heimdall_jax.features.lags import block_lag_products, effective_samples, taper_loss, tapered, two_sided
from heimdall_jax.features.offsets import remove_offset, residual_offset, search_offset, turn
from heimdall_jax.features.pairs import antisymmetric, difference, relative_to_strongest, same_receiver, symmetric
from heimdall_jax.features.shifts import noise_kept
from heimdall_jax.features.snr import Gates, bandwidth_squared, pair_snr, receiver_snr
from heimdall_jax.features.weighting import weigh

FINE_BLOCKS = 4
"""Quarters of the recording show a residual offset as well as shorter blocks do."""
REFINEMENTS = 2
OFFSET_STEP_HZ = 2**-10
"""Of the offsets that refinement starts from; a step moves an arrival by 1e-12 s."""
SILENCE = 1e-12
"""Mean square, relative to full scale, at or below which a recording holds no signal."""
LEAST_SNR = 1e-3
SHORTEST_IN_BLOCKS = 4
"""Of a recording."""


class _Correlation(NamedTuple):
    """Normalised, offsets removed: parts (B, R, R, K), plain peaks, lags of the weighted ones, what was removed."""

    real: Array
    imaginary: Array
    peak: Peak
    lag_BRR: Array
    receiver_hz: Array


def iq_to_timing(
    iq_BRT: ArrayLike, heard_BR: ArrayLike, config: TimingConfig, sample_rate_hz: float
) -> dict[str, Array]:
    """`parts_to_timing` of complex baseband (B, R, T), jitted: the same code. Other gates compile nothing anew.

    Raises:
        DataError: The recordings are not complex, or too short.
        ConfigError: A setting is outside its range.
    """
    check_timing(config)
    iq = jnp.asarray(iq_BRT)
    if not jnp.iscomplexobj(iq):
        cure = "Combine I and Q as i + 1j * q; a real signal is no complex baseband."
        raise DataError(explain("IQ", got=f"real numbers ({iq.dtype})", allowed="complex64 or complex128", cure=cure))
    gates = Gates.of(config, sample_rate_hz)
    static = replace(config, min_snr_db=TimingConfig.min_snr_db, min_bandwidth_hz=TimingConfig.min_bandwidth_hz)
    return _complex_to_timing(iq, jnp.asarray(heard_BR), gates, static, sample_rate_hz)


@functools.partial(jax.jit, static_argnames=("config", "sample_rate_hz"))
def _complex_to_timing(
    iq_BRT: Array, heard_BR: Array, gates: Gates, config: TimingConfig, sample_rate_hz: float
) -> dict[str, Array]:
    i, q = jnp.real(iq_BRT).astype(jnp.float32), jnp.imag(iq_BRT).astype(jnp.float32)
    return parts_to_timing(i, q, heard_BR, config, sample_rate_hz=sample_rate_hz, gates=gates)


def parts_to_timing(
    i_BRT: ArrayLike,
    q_BRT: ArrayLike,
    heard_BR: ArrayLike,
    config: TimingConfig,
    *,
    sample_rate_hz: float,
    gates: Gates | None = None,
) -> dict[str, Array]:
    """Arrival times, offsets and SNR from I and Q (B, R, T): a dict of arrays in their precision.

    - `tdoa_s` (B, R, R): arrival time at receiver i less at j, seconds, at the middle of the recording; antisymmetric,
      0 on the diagonal and where invalid.
    - `tdoa_precision_per_s2` (B, R, R): symmetric, 0 where invalid. As weights of pairs taken for independent they
      give the information about the arrival times of all receivers that hear one signal; they leave out the clocks.
    - `arrival_precision_per_s2` (B, R): 1 / variance a_i of an arrival time, from noise alone, about the common time of
      sending, 0 where invalid: the pairs' precisions are a_i a_j / sum a.
    - `timing_valid` (B, R, R), `timing_usable` (B,): 1 or 0; a recording is usable where any pair is valid.
    - `snr_db` (B, R): signal over noise in the whole sampled band; -30 where unknown.
    - `bandwidth_hz` (B,): rms bandwidth of the common signal about its own centre.
    - `offset_hz` (B, R, R): frequency at receiver i less at j, hertz; antisymmetric.
    - `lag_curve` (B, R, R, K): correlation coefficient |R_ij(k)|, offsets removed, at lags -max_lag..max_lag samples.
    - `coherence`, `sharpness_per_s2` (B, R, R): the coefficient at the peak, and -d^2 log|R| / d tau^2 there.

    Receivers that are not heard change nothing, whatever their rows hold.

    Args:
        i_BRT: Real part, any scale.
        q_BRT: Imaginary part.
        heard_BR: Above 0.5 or True: the receiver heard.
        config: Lags, gates, method.
        sample_rate_hz: Of the recordings.
        gates: Numbers or arrays; None: the config's.

    Raises:
        DataError: I and Q differ in shape, are not floating, or are too short.
        ConfigError: A setting is outside its range.
    """
    check_timing(config)
    i, q = jnp.asarray(i_BRT), jnp.asarray(q_BRT)
    _check_parts(i, q, config)
    i, q, active = _normalise(i, q, jnp.asarray(heard_BR))
    pair = _pairs(active)
    faded = tapered(i, q)
    # Refined later, so that float32 will do; in steps, so that its rounding in one runtime is not another's.
    single = [x.astype(jnp.float32) for x in faded]
    offset_hz = _receiver_offsets(single[0], single[1], pair.astype(jnp.float32), config, sample_rate_hz)
    offset_hz = jnp.round(offset_hz.astype(i.dtype) / OFFSET_STEP_HZ) * OFFSET_STEP_HZ
    # Of plain correlation too: its delays are those of alignment.
    kind = jnp.float32 if config.method == "plain" else i.dtype
    rough = [x.astype(kind) for x in (*faded, pair, offset_hz)]
    found = _correlate(rough[0], rough[1], rough[2], rough[3], config, sample_rate_hz)
    found = jax.tree.map(lambda x: x.astype(i.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, found)
    turned = remove_offset(i, q, found.receiver_hz, sample_rate_hz)
    most = config.max_lag - config.half_width + 1
    aligned = align(*turned, found.lag_BRR, found.peak.magnitude, pair, most)
    gates = Gates.of(config, sample_rate_hz) if gates is None else gates
    return _measure(found, aligned, active, pair, i.shape[-1], config, sample_rate_hz, gates)


def check_timing(config: TimingConfig) -> None:
    """Raise ConfigError where a timing setting is outside its range."""
    rules: tuple[tuple[str, bool, str], ...] = (
        ("half_width", config.half_width >= 1, "1 or more"),
        ("max_lag", config.max_lag > config.half_width, "more than half_width"),
        ("block", config.block >= 1, "1 or more"),
        ("max_offset_hz", 0 < config.max_offset_hz < math.inf, "above 0"),
        ("min_bandwidth_hz", 0 <= config.min_bandwidth_hz < math.inf, "0 or more"),
        ("min_snr_db", math.isfinite(config.min_snr_db), "finite"),
        ("max_clock_s", config.max_clock_s > 0, "above 0"),
        ("method", config.method in ("plain", "phat", "scot"), "'plain', 'phat' or 'scot'"),
    )
    for name, good, allowed in rules:
        if not good:
            got = repr(getattr(config, name))
            raise ConfigError(explain(f"timing.{name}", got=got, allowed=allowed, cure="Correct the setting."))


def _check_parts(i: Array, q: Array, config: TimingConfig) -> None:
    if i.shape != q.shape or i.dtype != q.dtype or not jnp.issubdtype(i.dtype, jnp.floating):
        got, cure = f"I {i.dtype}{i.shape}, Q {q.dtype}{q.shape}", "Give both as float32."
        raise DataError(explain("I and Q", got=got, allowed="one floating type and shape", cure=cure))
    least = SHORTEST_IN_BLOCKS * max(config.block, config.max_lag)
    if i.shape[-1] < least:
        got, cure = f"{i.shape[-1]} samples", "Give a longer recording, or lower timing.block."
        raise DataError(explain("IQ too short", got=got, allowed=f"at least {least}", cure=cure))


def _normalise(i_BRT: Array, q_BRT: Array, heard_BR: Array) -> tuple[Array, Array, Array]:
    """Recordings, zero where not heard or silent, of energy 1 once tapered, and which are neither, numbers (B, R)."""
    heard = heard_BR if heard_BR.dtype == jnp.bool_ else heard_BR > 0.5
    # Rows of receivers that are not heard may hold NaN, which a product with zero would keep.
    i, q = (jnp.where(heard[..., None], x, 0.0) for x in (i_BRT, q_BRT))
    largest = functools.reduce(jnp.maximum, (_largest(x) for x in (i, q)))
    loud = largest > SILENCE
    inverse = jnp.where(loud, 1 / jnp.where(loud, largest, 1.0), 0.0)
    i, q = i * inverse, q * inverse
    energy = sum(jnp.sum(x * x, axis=-1, keepdims=True) for x in tapered(i, q))
    scale = jnp.where(loud, jax.lax.rsqrt(jnp.where(loud, energy, 1.0)), 0.0)
    return i * scale, q * scale, loud[..., 0].astype(i.dtype)


def _largest(x_BRT: Array) -> Array:
    """The largest |x| (B, R, 1), with no array of them all."""
    return jnp.maximum(jnp.max(x_BRT, axis=-1, keepdims=True), -jnp.min(x_BRT, axis=-1, keepdims=True))


def _receiver_offsets(
    i_BRT: Array, q_BRT: Array, pair_BRR: Array, config: TimingConfig, sample_rate_hz: float
) -> Array:
    """Each receiver's frequency (B, R) in hertz, relative to no one in particular."""
    n_samples, sought = i_BRT.shape[-1], config.max_lag - config.half_width
    blocks = math.ceil(n_samples / config.block)
    real, imaginary, middle = block_lag_products(i_BRT, q_BRT, blocks=blocks, max_lag=sought)
    middle_s = middle / sample_rate_hz
    pair_hz, coefficient = search_offset(real, imaginary, middle_s, config.max_offset_hz)
    strength = pair_snr(coefficient) * pair_BRR
    offset_hz = relative_to_strongest(strength, pair_hz)
    turned = turn(real, imaginary, difference(offset_hz), middle_s)
    whole = two_sided(*(jnp.sum(part, axis=1) for part in turned))
    lag = jnp.argmax(whole[0] ** 2 + whole[1] ** 2, axis=-1, keepdims=True).astype(jnp.int32)[:, None] - sought
    largest = (np.arange(sought + 1, dtype=np.int32)[(None,) * 4] == jnp.abs(lag)).astype(real.dtype)
    ahead = [jnp.sum(part * largest, axis=-1) for part in turned]
    # A negative lag of i and j is a positive one of j and i.
    back = (lag[..., 0] < 0).astype(real.dtype)
    signed = zip(ahead, (1, -1), strict=True)
    real, imaginary = (part + back * (sign * jnp.swapaxes(part, -1, -2) - part) for part, sign in signed)
    return offset_hz + relative_to_strongest(strength, residual_offset(real, imaginary, middle_s))


def _correlate(
    i_BRT: Array, q_BRT: Array, pair_BRR: Array, offset_hz_BR: Array, config: TimingConfig, sample_rate_hz: float
) -> _Correlation:
    """All lags of the whole recording, the offsets removed and refined, and the peaks."""
    i, q = remove_offset(i_BRT, q_BRT, offset_hz_BR, sample_rate_hz)
    real, imaginary, middle = block_lag_products(i, q, blocks=FINE_BLOCKS, max_lag=config.max_lag)
    gain = jnp.asarray(1 / taper_loss(i.shape[-1], config.max_lag), i.dtype)[(None,) * 4]
    real, imaginary = (part * gain for part in two_sided(real, imaginary))
    middle_s = middle / sample_rate_hz
    residual_hz = jnp.zeros_like(offset_hz_BR)
    turned = real, imaginary
    same = same_receiver(offset_hz_BR)
    for _ in range(REFINEMENTS):
        weighted = weigh(*turned, same, config.method)
        peak = _peak(weighted, config)
        strength = pair_snr(peak.magnitude) * pair_BRR
        residual = residual_offset(*values_at(peak, *weighted, config.half_width), middle_s)
        residual_hz = residual_hz + relative_to_strongest(strength, residual)
        turned = turn(real, imaginary, difference(residual_hz), middle_s)
    peak = _peak(turned, config)
    timed = peak if config.method == "plain" else _peak(weigh(*turned, same, config.method), config)
    lag = timed.index.astype(timed.fraction.dtype) - config.max_lag + timed.fraction
    whole_real, whole_imaginary = (jnp.sum(part, axis=1) for part in turned)
    return _Correlation(whole_real, whole_imaginary, peak, antisymmetric(lag), offset_hz_BR + residual_hz)


def _peak(blocks: tuple[Array, Array], config: TimingConfig) -> Peak:
    real, imaginary = (jnp.sum(part, axis=1) for part in blocks)
    return find_peak(real, imaginary, config.half_width)


def _measure(
    found: _Correlation,
    aligned: Aligned,
    active_BR: Array,
    pair_BRR: Array,
    n_samples: int,
    config: TimingConfig,
    sample_rate_hz: float,
    gates: Gates,
) -> dict[str, Array]:
    """The features from the peaks."""
    samples, peak = effective_samples(n_samples), found.peak
    found_it = peak.inside & (pair_snr(peak.magnitude) * samples >= gates.snr) & (aligned.near_BRR > 0)
    clear = pair_BRR * (found_it & jnp.swapaxes(found_it, -1, -2)).astype(pair_BRR.dtype)
    # Symmetric up to rounding, which two receivers of one equation do not forgive.
    coefficient, curvature = symmetric(aligned.coefficient_BRR), symmetric(aligned.curvature_BRR)
    snr = receiver_snr(coefficient, pair_BRR, samples) * noise_kept()
    square, noise = bandwidth_squared(curvature, snr, clear, samples)
    wide = square >= gates.square + noise
    valid = clear * wide.astype(clear.dtype)[:, None, None]
    # Per sample squared: kappa = 8 pi^2 B_rms^2 B_n T, with B_n T the number of samples.
    total = jnp.sum(snr * active_BR, axis=-1, keepdims=True)
    arrival = (2 * samples * jnp.maximum(square, 0.0))[:, None] * snr * total / (1 + total)
    arrival = arrival / (1 + arrival * rate_variance(arrival, aligned.centre_B, aligned.spread_B))
    together = jnp.sum(arrival * active_BR, axis=-1)[:, None, None]
    precision = valid * safe_ratio(arrival[..., :, None] * arrival[..., None, :], together + jnp.zeros_like(valid))
    lag = aligned.lag_BRR if config.method == "plain" else found.lag_BRR
    curve = jnp.sqrt(found.real**2 + found.imaginary**2) * pair_BRR[..., None]
    return {
        "tdoa_s": lag / sample_rate_hz * valid,
        "tdoa_precision_per_s2": precision * sample_rate_hz**2,
        "arrival_precision_per_s2": jnp.max(valid, axis=-1) * arrival * sample_rate_hz**2,
        "timing_valid": valid,
        "timing_usable": jnp.max(valid, axis=(-2, -1)),
        "snr_db": 10 * jnp.log10(jnp.maximum(snr, LEAST_SNR)),
        "bandwidth_hz": jnp.sqrt(jnp.maximum(square, 0.0)) * (sample_rate_hz / (2 * math.pi)),
        "offset_hz": difference(found.receiver_hz + aligned.offset_BR * sample_rate_hz) * pair_BRR,
        "lag_curve": curve,
        "coherence": symmetric(peak.magnitude) * pair_BRR,
        "sharpness_per_s2": curvature * sample_rate_hz**2 * pair_BRR,
    }


def _pairs(active_BR: Array) -> Array:
    """1 (B, R, R) where both receivers are active and not the same one."""
    return active_BR[..., :, None] * active_BR[..., None, :] * (1 - same_receiver(active_BR))
