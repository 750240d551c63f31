"""What cross-validation leaves out is what the split holds out."""

from dataclasses import replace

import numpy as np
import pytest

from heimdall_jax.config import NAMED
from heimdall_jax.mapping import cross_validation_groups
from heimdall_jax.training.dataset import HeimdallDataset
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions

MAP = NAMED["powder_map"]


@pytest.fixture(scope="module")
def train() -> HeimdallDataset:
    """700 places in a square of 800 m, one every second from time 0."""
    return HeimdallDataset(Sessions(700), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


def test_single_rows_chunks_of_time_or_cells_of_the_place(train: HeimdallDataset) -> None:
    found = {
        split: cross_validation_groups(replace(MAP, data=replace(MAP.data, split=split)), train)
        for split in ("random", "time", "block", "block1", "block4", "none", "a.json")
    }
    np.testing.assert_array_equal(found["random"], np.arange(700))
    np.testing.assert_array_equal(found["time"], np.arange(700) // 300)
    cell = np.floor(train.columns()["position_m"] / 400).astype(int) @ [3, 1]  # each axis from 0 to 2
    for split in ("block", "block1", "block4", "none", "a.json"):
        group = found[split]
        assert group is not None
        assert len(np.unique(group)) == len(np.unique(cell)) == len(np.unique(cell * 10 + group))


def test_nothing_is_left_out_where_the_config_states_the_spreads(train: HeimdallDataset) -> None:
    assert cross_validation_groups(NAMED["power"], train) is None
