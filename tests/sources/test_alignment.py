"""The line through stamps, right and wrong; interpolation against tones in closed form; the calendar of GPS."""

import math

import numpy as np
import pytest
from kiwi_like import NAMED_S, OFF_LINE, STATIONS, gps_stamp, signal, write_kiwi_like

from heimdall_jax.errors import DataError
from heimdall_jax.sources.alignment import gps_ahead_s, half_width, interpolate
from heimdall_jax.sources.kiwi import read_kiwi


def tone(frequency_hz, time_s):
    return np.exp(2j * np.pi * frequency_hz * np.asarray(time_s))


@pytest.mark.parametrize("frequency_hz", [-5000.0, -1234.5, 0.0, 17.0, 3333.3, 5000.0])
@pytest.mark.parametrize("rate_hz", [12001.1, 12000.4, 11_000.0])
def test_tones_at_any_time(frequency_hz, rate_hz):
    """Signed, to 1e-4 of full scale, in several chunks, from a position that is no sample."""
    iq_T = tone(frequency_hz * rate_hz / 12_001.1, np.arange(9000) / rate_hz)
    start, step = 100.37, rate_hz / 12_000
    position = start + step * np.arange(8000)
    wanted = tone(frequency_hz * rate_hz / 12_001.1, position / rate_hz)
    error = np.abs(interpolate(iq_T, start, step, 8000) - wanted)
    assert error.max() < 1e-4


@pytest.mark.parametrize("frequency_hz", [7500.0, -9000.0])
def test_a_slower_grid_holds_only_what_fits(frequency_hz):
    """From 20.25 kHz (KiwiSDR's wide mode) to 12 kHz: tones beyond 6 kHz are gone, not folded back."""
    iq_T = tone(frequency_hz, np.arange(9000) / 20_250)
    out = interpolate(iq_T, 200.5, 20_250 / 12_000, 5000)
    assert np.abs(out).max() < 1e-4
    inside = interpolate(tone(-4500.0, np.arange(9000) / 20_250), 200.5, 20_250 / 12_000, 5000)
    np.testing.assert_allclose(inside, tone(-4500.0, 200.5 / 20_250 + np.arange(5000) / 12_000), atol=1e-4)


def test_no_value_is_made_up_at_the_ends():
    iq_T = np.ones(500, np.complex128)
    half = half_width(1.0)
    np.testing.assert_allclose(interpolate(iq_T, half - 1.0, 1.0, 502 - 2 * half - 1), 1.0, atol=1e-6)
    for start, count in [(half - 1.1, 10), (half - 1.0, 502 - 2 * half), (-5.0, 3), (np.nan, 3)]:
        with pytest.raises(DataError, match="positions to interpolate at"):
            interpolate(iq_T, start, 1.0, count)


def test_leap_seconds():
    """IERS Bulletin C: GPS is 17 s ahead of UTC from 2015-07-01, 18 s from 2017-01-01."""
    assert [gps_ahead_s(t, "a") for t in (1_435_708_800, 1_483_228_799, 1_483_228_800, 1_900_000_000)] == [
        17,
        17,
        18,
        18,
    ]
    with pytest.raises(DataError, match="date in its name"):
        gps_ahead_s(1_435_708_799, "a")


def test_a_week_may_end_in_the_middle(tmp_path):
    """GPS weeks end on Saturday, 18 s before midnight UTC: stamps fall from 604799 to 0."""
    stamps = []
    named_s = 1_512_259_180  # date -u -d 2017-12-02T23:59:40Z +%s
    path = write_kiwi_like(
        tmp_path, named="20171202T235940Z", edit=lambda blocks: [stamps.append(b.stamp_s) or b for b in blocks]
    )
    assert {604_798, 604_799, 0, 1, 2} <= set(stamps[1:])
    recordings = read_kiwi([path], STATIONS)
    assert recordings.skipped == {OFF_LINE: 1}
    assert recordings.each[0].clock.sample_rate_hz == pytest.approx(12001.1, abs=1e-4)
    session = recordings[1]
    assert session.session_id == "2017-12-02T23:59:42.000Z"
    np.testing.assert_allclose(session.iq_RT[0], signal(session.start_time_s - named_s + np.arange(12_000) / 12_000),
                               atol=1e-4)  # fmt: skip


def shift_stamps(blocks, numbers, seconds):
    for number in numbers:
        blocks[number].stamp_s, blocks[number].stamp_ns = gps_stamp(NAMED_S, blocks[number].time_s + seconds)
    return blocks


@pytest.mark.parametrize("seconds", [40e-6, -1.0, 0.04266, 250_000.0, -3e-5])
def test_wrong_stamps_are_rejected_and_counted(tmp_path, seconds):
    numbers = [5, 6, 20, 41, 93]
    path = write_kiwi_like(tmp_path, edit=lambda blocks: shift_stamps(blocks, numbers, seconds))
    recordings = read_kiwi([path], STATIONS)
    assert recordings.skipped == {OFF_LINE: 6}
    np.testing.assert_allclose(recordings[1].iq_RT[0], signal(2 + np.arange(12_000) / 12_000), atol=1e-4)


def test_scattered_stamps_widen_the_clock(tmp_path):
    scatter = np.random.default_rng(1).normal(0, 2e-6, 200)

    def edit(blocks):
        for number in range(1, len(blocks)):
            shift_stamps(blocks, [number], scatter[number])
        return blocks

    clock = read_kiwi([write_kiwi_like(tmp_path, edit=edit)], STATIONS).each[0].clock
    assert clock.rejected == 1
    assert clock.sigma_s == pytest.approx(2e-6, rel=0.2)  # 93 draws: 7 % standard error


@pytest.mark.parametrize(("lost", "begin_s", "end_s"), [(slice(30, 33), 1.66, 4.25), (slice(70, 71), 0.3, 3.2)])
def test_after_lost_data_the_longer_part_counts(tmp_path, lost, begin_s, end_s):
    def edit(blocks):
        del blocks[lost]
        return blocks

    recordings = read_kiwi([write_kiwi_like(tmp_path, edit=edit)], STATIONS, window_s=0.25)
    assert recordings[0].start_time_s - NAMED_S == math.ceil(begin_s)
    assert recordings[-1].start_time_s - NAMED_S == math.floor(4 * end_s) / 4 - 0.25
    for session in recordings.__getitems__([0, -1]):
        time_s = session.start_time_s - NAMED_S + np.arange(3000) / 12_000
        np.testing.assert_allclose(session.iq_RT[0], signal(time_s), atol=1e-4)


def old(blocks):
    for block in blocks:
        block.age_s = 254
    return blocks


def scrambled(blocks):
    late_s = np.random.default_rng(0).uniform(0, 100, len(blocks))
    return [shift_stamps([block], [0], seconds)[0] for block, seconds in zip(blocks, late_s, strict=True)]


def stuck(blocks):
    return shift_stamps(blocks, range(len(blocks)), 0) and [
        type(b)(b.time_s, blocks[0].stamp_s, blocks[0].stamp_ns) for b in blocks
    ]


def stretched(blocks):
    for number, block in enumerate(blocks):
        shift_stamps(blocks, [number], 0.002 * block.time_s)
    return blocks


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (old, "last GPS solution is over 60 s old in 94 of 94 blocks"),
        (scrambled, "stamps are on one line"),
        (stuck, "0 of 94 stamps are on one line"),
        (stretched, "0 of 94 stamps are on one line"),
        (lambda blocks: shift_stamps(blocks, range(len(blocks)), 7200), "7200 s from the time in the name"),
        (lambda blocks: blocks[:7], "of 7 stamps are on one line"),
    ],
)
def test_times_that_cannot_be_used_are_refused_with_the_reason(tmp_path, edit, reason):
    good = write_kiwi_like(tmp_path, "DF0KL", begin_s=-0.5)
    bad = write_kiwi_like(tmp_path, "F1JEK", edit=edit)
    recordings = read_kiwi([good, bad], STATIONS, window_s=0.2, start_s=NAMED_S + 0.0625)
    assert recordings[0].clock_sigma_s_R[0] < 1e-7
    assert recordings[0].clock_sigma_s_R[1] == math.inf
    assert recordings.skipped["recording without usable times"] == 1
    assert reason in recordings.each[1].clock.refused
    assert f"F1JEK: times cannot be used: {recordings.each[1].clock.refused}" in recordings.notes
    assert recordings[0].heard_R.all()  # its power still counts
