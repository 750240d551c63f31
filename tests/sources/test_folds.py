"""What a cross-validated map leaves out is drawn as the test is."""

import numpy as np
import pytest

from heimdall_jax.sources.splits import CELL_M, folds, groups

PLACES_M = np.random.default_rng(0).uniform(0, 2000, (900, 2))
TIMES_S = np.arange(900) * 4.0  # twelve chunks of five minutes, 75 rows each


def test_single_rows_chunks_of_time_or_cells_of_the_place():
    np.testing.assert_array_equal(groups(TIMES_S, PLACES_M, "random"), np.arange(900))
    np.testing.assert_array_equal(groups(TIMES_S, PLACES_M, "time"), np.arange(900) // 75)
    cell = np.floor(PLACES_M / CELL_M).astype(int) @ [5, 1]
    for split in ("block", "block1", "block4", "none", "a.json"):
        group = groups(TIMES_S, PLACES_M, split)
        assert len(np.unique(group)) == len(np.unique(cell)) == len(np.unique(cell * 25 + group))


@pytest.mark.parametrize(("split", "size"), [("random", 162), ("time", 180), ("block", 108), ("a.json", 108)])
def test_folds_are_disjoint_and_of_the_size_of_a_test(split, size):
    found = folds(TIMES_S, PLACES_M, split, count=4)
    assert len(found) == 4
    assert np.sum(found, axis=0).max() == 1
    assert [abs(part.sum() - size) <= 75 * (split == "time") for part in found] == [True] * 4
    if split == "time":
        assert all(len(np.unique(part.reshape(12, 75), axis=1).T) == 1 for part in found)  # whole chunks


def test_folds_by_place_are_squares():
    """Nothing outside lies within the box of what is left out, drawn in by the widest gap of 900 places."""
    for part in folds(TIMES_S, PLACES_M, "block", count=3):
        low, high = PLACES_M[part].min(axis=0), PLACES_M[part].max(axis=0)
        inside = ((low < PLACES_M) & (high > PLACES_M)).all(axis=1)
        assert part[inside].all()
