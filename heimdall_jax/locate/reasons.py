"""When a place had better not be claimed: "I don't know", and why. Every rule is physics or a stated probability.

**Too few receivers.** Two coordinates and the time, or the power, of sending are three unknowns.

**Bad geometry.** The 68 % radius is larger than the circle that holds the receivers (half the diagonal of their
bounding box): that the transmitter is somewhere about them was known before anything was measured. Likewise where the
best place lies outside the square that was searched, or another fits as well.

**Whose fault a large region is.** With arrivals of standard deviation s_i at receivers all around, the information is
(1/2) sum 1 / (c s_i)^2 east and north alike, and no arrangement gives more (Levanon, IEE Proceedings: Radar, Sonar and
Navigation 147 (2000) 149). Where that, too, is larger than the circle, clocks, propagation or noise are to blame,
whichever has most of the variance; else the receivers' places.

**Clocks.** A receiver whose clock's standard deviation, times c, is larger than that circle says nothing, and is left
out; a stale one is refused as it is read.

**Contradicting times.** More than three receivers overdetermine the place: the sum of (residual / sigma)^2 is a
chi-square of R - 3 degrees of freedom. Above what one fix in a thousand reaches by chance, the times are not of one
place.

**Models.** The 68 % radius that the model itself stays below on all but 5 % of its validation rows (`doubt` of
`metrics.json`), and the box of the places on which it was trained, reached by more than that radius.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from heimdall_jax import geodesy
from heimdall_jax.evaluation.ranges import Path
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.evaluation.tdoa_fix import REACH_FACTOR, FixDetails
from heimdall_jax.evaluation.tdoa_solver import Problem, solve
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.sources.stream_checks import ONE_VALUE

NEEDED = 3
"""Receivers."""
CONTRADICTS = 1e-3
"""Probability below which residuals are no chance."""
UNDATED = "its times cannot be used"
NO_CORRELATION = "no correlation with any other"
NO_BANDWIDTH = "no clear peak within the lags"
NO_SIGNAL = "no signal above its noise"
INACCURATE = "its clock says nothing"
KINDS = {
    UNDATED: "stale clocks",
    NO_CORRELATION: "no common signal",
    NO_BANDWIDTH: "no bandwidth",
    NO_SIGNAL: "no signal",
    INACCURATE: "inaccurate clocks",
    ONE_VALUE: "dead receivers",
}
"""What a refused receiver's reason begins with, and what the answer calls it."""


def too_few(count: int, refused: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """Reasons, if fewer than three receivers are left; what the others were refused for, kind by kind."""
    if count >= NEEDED:
        return ()
    reasons = [f"too few receivers: {count} usable, {NEEDED} are needed"]
    for start, kind in KINDS.items():
        told = [f"{entry['name']}: {entry['reason']}" for entry in refused if entry["reason"].startswith(start)]
        reasons += [f"{kind}: {'; '.join(told)}"] if told else []
    return tuple(reasons)


def inaccurate(sigma_s_R: np.ndarray, circle_m: float) -> dict[int, str]:
    """Why receivers, by their rows, tell nothing by their clocks."""
    reach_m = sigma_s_R * geodesy.SPEED_OF_LIGHT_M_PER_S
    return {
        int(row): f"{INACCURATE}: {sigma_s_R[row] * 1e6:g} us, or {spoken_m(reach_m[row])}, "
        f"is more than the {spoken_m(circle_m)} of the circle that holds the receivers"
        for row in np.flatnonzero(np.isfinite(sigma_s_R) & (reach_m > circle_m))
    }


def of_times(
    names: Sequence[str],
    details: FixDetails,
    position_m: np.ndarray,
    radius_68_m: float,
    *,
    clock_sigma_s_R: np.ndarray,
    extra_s: float,
    origin_deg: tuple[float, float],
    path: Path = "space",
) -> tuple[str, ...]:
    """Why a fix by times is withheld; nothing where it is not."""
    reasons = [*_contradiction(names, details, origin_deg, path), *_far(details, position_m)]
    circle_m = details.reach_m / REACH_FACTOR
    if radius_68_m > circle_m:
        used = details.used_R
        variance_s2, clock_s2 = details.sigma_s_R[used] ** 2, clock_sigma_s_R[used] ** 2
        ideal_m = _ideal_radius_m(variance_s2)
        large = f"68 % within {spoken_m(radius_68_m)}, more than the {spoken_m(circle_m)} of the circle that holds them"
        if ideal_m > circle_m:
            parts = {
                "inaccurate clocks": clock_s2.sum(),
                "propagation": len(clock_s2) * extra_s**2,
                "weak signal": (variance_s2 - clock_s2 - extra_s**2).sum(),
            }
            reasons.append(f"{max(parts, key=lambda part: parts[part])}: {large}, wherever the receivers stood")
        else:
            worse = radius_68_m / ideal_m
            reasons.append(
                f"bad geometry: {large}; from all around the same times give {spoken_m(ideal_m)}, {worse:.0f}"
            )
            reasons[-1] += " times less"
    if details.ambiguous:
        reasons.append("bad geometry: another place fits these times as well; a further receiver would decide")
    return tuple(reasons)


def of_powers(radius_68_m: float, circle_m: float) -> tuple[str, ...]:
    """Why a fix by powers is withheld; nothing where it is not."""
    if radius_68_m <= circle_m:
        return ()
    large = f"68 % within {spoken_m(radius_68_m)}, more than the {spoken_m(circle_m)}"
    return (f"bad geometry: {large} of the circle that holds the receivers; powers say no more from these places",)


def of_model(manifest: Manifest, position_m: np.ndarray, radius_68_m: float) -> tuple[str, ...]:
    """Why a model's fix is withheld; nothing where it is not."""
    reasons = []
    doubt = (manifest.metrics or {}).get("doubt")
    above_m = doubt.get("above_m") if isinstance(doubt, dict) else None
    if isinstance(above_m, int | float) and radius_68_m > above_m:
        told = f"its own 68 % radius is {spoken_m(radius_68_m)}, above {spoken_m(above_m)}"
        reasons.append(f"out of distribution: {told}, which it stays below on 95 % of its validation rows")
    west, south, east, north = manifest.domain.position_box_m
    if east > west and north > south:
        low, high = np.array([west, south]), np.array([east, north])
        beyond_m = float(np.linalg.norm(np.maximum(np.maximum(low - position_m, position_m - high), 0.0)))
        if beyond_m > radius_68_m:
            told = f"{spoken_m(beyond_m)} beyond the places it was trained on, more than its 68 % radius"
            reasons.append(f"outside the trained region: the best place is {told} of {spoken_m(radius_68_m)}")
    return tuple(reasons)


def _ideal_radius_m(variance_s2: np.ndarray) -> float:
    """68 % radius of the best arrangement of receivers with these variances."""
    variance_m2 = 2 / np.sum(1 / variance_s2) * geodesy.SPEED_OF_LIGHT_M_PER_S**2
    return float(geodesy.error_radius_m(np.eye(2) * variance_m2, 0.68))


def _contradiction(names: Sequence[str], details: FixDetails, origin_deg: tuple[float, float], path: Path) -> list[str]:
    used = np.flatnonzero(details.used_R)
    freedom = len(used) - NEEDED
    if freedom < 1:
        return []
    chi_square, chance = _chance(details.residual_s_R[used], details.sigma_s_R[used])
    if chance >= CONTRADICTS:
        return []
    told = f"chi-square {chi_square:.0f} of {freedom} degrees of freedom, p = {chance:.1g} (limit {CONTRADICTS:g})"
    agree = [names[row] for row in _odd_ones(details, used, origin_deg, path)]
    if freedom < 2:
        which = "a fifth receiver would tell which is off"
    else:
        which = f"without {' or '.join(agree)} the others agree" if agree else "no receiver alone explains it"
    return [f"contradicting times: {told}; {which}"]


def _chance(residual_s: np.ndarray, sigma_s: np.ndarray) -> tuple[float, float]:
    """Chi-square of residuals, and the probability of as much or more."""
    sigmas = residual_s / sigma_s
    chi_square = float(sigmas @ sigmas)
    return chi_square, float(scipy.stats.chi2.sf(chi_square, len(sigmas) - NEEDED))


def _odd_ones(details: FixDetails, used: np.ndarray, origin_deg: tuple[float, float], path: Path) -> list[int]:
    """Rows of receivers without each of which the others agree; none where too few are left to disagree."""
    count = len(used)
    if count < NEEDED + 2:
        return []
    problem = Problem(*(np.repeat(part, count, axis=0) for part in details.problem))
    problem.variance_s2_NR[np.arange(count), used] = np.inf
    fixes = solve(problem, origin_deg=origin_deg, path=path)
    found = []
    for left_out, residual_s in zip(used.tolist(), fixes.residual_s_NR, strict=True):
        others = used[used != left_out]
        if _chance(residual_s[others], details.sigma_s_R[others])[1] >= CONTRADICTS:
            found.append(left_out)
    return found


def _far(details: FixDetails, position_m: np.ndarray) -> list[str]:
    away_m = float(np.max(np.abs(position_m - np.array(details.centre_m))))
    if away_m <= details.reach_m or math.isnan(away_m):
        return []
    told = f"the best place is {spoken_m(away_m)} from the receivers' middle; {spoken_m(details.reach_m)} are searched"
    return [f"bad geometry: {told}"]
