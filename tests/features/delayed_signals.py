"""One signal as several receivers hear it, in float64: exact fractional delays by a phase ramp on a long period."""

import numpy as np

RATE_HZ = 12_000.0


def spectrum_of(kind: str, rng: np.random.Generator, count: int, n_samples: int) -> np.ndarray:
    """(count, 2 n_samples) DFT of signals of mean power 1: "flat" to +-5.5 kHz, "gaussian" of 1 kHz rms, or "fm"."""
    frequency_hz = np.fft.fftfreq(2 * n_samples, 1 / RATE_HZ)
    if kind == "fm":
        spectrum = _fm(rng, count, n_samples)
    else:
        shape = np.ones_like(frequency_hz) if kind == "flat" else np.exp(-(frequency_hz**2) / (4 * 1000.0**2))
        noise = rng.standard_normal((count, 2 * n_samples)) + 1j * rng.standard_normal((count, 2 * n_samples))
        spectrum = noise * shape * (np.abs(frequency_hz) <= 5500)
    return spectrum * 2 * n_samples / np.sqrt((np.abs(spectrum) ** 2).sum(-1, keepdims=True))


def rms_bandwidth_hz(spectrum: np.ndarray) -> np.ndarray:
    """(count,) by definition: standard deviation of frequency under |S|^2."""
    frequency_hz = np.fft.fftfreq(spectrum.shape[-1], 1 / RATE_HZ)
    weight = np.abs(spectrum) ** 2 / (np.abs(spectrum) ** 2).sum(-1, keepdims=True)
    mean = (weight * frequency_hz).sum(-1, keepdims=True)
    return np.sqrt((weight * (frequency_hz - mean) ** 2).sum(-1))


def received(
    spectrum: np.ndarray,
    delay_s: np.ndarray,
    *,
    snr_db: np.ndarray | float = np.inf,
    offset_hz: np.ndarray | float = 0.0,
    rate_error: np.ndarray | float = 0.0,
    rng: np.random.Generator,
) -> np.ndarray:
    """complex64 (count, R, T): signal power 1, a random carrier phase, white noise; delays (count, R) at the middle.

    With `rate_error` e a receiver's clock runs e too fast, so that its sample n is taken at (n - middle) / (1 + e).
    """
    period = spectrum.shape[-1]
    n_samples = period // 2
    shape = delay_s.shape
    frequency_hz = np.fft.fftfreq(period, 1 / RATE_HZ)
    time_s = (np.arange(n_samples) - (n_samples - 1) / 2) / RATE_HZ
    ramp = np.exp(-2j * np.pi * frequency_hz * delay_s[..., None])
    iq = np.fft.ifft(spectrum[:, None] * ramp)[..., n_samples // 2 : n_samples // 2 + n_samples]
    error = np.broadcast_to(rate_error, shape)[..., None]
    if np.any(error):
        slope = np.fft.ifft(spectrum[:, None] * ramp * 2j * np.pi * frequency_hz)
        # First order: 1 ppm over half a second is 0.5 us, and (2 pi 5.5 kHz 0.5 us)^2 / 2 is 1.5e-4.
        iq = iq - error * time_s * slope[..., n_samples // 2 : n_samples // 2 + n_samples]
    angle = 2 * np.pi * np.broadcast_to(offset_hz, shape)[..., None] * time_s
    angle = angle + rng.uniform(0, 2 * np.pi, (*shape, 1))
    noise = (rng.standard_normal(iq.shape) + 1j * rng.standard_normal(iq.shape)) / np.sqrt(2)
    level = 10 ** (-np.broadcast_to(snr_db, shape)[..., None] / 20)
    return (iq * np.exp(1j * angle) + level * noise).astype(np.complex64)


def _fm(rng: np.random.Generator, count: int, n_samples: int) -> np.ndarray:
    """FM by noise from 300 to 3000 Hz with 1.5 kHz rms deviation, made at four times the rate, cut at +-5.5 kHz."""
    many = 8 * n_samples
    frequency_hz = np.fft.fftfreq(many, 1 / (4 * RATE_HZ))
    audible = (np.abs(frequency_hz) > 300) & (np.abs(frequency_hz) < 3000)
    audio = np.fft.ifft(np.fft.fft(rng.standard_normal((count, many))) * audible).real
    deviation_hz = 1500 * audio / audio.std(-1, keepdims=True)
    carrier = np.exp(2j * np.pi * np.cumsum(deviation_hz, -1) / (4 * RATE_HZ))
    spectrum = np.fft.fft(carrier) * (np.abs(frequency_hz) <= 5500)
    return np.concatenate([spectrum[:, :n_samples], spectrum[:, -n_samples:]], axis=-1)
