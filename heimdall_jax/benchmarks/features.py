"""IQ to log-mel spectrograms and pair correlations, beside `torch.stft`, librosa and NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heimdall_jax.benchmarks.race import OURS, Result, race, result
from heimdall_jax.config import FeatureConfig
from heimdall_jax.features.chunks import over_recordings
from heimdall_jax.features.lags import block_lag_products, two_sided
from heimdall_jax.features.mel import mel_bank
from heimdall_jax.features.spectra import iq_to_mel_spectrogram

SPECTROGRAMS = (
    (112, 12_288, 256, 128, 12_000.0),
    (112, 65_536, 2048, 512, 192_000.0),
    (7, 192_000, 2048, 512, 192_000.0),
)
"""Recordings, samples, n_fft, hop, hertz."""
CORRELATIONS = (32, 7, 12_000, 24)
"""Transmissions, receivers, samples, largest lag."""


def features(repeats: int) -> Iterator[Result]:
    """Every line of the section."""
    for size in SPECTROGRAMS:
        yield log_mel(*size, repeats=repeats)
    yield correlation(*CORRELATIONS, repeats=repeats)


def log_mel(recordings: int, samples: int, n_fft: int, hop: int, rate_hz: float, *, repeats: int) -> Result:
    """128 two-sided bands of complex recordings; librosa, which takes real signals, has 128 of |IQ|."""
    config = FeatureConfig(sample_rate_hz=rate_hz, n_fft=n_fft, hop_length=hop)
    iq = noise((recordings, samples))
    ours = functools.partial(
        iq_to_mel_spectrogram, jnp.asarray(iq), sample_rate_hz=rate_hz, n_fft=n_fft, hop_length=hop
    )
    works: dict[str, Callable[[], Any]] = {OURS: lambda: ours().block_until_ready()}
    facts: dict[str, Any] = {"megabytes of IQ": iq.nbytes / 1e6}
    for name, peer in (("torch.stft", _torch_mel), ("librosa, all at once", _librosa_mel)):
        try:
            works[name] = peer(iq, config)
        except ImportError as error:
            facts[name] = str(error)
    if "librosa, all at once" in works:
        works["librosa, one by one"] = _one_by_one(iq, config)
    targets = {"torch.stft": ">= 1.3", "librosa, one by one": ">= 10"}
    work = f"log-mel, {recordings} x {samples:,} samples, n_fft {n_fft}, hop {hop}"
    return result(work, race(works, repeats=repeats), targets=targets, facts=facts)


def correlation(transmissions: int, receivers: int, samples: int, max_lag: int, *, repeats: int) -> Result:
    """All pairs of receivers over lags -max_lag..max_lag."""
    iq = noise((transmissions, receivers, samples))
    i, q = jnp.real(iq), jnp.imag(iq)

    def products(i: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
        return two_sided(*block_lag_products(i, q, blocks=1, max_lag=max_lag)[:2])

    ours = jax.jit(lambda i, q: over_recordings(products, i, q))
    works = {OURS: lambda: jax.block_until_ready(ours(i, q)), "numpy.vdot": lambda: _vdot(iq, max_lag)}
    work = f"pair correlation, {transmissions} x {receivers} x {samples:,} samples, lags to {max_lag}"
    return result(work, race(works, repeats=repeats), targets={"numpy.vdot": ">= 1.5"})


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """Complex standard normal numbers."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def _torch_mel(iq: np.ndarray, config: FeatureConfig) -> Callable[[], Any]:
    import torch  # pyright: ignore[reportMissingImports]

    frequency_hz = np.fft.fftfreq(config.n_fft) * config.sample_rate_hz
    bank = mel_bank(frequency_hz, config.n_mels, 0.0, config.sample_rate_hz / 2, "two")
    weights = torch.from_numpy((bank * config.sample_rate_hz / config.n_fft).astype(np.float32))
    signal, window = torch.from_numpy(iq), torch.hann_window(config.n_fft)
    window = window / window.sum()

    def work() -> Any:
        spectrum = torch.stft(
            signal, config.n_fft, config.hop_length, window=window, center=False, onesided=False, return_complex=True
        )
        power = spectrum.real**2 + spectrum.imag**2
        return 10 * torch.log10(torch.clamp(weights @ power, min=10 ** (config.floor_db / 10)))

    return work


def _librosa_mel(iq: np.ndarray, config: FeatureConfig) -> Callable[[], Any]:
    import librosa

    def work() -> Any:
        power = librosa.feature.melspectrogram(
            y=np.abs(iq),
            sr=config.sample_rate_hz,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            center=False,
        )
        return librosa.power_to_db(power)

    return work


def _one_by_one(iq: np.ndarray, config: FeatureConfig) -> Callable[[], Any]:
    """As a loop over files does."""
    works = [_librosa_mel(recording, config) for recording in iq]
    return lambda: [work() for work in works]


def _vdot(iq: np.ndarray, max_lag: int) -> np.ndarray:
    """(B, pairs, 2 max_lag + 1)."""
    transmissions, receivers, samples = iq.shape
    pairs = [(one, other) for one in range(receivers) for other in range(one)]
    found = np.empty((transmissions, len(pairs), 2 * max_lag + 1), np.complex64)
    for row, recording in enumerate(iq):
        for column, (one, other) in enumerate(pairs):
            for lag in range(-max_lag, max_lag + 1):
                early = recording[one, max(0, -lag) : samples - max(0, lag)]
                late = recording[other, max(0, lag) : samples - max(0, -lag)]
                found[row, column, lag + max_lag] = np.vdot(early, late)
    return found
