"""Squares of transmissions to test on beside a first block: as many rows each, none of them in two."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

ATTEMPTS = 50
"""Early squares may leave no room for later ones: then all are drawn anew. On POWDER seven attempts of ten succeed."""


class Square(NamedTuple):
    """The transmissions nearest to one of them, by the larger of their distances east and north."""

    rows: np.ndarray
    """Sorted indices."""
    seed: int
    """The one in the middle."""
    reach_m: float
    """To the furthest."""


def squares(place_m: np.ndarray, first: np.ndarray, count: int) -> list[Square]:
    """Up to `count` squares of as many rows as `first`, apart from it and from one another; the same at every call.

    Each is about a transmission drawn among those whose square holds no row taken already, which is the same as to draw
    until that holds.

    Args:
        place_m: East, north (N, 2) of the transmissions.
        first: Indices of the rows taken.
        count: Fewer are found where no more fit.
    """
    rng = np.random.default_rng(0)
    size = len(first)
    tree = scipy.spatial.KDTree(place_m)
    reach_m = tree.query(place_m, k=[size], p=np.inf)[0][:, 0]
    about_first_m = _nearest_m(place_m, first)
    most: list[Square] = []
    for _ in range(ATTEMPTS):
        found, taken_m = [], about_first_m
        while len(found) < count and (reach_m < taken_m).any():
            seed = int(rng.choice(np.flatnonzero(reach_m < taken_m)))
            rows = np.sort(np.argsort(_apart_m(place_m, place_m[seed]), kind="stable")[:size])
            found.append(Square(rows, seed, float(reach_m[seed])))
            taken_m = np.minimum(taken_m, _nearest_m(place_m, rows))
        most = max(most, found, key=len)
        if len(most) == count:
            break
    return most


def _apart_m(place_m: np.ndarray, other_m: np.ndarray) -> np.ndarray:
    """Chebyshev distances (N,) to a place (2,)."""
    return np.abs(place_m - other_m).max(axis=1)


def _nearest_m(place_m: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Chebyshev distance (N,) of each transmission to the nearest of some."""
    return scipy.spatial.KDTree(place_m[rows]).query(place_m, p=np.inf)[0]
