"""Does a score tell recordings of another kind from usual ones? The area under its ROC curve, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.evaluation.calibration import DRAWS


@dataclass(frozen=True)
class Detection:
    """How well a score detects.

    Attributes:
        auroc: Probability that a recording to be detected scores higher than a usual one; ties count half.
        interval: Its 95 % interval; None where the groups are too few to say.
        detected: How many recordings were to be detected.
        usual: How many were not.
    """

    auroc: float
    interval: tuple[float, float] | None
    detected: int
    usual: int


def detection(
    detected_score: Float64[ndarray, " N"],
    usual_score: Float64[ndarray, " M"],
    detected_group: Shaped[ndarray, " N"] | None = None,
    usual_group: Shaped[ndarray, " M"] | None = None,
    *,
    seed: int = 0,
) -> Detection:
    """Area under the ROC curve of a score that should be higher for the recordings to be detected.

    The area is the Mann-Whitney statistic over N M (Bamber 1975). Its interval is the percentile bootstrap over whole
    groups of both kinds, since neighbours in time are alike (clustered ROC data, Obuchowski 1997); draws that leave
    one kind without recordings say nothing and are left out.

    Args:
        detected_score: Of recordings to be detected (N,).
        usual_score: Of the others (M,).
        detected_group: Which belong together (N,), such as `calibration.chunks` of their times; a group may hold
            recordings of both kinds. None: each on its own.
        usual_group: Likewise (M,).
        seed: Of the resampling.

    Raises:
        DataError: A kind has no recordings, a score is not a number, or groups are not given for all.
    """
    kinds = {"recordings to be detected": detected_score, "usual recordings": usual_score}
    for kind, score in kinds.items():
        if not len(score) or np.isnan(score).any():
            got = f"{int(np.isnan(score).sum())} NaN of {len(score)}"
            cure = "Leave out recordings that cannot be scored, and count them."
            raise DataError(explain(f"scores of {kind}", got=got, allowed="numbers, one or more", cure=cure))
    if (detected_group is None) != (usual_group is None):
        got, cure = "groups of one kind only", "Give both, or neither."
        raise DataError(explain("groups of recordings", got=got, allowed="groups of both kinds", cure=cure))
    n, m = len(detected_score), len(usual_score)
    if detected_group is None or usual_group is None:
        group = np.arange(n + m)
    else:
        group = np.unique(np.concatenate([detected_group, usual_group]), return_inverse=True)[1].reshape(-1)
    wins_GG = _wins(detected_score, usual_score, group[:n], group[n:], int(group.max()) + 1)
    detected_G, usual_G = (np.bincount(part, minlength=len(wins_GG)) for part in (group[:n], group[n:]))
    return Detection(float(wins_GG.sum() / (n * m)), _interval(wins_GG, detected_G, usual_G, seed), n, m)


def _wins(
    detected: np.ndarray, usual: np.ndarray, detected_group: np.ndarray, usual_group: np.ndarray, groups: int
) -> np.ndarray:
    """How many pairs (G, G) of a recording to be detected and a usual one are in order, by their groups."""
    wins_GG = np.zeros((groups, groups))
    for number in np.unique(usual_group):
        others = np.sort(usual[usual_group == number])
        below = np.searchsorted(others, detected, "left")
        upto = np.searchsorted(others, detected, "right")
        wins_GG[:, number] = np.bincount(detected_group, weights=(below + upto) / 2, minlength=groups)
    return wins_GG


def _interval(
    wins_GG: np.ndarray, detected_G: np.ndarray, usual_G: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """95 % interval of the area, if both kinds come in two groups or more."""
    if min(np.count_nonzero(detected_G), np.count_nonzero(usual_G)) < 2:
        return None
    groups = len(wins_GG)
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(groups, np.full(groups, 1 / groups), DRAWS).astype(np.float64)
    wins = np.einsum("dg,dg->d", times_drawn @ wins_GG, times_drawn)
    pairs = (times_drawn @ detected_G) * (times_drawn @ usual_G)
    low, high = np.quantile(wins[pairs > 0] / pairs[pairs > 0], (0.025, 0.975))
    return float(low), float(high)
