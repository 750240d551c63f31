"""Faults put into recordings: what changes and what does not."""

import numpy as np
import pytest

from heimdall_jax.evaluation.faults import exchanged, inject, partner_of, without

HEARD = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 1, 1]], bool)
PRESENT = HEARD | np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
RSS_DB = np.array([[-80, -60, 0], [-82, -61, -90], [-90, 0, -91], [0, -63, -95]], np.float32)
SAMPLES = {"rss_db": RSS_DB, "heard": HEARD, "present": PRESENT}


@pytest.fixture(autouse=True)
def untouched():
    before = {key: value.copy() for key, value in SAMPLES.items()}
    yield
    for key, value in before.items():
        np.testing.assert_array_equal(SAMPLES[key], value)


@pytest.mark.parametrize(("kind", "shift_db"), [("20 dB up", 20.0), ("20 dB down", -20.0)])
def test_a_shift_moves_what_the_receiver_heard_and_nothing_else(kind, shift_db):
    moved_db = inject(SAMPLES, kind, 0)["rss_db"] - RSS_DB
    np.testing.assert_array_equal(moved_db, np.where(HEARD & [True, False, False], shift_db, 0.0))


def test_a_frozen_receiver_reads_its_median():
    frozen_db = inject(SAMPLES, "frozen", 0)["rss_db"]
    assert frozen_db[:3, 0].tolist() == [-82.0] * 3  # of -80, -82, -90
    np.testing.assert_array_equal(frozen_db[~HEARD | [False, True, True]], RSS_DB[~HEARD | [False, True, True]])


def test_a_swap_exchanges_readings_and_hearing_where_both_were_present():
    swapped = exchanged(SAMPLES, 0, 2)
    assert swapped["rss_db"][:, 0].tolist() == [0.0, -90.0, -91.0, 0.0]  # the last has 0 absent, and stays
    assert swapped["heard"][:, [0, 2]].tolist() == [[False, True], [True, True], [True, True], [False, True]]
    assert swapped["rss_db"][:, 2].tolist() == [-80.0, -82.0, -90.0, -95.0]
    for key, value in SAMPLES.items():
        np.testing.assert_array_equal(exchanged(swapped, 2, 0)[key], value)
    assert (inject(SAMPLES, "swapped", 0)["rss_db"] == exchanged(SAMPLES, 0, 1)["rss_db"]).all()  # 1 before 2: a tie


def test_the_partner_shares_most_recordings_and_ties_go_to_the_next():
    assert [partner_of(HEARD, receiver) for receiver in range(3)] == [1, 2, 0]
    fewer = HEARD.copy()
    fewer[0] = True
    assert [partner_of(fewer, receiver) for receiver in range(3)] == [2, 2, 0]


def test_a_receiver_left_out_is_neither_heard_nor_present():
    left = without(SAMPLES, np.array([False, True, False]))
    assert not left["heard"][:, 1].any()
    assert not left["present"][:, 1].any()
    np.testing.assert_array_equal(left["present"][:, [0, 2]], PRESENT[:, [0, 2]])
