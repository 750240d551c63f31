"""Sides that last: a session's side is known from itself, so that new sessions move none of the others.

`splits.split` draws a test from the sessions that are there; drawn again with more of them, it is another test. A set
that grows must not do that: what was tested on would be trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.sources.splits import CELL_M, CHUNK_S, OWN_TEST_FRACTION, Transmission

LASTING = ("random", "time", "block", "none")
SIDES = ("train", "validation", "test")
HOW = {
    "random": "sides by a hash of the session's id",
    "time": "sides by a hash of the 5-minute chunk",
    "block": "test: all sources within a circle that was drawn when the set was first prepared",
    "none": "no test: all rows train or validate",
}
MARGIN_M = 1e-3
"""Rounding must not move a place off the circle it defined."""


@dataclass(frozen=True)
class Rule:
    """What decides a session's side; drawn once, and kept with the set.

    Attributes:
        spec: One of `LASTING`.
        validation_fraction: Expected share of the rows that are not test.
        centre_deg: Latitude, longitude about which the test of `block` and the cells of validation are laid; (0, 0)
            for `random` and `time`, which look at no place.
        reach_m: Radius of the test of `block`; 0 for the others.
    """

    spec: str
    validation_fraction: float
    centre_deg: tuple[float, float]
    reach_m: float

    def sides(self, rows: Sequence[Transmission]) -> list[str]:
        """The side of each row: `train`, `validation` or `test`.

        Validation is drawn as the test is: single sessions for `random`, whole 5-minute chunks for `time`, whole
        400 m cells of the transmitter's place for `block` and `none`.
        """
        if self.spec == "random":
            groups = [row.session_id for row in rows]
        elif self.spec == "time":
            groups = [f"{row.start_time_s // CHUNK_S:.0f}" for row in rows]
        else:
            groups = ["{:.0f} {:.0f}".format(*cell) for cell in np.floor(_about(self.centre_deg, rows) / CELL_M)]
        if self.spec == "block":
            test = (np.linalg.norm(_about(self.centre_deg, rows), axis=1) <= self.reach_m).tolist()
        else:
            fraction = OWN_TEST_FRACTION.get(self.spec, 0.0)
            test = [_share("test", group) < fraction for group in groups]
        held = [_share("validation", group) < self.validation_fraction for group in groups]
        return ["test" if t else "validation" if v else "train" for t, v in zip(test, held, strict=True)]


def draw_rule(rows: Sequence[Transmission], spec: str, validation_fraction: float) -> Rule:
    """The rule for a new set of these labelled rows, one or more.

    Raises:
        ConfigError: No such split keeps rows where they are, or the fraction is not allowed.
    """
    if spec not in LASTING:
        cure = "Other splits are drawn when training: prepare with none, and give --split to train.py."
        raise ConfigError(explain("split of a set that grows", got=repr(spec), allowed=", ".join(LASTING), cure=cure))
    if not 0.0 < validation_fraction < 1.0:
        got, cure = validation_fraction, "0.15 is usual; early stopping needs validation rows."
        raise ConfigError(explain("data.validation_fraction", got=got, allowed="0 < fraction < 1", cure=cure))
    if spec in ("random", "time"):
        return Rule(spec, validation_fraction, (0.0, 0.0), 0.0)
    centre_deg = min(rows, key=lambda row: _share("centre", row.session_id)).truth_deg
    assert centre_deg is not None
    reach_m = 0.0
    if spec == "block":
        away_m = np.sort(np.linalg.norm(_about(centre_deg, rows), axis=1))
        within = np.searchsorted(away_m, away_m, side="right")
        nearest = np.argmin(np.abs(within - OWN_TEST_FRACTION["block"] * len(rows)))
        reach_m = float(away_m[nearest]) + MARGIN_M
    return Rule(spec, validation_fraction, centre_deg, reach_m)


def _about(centre_deg: tuple[float, float], rows: Sequence[Transmission]) -> np.ndarray:
    """East, north (N, 2) of the transmitters about a place, metres."""
    return degrees_to_local(np.array([row.truth_deg for row in rows], np.float64), centre_deg)


def _share(what: str, name: str) -> float:
    """A number in [0, 1) that is always the same for a name, and evenly spread over names."""
    return int.from_bytes(hashlib.sha256(f"{what}:{name}".encode()).digest()[:8], "big") / 2**64
