"""A measurement finds its session by time, frequency and task, and belongs to one only."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.sources.matching import Interval, Measurement, belongs, match

ZERO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(seconds):
    return ZERO + dt.timedelta(seconds=seconds)


def session(name="a", start=0.0, end=10.0, task=None, frequency=145e6):
    return Interval(name, at(start), None if end is None else at(end), task, frequency)


def measured(seconds=5.0, station="s", frequency=145e6, snr=10.0, key=None):
    return Measurement(at(seconds), station, frequency, -60.0, snr, key, 12_000.0, 600)


@pytest.mark.parametrize(
    ("measurement", "interval", "expected"),
    [
        (measured(0.0), session(), True),
        (measured(9.999999), session(), True),
        (measured(10.0), session(), False),  # [start, end)
        (measured(-0.000001), session(), False),
        (measured(1e6), session(end=None), True),
        (measured(frequency=145e6 + 10_000), session(), True),
        (measured(frequency=145e6 - 10_001), session(), False),
        (measured(frequency=7e6), session(frequency=None), True),
        (measured(key="sessions/t1/websdr_1.npy"), session(task="t1"), True),
        (measured(key="sessions/t11/websdr_1.npy"), session(task="t1"), False),
        (measured(key=None), session(task="t1"), True),
        (measured(key="sessions/t1/websdr_1.npy"), session(task=None), True),
    ],
)
def test_belonging(measurement, interval, expected):
    assert belongs(measurement, interval) is expected


def test_best_snr_of_a_station_counts():
    low, best, unknown, nan = (
        measured(1, snr=3.0),
        measured(2, snr=9.0),
        measured(3, snr=None),
        measured(4, snr=float("nan")),
    )
    other = measured(2, "other", snr=-5.0)
    assert match([session()], [low, best, unknown, nan, other]) == {"a": {"s": best, "other": other}}
    assert match([session()], [nan, unknown])["a"]["s"] == unknown  # the earlier of two equals


def test_an_open_session_does_not_keep_what_a_later_one_recorded():
    found = match([session("open", 0, None), session("later", 100, 200)], [measured(50), measured(150), measured(250)])
    assert found["later"]["s"].time == at(150)
    assert found["open"]["s"].time == at(50)


def test_the_task_wins_over_the_time():
    named = measured(150, key="sessions/t0/websdr_1.npy")
    found = match([session("open", 0, None, "t0"), session("later", 100, 200)], [named])
    assert found == {"open": {"s": named}, "later": {}}


def test_thousands_of_open_sessions_take_no_longer():
    """Sessions that failed have no end: each measurement is compared with its own, not with all of them."""
    count = 20_000
    compared = []

    class Counting(Interval):
        def __getattribute__(self, name):
            if name == "frequency_hz":
                compared.append(self)
            return super().__getattribute__(name)

    sessions = [Counting(str(i), at(i), None, f"t{i}", 145e6) for i in range(count)]
    measurements = [measured(count + i, key=f"sessions/t{i}/websdr_1.npy") for i in range(count)]
    found = match(sessions, measurements)
    assert all(len(by_station) == 1 for by_station in found.values())
    assert len(compared) < 4 * count


@given(
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30) | st.none()), max_size=6),
    times=st.lists(st.integers(0, 90), max_size=12, unique=True),
)
@settings(deadline=None, max_examples=60)
def test_no_measurement_is_in_two_sessions(spans, times):
    sessions = [
        session(str(i), start, None if length is None else start + length) for i, (start, length) in enumerate(spans)
    ]
    measurements = [measured(t, station=str(t)) for t in times]
    found = match(sessions, measurements)
    placed = [m for by_station in found.values() for m in by_station.values()]
    assert len(placed) == len(set(placed))
    # A double loop over both, in the words of the catalogue's page.
    for m in measurements:
        fits = any(s.start <= m.time and (s.end is None or m.time < s.end) for s in sessions)
        assert (m in placed) == fits
    assert all(
        belongs(m, next(s for s in sessions if s.session_id == name))
        for name, held in found.items()
        for m in held.values()
    )
