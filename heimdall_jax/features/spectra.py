"""IQ to log-mel spectrogram, absolute power kept.

    S_ml = 10 log10 max( (fs / N) sum_k W_mk P_lk, 10^(floor / 10) )      dB relative to full scale

P is the power of a frame's bins (`dft.py`: a complex tone of amplitude 1 on a bin's centre reads 0 dB in its bin) and W
a Slaney bank of unit area in hertz (`mel.py`), so a band is the weighted mean of the bins under its triangle: noise of
variance v reads 10 log10(1.5 v / N) in every band, and a tone its power times its filter's weight.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float
from numpy import ndarray

from heimdall_jax.config import FeatureConfig
from heimdall_jax.cores import across_cores
from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.features.chunks import all_frames, over_frames
from heimdall_jax.features.dft import Backend, frame_power, power_bins
from heimdall_jax.features.mel import mel_bank, warn_if_empty

GROUPS_OF_A_SIDE = 4
"""Of bands that lie side by side and meet the bins between their ends only: half the work of all bands and all bins.
An exported graph, which pays for each operator, has one."""
LOWEST_FLOOR_DB = -370.0
"""Below it float32 has no normal numbers, and the logarithm's gradient overflows."""


def iq_to_mel_spectrogram(
    iq: ArrayLike,
    *,
    sample_rate_hz: float | int,
    n_fft: int = FeatureConfig.n_fft,
    hop_length: int = FeatureConfig.hop_length,
    n_mels: int = FeatureConfig.n_mels,
    fmin: float | int = FeatureConfig.fmin,
    fmax: float | int | None = FeatureConfig.fmax,
    sided: Literal["two", "envelope"] = FeatureConfig.sided,
    floor_db: float | int = FeatureConfig.floor_db,
    backend: Backend = "fft",
) -> Float[Array, "*B M L"]:
    """Log-mel spectrogram (..., M, L) in dB relative to full scale of complex baseband (..., T); M = n_mels.

    Frames are not centred, L = 1 + (T - n_fft) // hop_length: (..., 12000) gives (..., 128, 32) by default.
    Bands of the two-sided bank run from -fmax to +fmax: rows 0 to M/2 - 1 hold negative frequencies, the most negative
    first; rows M/2 to M - 1 positive ones. Nothing is normalised: 20 dB more input gives 20 dB more output.

    Args:
        iq: Complex baseband, full scale 1.
        sample_rate_hz: Samples per second.
        n_fft: Samples in a frame (periodic Hann).
        hop_length: Samples from one frame to the next.
        n_mels: Bands; even when two-sided.
        fmin: Lowest frequency's distance from the carrier, hertz.
        fmax: Highest; half the sample rate when None.
        sided: "two" for a bank mirrored about the carrier, "envelope" for a one-sided bank on |IQ|.
        floor_db: Lowest value of the output.
        backend: "fft", or "matmul" for exporters; they agree to 1e-3 dB within 40 dB of a frame's strongest band.

    Raises:
        DataError: `iq` is not complex, has no axis, or is shorter than one frame.
        ConfigError: A setting is outside its range.

    Warns:
        UserWarning: A mel filter holds no bin.
    """
    config = FeatureConfig(
        sample_rate_hz=float(sample_rate_hz),
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=n_mels,
        fmin=float(fmin),
        fmax=None if fmax is None else float(fmax),
        sided=sided,
        floor_db=float(floor_db),
    )
    iq = jnp.asarray(iq)
    if not jnp.iscomplexobj(iq):
        cure = "Combine them as i + 1j * q with full scale 1; a real signal is no complex baseband."
        raise DataError(explain("IQ", got=f"real numbers ({iq.dtype})", allowed="complex64 or complex128", cure=cure))
    _check(config, backend, iq.shape)
    *leading, length = iq.shape
    made = across_cores(functools.partial(_of_rows, config=config, backend=backend), iq.reshape(-1, length))
    return made.reshape(*leading, *made.shape[1:])


def parts_to_mel_spectrogram(
    i: ArrayLike, q: ArrayLike, config: FeatureConfig, *, backend: Backend = "matmul"
) -> Float[Array, "*B M L"]:
    """`iq_to_mel_spectrogram` of separate real I and Q (..., T); "matmul" uses no complex number anywhere.

    Raises:
        DataError: I and Q differ in shape, are not floating, or are shorter than one frame.
        ConfigError: A setting is outside its range.
    """
    i, q = jnp.asarray(i), jnp.asarray(q)
    if i.shape != q.shape or i.dtype != q.dtype or not jnp.issubdtype(i.dtype, jnp.floating):
        got, cure = f"I {i.dtype}{i.shape}, Q {q.dtype}{q.shape}", "Give both as float32 with full scale 1."
        raise DataError(explain("I and Q", got=got, allowed="one floating type and shape", cure=cure))
    _check(config, backend, i.shape)
    return _spectrogram((i, q), config, backend)


@functools.partial(jax.jit, static_argnames=("config", "backend"))
def _of_rows(iq: Array, *, config: FeatureConfig, backend: Backend) -> Array:
    whole = config.sided == "two" and backend == "fft"
    return _spectrogram((iq,) if whole else (jnp.real(iq), jnp.imag(iq)), config, backend)


def _spectrogram(parts: tuple[Array, ...], config: FeatureConfig, backend: Backend) -> Array:
    """Of complex recordings, or of I and Q."""
    bank, groups = _scaled_bank(config, backend), GROUPS_OF_A_SIDE if backend == "fft" else 1
    if config.sided == "envelope":
        parts = (_magnitude(*parts),)

    def bands(i: Array, q: Array | None = None) -> Array:
        return power_to_db(_weighted(frame_power(i, q, backend), bank, config.sided, groups), config.floor_db)

    frames = all_frames if backend == "matmul" else over_frames
    return jnp.swapaxes(frames(bands, parts, config.n_fft, config.hop_length), -1, -2)


def _check(config: FeatureConfig, backend: Backend, shape: tuple[Any, ...]) -> None:
    """Settings and length; warns of empty filters."""
    check_settings(config)
    if not shape or shape[-1] < config.n_fft:
        got, cure = f"shape {shape}", "Give a longer recording, or lower n_fft."
        raise DataError(explain("IQ too short", got=got, allowed=f"at least n_fft = {config.n_fft} samples", cure=cure))
    warn_if_empty(_scaled_bank(config, backend))


def power_to_db(power: Float[Array, "*S"], floor_db: float) -> Float[Array, "*S"]:
    """10 log10 of a power, at least `floor_db`; below the floor the gradient is zero."""
    return 10 * jnp.log10(jnp.maximum(power, 10 ** (floor_db / 10)))


def check_settings(config: FeatureConfig) -> None:
    """Raise ConfigError where a feature setting is outside its range."""
    rate, top = config.sample_rate_hz, config.fmax
    even = config.sided == "envelope" or config.n_mels % 2 == 0
    rules: tuple[tuple[str, bool, str], ...] = (
        ("sample_rate_hz", math.isfinite(rate) and rate > 0, "a positive number"),
        ("n_fft", config.n_fft >= 4, "at least 4"),
        ("hop_length", config.hop_length >= 1, "at least 1"),
        ("n_mels", config.n_mels >= 1 and even, "positive, and even when sided='two'"),
        ("n_frames", config.n_frames >= 1, "at least 1"),
        ("fmax", top is None or 0 < top <= rate / 2, "null, or above 0 and up to half the sample rate"),
        ("fmin", 0 <= config.fmin < (rate / 2 if top is None else top), "from 0 to below fmax"),
        ("sided", config.sided in ("two", "envelope"), "'two' or 'envelope'"),
        ("floor_db", LOWEST_FLOOR_DB <= config.floor_db < math.inf, f"finite, {LOWEST_FLOOR_DB:g} or more"),
    )
    for name, good, allowed in rules:
        if not good:
            got = repr(getattr(config, name))
            raise ConfigError(explain(f"features.{name}", got=got, allowed=allowed, cure="Correct the setting."))


@functools.lru_cache(maxsize=32)
def _scaled_bank(config: FeatureConfig, backend: Backend) -> ndarray:
    """(M, F) weights whose rows sum to about 1, for the columns that the back end gives."""
    bin_hz = config.sample_rate_hz / config.n_fft
    frequency_hz = power_bins(config.n_fft, backend, config.sided == "two") * bin_hz
    fmax = config.sample_rate_hz / 2 if config.fmax is None else config.fmax
    bank = mel_bank(frequency_hz, config.n_mels, config.fmin, fmax, config.sided) * bin_hz
    bank.setflags(write=False)
    return bank


def _weighted(power: Array, bank: ndarray, sided: str, groups: int) -> Array:
    """Bands (..., M) of powers (..., F), a group at a time."""
    sides = 2 if sided == "two" else 1
    found = []
    for rows in (group for side in np.split(bank, sides) for group in np.array_split(side, min(groups, len(side)))):
        bins = np.flatnonzero(rows.any(axis=0))
        first, stop = (int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 1)
        weights = jnp.asarray(rows[:, first:stop].T, power.dtype)
        found.append(jnp.matmul(power[..., first:stop], weights, precision=jax.lax.Precision.HIGHEST))
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=-1)


def _magnitude(i: Array, q: Array) -> Array:
    """|I + jQ| with gradient zero, not NaN, where both are zero."""
    power = i**2 + q**2
    silent = power == 0
    return jnp.where(silent, jnp.zeros_like(power), jnp.sqrt(jnp.where(silent, jnp.ones_like(power), power)))
