"""Every fix of an evaluation, one by one: what the figures of a report are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float64
from numpy import ndarray


@dataclass(frozen=True, eq=False)
class Fixes:
    """N fixes of a model, and what else is known of the same transmissions.

    Attributes:
        session_ids: N names.
        truth_m_NE: Where the transmitters were, local east, north.
        position_m_NE: Where the model says they were.
        covariance_m2_NEE: How sure it says it is.
        error_m_N: Ground distance between the two.
        nll_N: -ln of the predicted density at the truth, nats.
        origin_deg: Latitude, longitude of the local frame's origin.
        heard_NR: Which receivers heard.
        present_NR: Which receivers took part, at a known place.
        receiver_m_NRE: Where they stood.
        other_error_m: Errors (N,) of baselines, by name.
        bound_m2_NEE: Cramér-Rao covariances; None where there are none.
        start_time_s_N: Unix times of real recordings, whose errors depend on their neighbours'; None of simulated ones.
        trained_m_ME: Where the training transmissions were; None where training never ends.
    """

    session_ids: tuple[str, ...]
    truth_m_NE: Float64[ndarray, "N 2"]
    position_m_NE: Float64[ndarray, "N 2"]
    covariance_m2_NEE: Float64[ndarray, "N 2 2"]
    error_m_N: Float64[ndarray, " N"]
    nll_N: Float64[ndarray, " N"]
    origin_deg: tuple[float, float]
    heard_NR: Bool[ndarray, "N R"]
    present_NR: Bool[ndarray, "N R"]
    receiver_m_NRE: Float64[ndarray, "N R 2"]
    other_error_m: Mapping[str, Float64[ndarray, " N"]]
    bound_m2_NEE: Float64[ndarray, "N 2 2"] | None = None
    start_time_s_N: Float64[ndarray, " N"] | None = None
    trained_m_ME: Float64[ndarray, "M 2"] | None = None

    @property
    def worst(self) -> ndarray:
        """Numbers (N,) of the fixes, the largest error first."""
        return np.argsort(-self.error_m_N, kind="stable")

    def from_training_m(self) -> Float64[ndarray, " N"] | None:
        """Distance (N,) in metres from each transmitter to the nearest place that was trained on."""
        if self.trained_m_ME is None:
            return None
        return scipy.spatial.KDTree(self.trained_m_ME).query(self.truth_m_NE)[0]
