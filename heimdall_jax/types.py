"""Records that travel between rooms.

Axis key, the only legend. Arrays carry their unit first and their axes last (`iq_BRT`, `rss_db_BR`):

    B batch             R receiver          P receiver pair, R(R-1)/2   T IQ sample
    L STFT frame        F FFT bin, two-sided                            M mel band
    C cepstral coeff.   K lag bin           D embedding                 E local east, north (metres)

Missing receivers are a mask (`heard`, `present`): never NaN, never zero, never a fill value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain

Sample = dict[str, np.ndarray]
"""One training example or a batch of them. Keys: the model's inputs by name, and the keys of `LABELS`."""

LABELS = ("position_m", "position_error_m", "weight", "index")
"""Truth (E,), its 1-sigma per axis (), weight (), 0 for padding, and index () in the data set."""


@dataclass(frozen=True)
class Station:
    """A receiver with a fixed place: degrees (WGS84) and metres above the ellipsoid."""

    name: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Session:
    """One transmission as R receivers heard it (NumPy only).

    Attributes:
        session_id: Unique in its data set.
        start_time_s: Unix time, seconds.
        receivers: R names.
        receiver_deg_RE: Latitude, longitude of each receiver, degrees; meaningless where not present.
        present_R: The receiver took part and its place is known.
        heard_R: It measured the transmission (implies present).
        rss_db_R: Received power, dB in the data set's own reference; meaningless where not heard.
        truth_deg: Latitude, longitude of the transmitter; None where unknown.
        truth_error_m: One standard deviation of the truth per axis, metres.
        iq_RT: Complex baseband, full scale 1; rows of receivers that did not hear are meaningless.
        sample_rate_hz: Of `iq_RT`.
        frequency_hz: Carrier.
        altitude_m_R: Of each receiver's antenna above the ellipsoid, metres; None: all 0.
        clock_sigma_s_R: One standard deviation of the time at which the middle of each receiver's samples was taken,
            seconds; infinite where unknown. None: no receiver's timing can be used.
        snr_db_R: Signal over noise as the receiver or its operator measured it; NaN where unknown. None: all unknown.
        masked: Why recordings, or their times, could not be used when the session was read; a reason for each.
    """

    session_id: str
    start_time_s: float
    receivers: tuple[str, ...]
    receiver_deg_RE: Float64[ndarray, "R 2"]
    present_R: Bool[ndarray, " R"]
    heard_R: Bool[ndarray, " R"]
    rss_db_R: Float32[ndarray, " R"]
    truth_deg: tuple[float, float] | None = None
    truth_error_m: float = 0.0
    iq_RT: Complex64[ndarray, "R T"] | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    altitude_m_R: Float64[ndarray, " R"] | None = None
    clock_sigma_s_R: Float64[ndarray, " R"] | None = None
    snr_db_R: Float32[ndarray, " R"] | None = None
    masked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(np.any(self.heard_R & ~self.present_R)):
            raise DataError(
                explain(
                    f"session {self.session_id}",
                    got="a receiver that heard but is not present",
                    allowed="heard only where present",
                    cure="Mask receivers without a known place in both.",
                )
            )


@runtime_checkable
class SessionSource(Protocol):
    """Random access to sessions; `__getitems__` reads many at once (the protocol of TFDS data sources)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Session: ...
    def __getitems__(self, indices: Sequence[int], /) -> list[Session]: ...


@dataclass(frozen=True)
class Domain:
    """What a model knows of the data it was fitted on; saved with it and fixed from then on.

    Attributes:
        origin_deg: Latitude, longitude of the local frame's origin.
        receivers: Names of known receivers; identity i + 1 is `receivers[i]`, 0 is any other.
        position_mean_m: Mean of the training truths, east, north.
        position_std_m: Standard deviation of the training truths about it, pooled over both axes.
        feature_mean: Mean of the training features (mel dB, or received power dB) over heard receivers.
        feature_std: Their standard deviation.
        position_box_m: West, south, east and north edge of the training truths.
    """

    origin_deg: tuple[float, float]
    receivers: tuple[str, ...]
    position_mean_m: tuple[float, float] = (0.0, 0.0)
    position_std_m: float = 1.0
    feature_mean: float = 0.0
    feature_std: float = 1.0
    position_box_m: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
