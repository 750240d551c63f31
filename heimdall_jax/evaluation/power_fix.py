"""Place of a transmitter from received powers alone, on the log-distance law with nothing fitted. float64.

    P_r = P_0 - 10 n log10(d_r) + X_r,    X_r ~ N(0, 6 dB), independent

P_0 is unknown and integrated out; so is the exponent n, over `EXPONENTS` in equal parts. The prior is the square that
`tdoa_fix` searches, twice as large as the receivers' own box; the place is the posterior's mean, which has the least
mean squared error, and the region its covariance. Exponents: 2 in free space to 4 over flat ground and in cities
(Rappaport, "Wireless Communications", 2002, section 4.9). Shadowing correlates in space (Gudmundson, 1991); between
receivers that is left out, which stand farther apart than its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.evaluation.path_loss import PathLoss, log_likelihood
from heimdall_jax.evaluation.tdoa_fix import REACH_FACTOR
from heimdall_jax.types import Sample

EXPONENTS = (2.0, 2.5, 3.0, 3.5, 4.0)
SHADOWING_DB = 6.0
CELLS_PER_SIDE = 161
ROUNDS = 4
"""Grids at most, each about what the one before found, while that is less than `SMALLER` of its sides."""
SMALLER = 0.7
KEPT = 0.9999
"""Of the probability that the next grid covers: the rest, where a posterior has long tails, is not worth its cells."""


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """The posterior of one transmission's place.

    Attributes:
        centre_m: East, north of the middle of the prior's square.
        reach_m: From there to each side.
        samples: The powers, as `path_loss` takes them.
    """

    centre_m: Float64[ndarray, " 2"]
    reach_m: float
    samples: Sample

    @classmethod
    def of(cls, power_db_R: Float64[ndarray, " R"], receiver_m_RE: Float64[ndarray, "R 2"]) -> PowerLaw:
        """Of receivers that all heard, at east, north (R, 2), in dB of one common reference."""
        low, high = receiver_m_RE.min(axis=0), receiver_m_RE.max(axis=0)
        reach_m = REACH_FACTOR * max(float(np.linalg.norm(high - low)) / 2, 1.0)
        all_heard = np.ones((1, len(power_db_R)), bool)
        samples = {
            "rss_db": power_db_R[None],
            "heard": all_heard,
            "present": all_heard,
            "identity": np.zeros(all_heard.shape, np.int64),
            "receiver_m": receiver_m_RE[None],
        }
        return cls((low + high) / 2, reach_m, samples)

    def log_density(self, place_m_NE: Float64[ndarray, "N 2"]) -> Float64[ndarray, " N"]:
        """Of places, up to a constant; minus infinity outside the prior's square."""
        low_m, high_m = self.centre_m - self.reach_m, self.centre_m + self.reach_m
        laws = [PathLoss(n, np.zeros(1), SHADOWING_DB, np.inf, -np.inf, low_m, high_m) for n in EXPONENTS]
        each = np.stack([log_likelihood(law, self.samples, place_m_NE[None])[0] for law in laws])
        inside = (np.abs(place_m_NE - self.centre_m) <= self.reach_m * (1 + 1e-9)).all(axis=1)
        return np.where(inside, scipy.special.logsumexp(each, axis=0), -np.inf)

    def moments(self) -> tuple[Float64[ndarray, " 2"], Float64[ndarray, "2 2"]]:
        """Mean east, north (2,) in metres and covariance (2, 2) in square metres, the cells' own size included."""
        low, high = self.centre_m - self.reach_m, self.centre_m + self.reach_m
        mean, covariance = self.centre_m, np.eye(2) * self.reach_m**2
        for _ in range(ROUNDS):
            cell = (high - low) / CELLS_PER_SIDE
            axes = [low[axis] + (np.arange(CELLS_PER_SIDE) + 0.5) * cell[axis] for axis in range(2)]
            place_m = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
            log_density = self.log_density(place_m)
            weight = np.exp(log_density - scipy.special.logsumexp(log_density))
            mean = weight @ place_m
            off = place_m - mean
            covariance = (weight[:, None] * off).T @ off + np.diag(cell**2 / 12)
            order = np.argsort(-weight)
            likely = place_m[order[: 1 + np.searchsorted(np.cumsum(weight[order]), KEPT)]]
            bottom, top = likely.min(axis=0) - cell, likely.max(axis=0) + cell
            if (top - bottom > SMALLER * (high - low)).all():
                break
            low, high = np.maximum(low, bottom), np.minimum(high, top)
        return mean, covariance
