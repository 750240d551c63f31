"""Naive float64 references, written from their sources and not from the package; loops on purpose."""

import cmath
import math


def slaney_mel_to_hz(mel: float) -> float:
    """Slaney, Auditory Toolbox, Interval Research report 1998-010, mfcc.m: 200/3 Hz steps, then 27 per factor 6.4."""
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def slaney_hz_to_mel(frequency_hz: float) -> float:
    """Inverse of `slaney_mel_to_hz`."""
    return frequency_hz * 3 / 200 if frequency_hz < 1000 else 15 + 27 * math.log(frequency_hz / 1000, 6.4)


def slaney_filter(frequency_hz: float, band: int, bands: int, top_hz: float) -> float:
    """Weight (1/Hz) at a frequency of triangle `band` of `bands` from 0 to `top_hz`: unit area, corners even in mel."""
    step = slaney_hz_to_mel(top_hz) / (bands + 1)
    low, peak, high = (slaney_mel_to_hz(step * (band + corner)) for corner in range(3))
    if low < frequency_hz <= peak:
        share = (frequency_hz - low) / (peak - low)
    elif peak < frequency_hz < high:
        share = (high - frequency_hz) / (high - peak)
    else:
        share = 0.0
    return share * 2 / (high - low)


def bin_power(frame: list[complex], k: int) -> float:
    """|X_k|^2 over the window's sum squared, periodic Hann.

    Sources: the DFT's definition (Oppenheim, Schafer, "Discrete-Time Signal Processing", 3rd edition, section 8.1) and
    the scaling that scipy.signal.ShortTimeFFT calls "magnitude".
    """
    size = len(frame)
    window = [math.sin(math.pi * n / size) ** 2 for n in range(size)]
    total = sum(
        w * x * cmath.exp(-2j * math.pi * k * n / size) for n, (w, x) in enumerate(zip(window, frame, strict=True))
    )
    return abs(total / sum(window)) ** 2


def mel_spectrogram_db(
    iq: list[complex], rate_hz: float, n_fft: int, hop: int, n_mels: int, sided: str, floor_db: float
) -> list[list[float]]:
    """Rows are bands (two-sided: from the most negative up), columns frames, in dB relative to full scale."""
    side = n_mels // 2 if sided == "two" else n_mels
    signal = iq if sided == "two" else [complex(abs(x)) for x in iq]
    starts = range(0, len(iq) - n_fft + 1, hop)
    power = [{k: bin_power(signal[s : s + n_fft], k) for k in range(-(n_fft // 2), n_fft // 2 + 1)} for s in starts]

    def band(frame: dict[int, float], m: int, sign: int) -> float:
        weight = {k: slaney_filter(sign * k * rate_hz / n_fft, m, side, rate_hz / 2) for k in frame}
        mean = sum(weight[k] * frame[k] for k in frame) * rate_hz / n_fft
        return 10 * math.log10(max(mean, 10 ** (floor_db / 10)))

    rows = [(m, 1) for m in range(side)]
    if sided == "two":
        rows = [(m, -1) for m in reversed(range(side))] + rows
    return [[band(frame, m, sign) for frame in power] for m, sign in rows]


def shadowing_correlation(
    place: tuple[float, float],
    other: tuple[float, float],
    receiver: tuple[float, float],
    distance_m: float,
    sector_share: float,
) -> float:
    """Gudmundson's exponential of the way, and one of the turn and of the ratio of the ranges as a receiver sees them.

    Source: docs/TRAINING.md, "The radio map": sectors of 0.3 rad, ranges plus 20 m.
    """
    way, seen = math.dist(place, other), [complex(x - receiver[0], y - receiver[1]) for x, y in (place, other)]
    turn = abs(cmath.phase(seen[0] * seen[1].conjugate()))
    ratio = abs(math.log((abs(seen[0]) + 20.0) / (abs(seen[1]) + 20.0)))
    return (1 - sector_share) * math.exp(-way / distance_m) + sector_share * math.exp(-turn / 0.3 - ratio)
