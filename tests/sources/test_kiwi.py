"""Windows of GPS-stamped recordings, against made-up ones known in closed form, and the real ones where present."""

import math
from collections import Counter

import numpy as np
import pytest
from kiwi_like import NAMED_S, OFF_LINE, PLACES, STATIONS, signal, slope, write_kiwi_like, write_places

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources.kiwi import read_kiwi
from heimdall_jax.sources.receptions import utc_name
from heimdall_jax.types import SessionSource, Station

RECEIVERS = {"DF0KL": (12001.1, 0.25, 1.3e-3), "F1JEK": (12000.4, 0.61, 2.7e-3), "HB9RYZ": (12001.1, 0.43, 0.0)}
"""Sample rate, begin, and delay of three made-up recordings."""


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kiwi")
    return [
        write_kiwi_like(folder, name, rate_hz=rate_hz, begin_s=begin_s, delay_s=delay_s)
        for name, (rate_hz, begin_s, delay_s) in RECEIVERS.items()
    ]


def test_delays_come_back_to_ten_nanoseconds(three, tmp_path):
    """A received signal's first-order difference from the closed form, over its slope, is the error of its delay."""
    recordings = read_kiwi(three, write_places(tmp_path / "places"))
    assert isinstance(recordings, SessionSource)
    assert recordings.skipped == {OFF_LINE: 3}
    for session in recordings.__getitems__(range(len(recordings))):
        time_s = session.start_time_s - NAMED_S + np.arange(12_000) / 12_000
        for name, row in zip(session.receivers, session.iq_RT, strict=True):
            wanted = signal(time_s - RECEIVERS[name][2])
            assert np.abs(row - wanted).max() < 1e-4
            rise = slope(time_s - RECEIVERS[name][2])
            error_s = np.vdot(rise, row - wanted).real / np.vdot(rise, rise).real
            assert abs(error_s) < 10e-9


def test_a_session_says_what_is_known(three, tmp_path):
    recordings = read_kiwi(reversed(three), write_places(tmp_path / "places"))
    assert len(recordings) == 3  # 0.61 s to 4.25 s holds the seconds from 1, 2 and 3
    session = recordings[0]
    assert session.session_id == "2017-11-27T10:41:57.000Z"
    assert [recordings[i].start_time_s for i in range(3)] == [NAMED_S + 1.0, NAMED_S + 2.0, NAMED_S + 3.0]
    assert session.receivers == recordings.receivers == ("DF0KL", "F1JEK", "HB9RYZ")
    np.testing.assert_array_equal(session.receiver_deg_RE, [PLACES[name] for name in session.receivers])
    np.testing.assert_allclose(recordings.origin_deg, (48.872242, 5.441411), atol=1e-6)  # mean of three by hand
    assert session.present_R.all()
    assert session.heard_R.all()
    assert (session.sample_rate_hz, session.frequency_hz, session.truth_deg) == (12_000.0, 77_500.0, None)
    # 16 tones of amplitude 0.05 hertz apart: 16 x 0.0025 = 0.04.
    np.testing.assert_allclose(session.rss_db_R, 10 * math.log10(0.04), atol=0.5)
    assert session.altitude_m_R.tolist() == [0, 0, 0]
    # Stamps are cut to the nanosecond, so the stated 86 ns of GPS is all.
    np.testing.assert_allclose(session.clock_sigma_s_R, 86e-9, rtol=1e-3)


@pytest.mark.parametrize(("window_s", "count"), [(0.5, 6), (1.0, 3), (2.0, 1), (3.0, 1)])
def test_windows_follow_each_other(three, window_s, count):
    recordings = read_kiwi(three, STATIONS, window_s=window_s)
    assert len(recordings) == count
    assert {session.iq_RT.shape for session in recordings.__getitems__(range(count))} == {(3, round(12_000 * window_s))}
    if window_s == 0.5:
        whole = read_kiwi(three, STATIONS)[1].iq_RT
        halves = np.concatenate([recordings[2].iq_RT, recordings[3].iq_RT], axis=1)
        np.testing.assert_allclose(halves, whole, atol=1e-6)


def test_a_start_and_a_rate_can_be_chosen(three):
    recordings = read_kiwi(three, STATIONS, window_s=0.5, start_s=NAMED_S + 1.25, sample_rate_hz=16_000.0)
    session = recordings[1]
    assert session.session_id == "2017-11-27T10:41:57.750Z"
    wanted = signal(1.75 + np.arange(8000) / 16_000)
    np.testing.assert_allclose(session.iq_RT[2], wanted, atol=1e-4)


def test_silence_is_not_heard(tmp_path):
    silent = write_kiwi_like(tmp_path, "F1JEK", iq=lambda time_s: np.zeros(len(time_s), complex))
    session = read_kiwi([write_kiwi_like(tmp_path), silent], STATIONS)[0]
    assert session.heard_R.tolist() == [True, False]
    assert session.present_R.all()
    assert np.isfinite(session.rss_db_R).all()


def test_recordings_that_do_not_belong_together(tmp_path):
    one = write_kiwi_like(tmp_path)
    with pytest.raises(DataError, match=r"DF0KL 77500 Hz, F1JEK 60000 Hz; allowed: one for all"):
        read_kiwi([one, write_kiwi_like(tmp_path, "F1JEK", hertz=60_000)], STATIONS)
    with pytest.raises(DataError, match=r"\['DF0KL', 'DF0KL'\]; allowed: each once"):
        read_kiwi([one, write_kiwi_like(tmp_path / "again")], STATIONS)
    with pytest.raises(DataError, match=r"F1JEK 2017-11-27T10:42:.*leave out the recording that does not overlap"):
        read_kiwi([one, write_kiwi_like(tmp_path, "F1JEK", named="20171127T104256Z", begin_s=0.25)], STATIONS)
    with pytest.raises(DataError, match="recordings: got none"):
        read_kiwi([], STATIONS)
    with pytest.raises(DataError, match="47000 to 752000 Hz for sessions at 188000 Hz"):
        read_kiwi([one], STATIONS, sample_rate_hz=188_000.0)
    with pytest.raises(StorageError, match="No such file"):
        read_kiwi([tmp_path / one.name.replace("DF0KL", "HB9RYZ")], STATIONS)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window_s": 0.0}, ConfigError, "at least one sample"),
        ({"window_s": -1.0}, ConfigError, "at least one sample"),
        ({"window_s": math.nan}, ConfigError, "at least one sample"),
        ({"sample_rate_hz": math.inf}, ConfigError, "at least one sample"),
        ({"window_s": 1 / 7}, ConfigError, r"a whole number.*Give window_s 0.14283"),
        ({"start_s": math.nan}, ConfigError, "start_s: got nan"),
        ({"window_s": 60.0}, DataError, "within the time that all hold"),
        ({"start_s": NAMED_S + 0.0}, DataError, "41:56.000Z, with DF0KL 2017-11-27T10:41:56.295Z"),
        ({"start_s": NAMED_S + 4.0}, DataError, "within the time that all hold"),
    ],
)
def test_windows_that_do_not_fit(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        read_kiwi([write_kiwi_like(tmp_path)], STATIONS, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d.X = 1;", "'coord'"),
        ("d.X = struct('coord', [1e3,7]);", "latitude in"),
        ("d.X = struct('coord', [7,153]);d", None),
        ("d.X = struct('coord', [ -7.5 153 ], 'host', '');", None),
        ("d.X = struct('coord', [north,7]);", "north"),
        ("d.X = struct('coord', [nan,7]);", "nan"),
        ("d.X = struct('coord', [0,0]);", r"\(0, 0\)"),
        (" " * 70_000 + "'coord', [7,8]", "70014 bytes"),
        ("\udcff", "UTF-8"),
    ],
)
def test_places(tmp_path, text, message):
    path = write_kiwi_like(tmp_path, "F1JEK-P")
    (tmp_path / "F1JEK_P.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
    if message is None:
        assert read_kiwi([path], tmp_path)[0].receiver_deg_RE[0, 1] == 153
    else:
        with pytest.raises(DataError, match=message):
            read_kiwi([path], tmp_path)


def test_unplaced_receivers_are_named(tmp_path):
    path = write_kiwi_like(tmp_path, "F1JEK-P")
    with pytest.raises(DataError, match=r"F1JEK-P: got none; allowed: DF0KL, F1JEK, HB9RYZ. Add F1JEK-P.txt"):
        read_kiwi([path], write_places(tmp_path / "places"))
    with pytest.raises(DataError, match="allowed: DF0KL, F1JEK, HB9RYZ"):
        read_kiwi([path], STATIONS)
    high = read_kiwi([path], {"F1JEK_P": Station("F1JEK_P", 45.0, 0.6, 320.0)})[0]
    assert high.receivers == ("F1JEK-P",)
    assert high.altitude_m_R.tolist() == [320.0]


def test_names_of_windows():
    assert utc_name(1_511_779_316_999_600_000) == "2017-11-27T10:41:57.000Z"
    assert utc_name(1_511_779_316_050_000_000) == "2017-11-27T10:41:56.050Z"


@pytest.mark.parametrize(("window_s", "count"), [(0.5, 56), (1.0, 28), (2.0, 14), (4.0, 7)])
def test_the_real_recordings(kiwi_folder, window_s, count):
    """Rates and residuals: `numpy.polyfit` of the stamps after the first, by a separate script."""
    recordings = read_kiwi(sorted(kiwi_folder.glob("*.wav")), kiwi_folder / "gnss_pos", window_s=window_s)
    assert recordings.receivers == ("DF0KL", "F1JEK", "HB9RYZ")
    rates = [one.clock.sample_rate_hz for one in recordings.each]
    np.testing.assert_allclose(rates, [12001.14497, 12001.20192, 12001.13215], atol=1e-4)
    rms_us = [one.clock.residual_s * 1e6 for one in recordings.each]
    np.testing.assert_allclose(rms_us, [0.0748, 0.0174, 0.0163], atol=1e-3)
    assert min(rms_us) > 0.01
    assert max(rms_us) < 0.08
    assert [one.clock.rejected for one in recordings.each] == [1, 1, 1]
    assert recordings.skipped == {OFF_LINE: 3}
    assert len(recordings) == count
    session = recordings[count - 1]
    assert session.iq_RT.shape == (3, round(window_s * 12_000))
    assert session.start_time_s == 1_511_779_317 + 28 - window_s  # from 10:41:57, the first whole second, for 28 s
    assert session.frequency_hz == 77_500.0
    assert session.heard_R.all()
    np.testing.assert_allclose(session.receiver_deg_RE[1], [45.77929, 0.614638])
    # Mean power of each whole file, by the same script; DCF77 keys its power every second.
    np.testing.assert_allclose(session.rss_db_R, [-32.970, -13.575, -14.629], atol=2.0)


def test_a_broken_recording_is_an_error_or_a_session(tmp_path):
    """Random flips, cuts and repeats of bytes, seeded; half of them in the bytes that steer the parser."""
    path = write_kiwi_like(tmp_path, seconds=1.2)
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    headers = np.r_[0:36, (36 + 2074 * np.arange(len(whole) // 2074)[:, None] + np.arange(26)).reshape(-1)]
    outcomes = Counter()
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.choice(headers if rng.random() < 0.5 else len(whole), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        if rng.random() < 0.2:
            del data[rng.integers(len(data)) :]
        if rng.random() < 0.1:
            data[int(rng.integers(len(data) + 1)) :] += data[: rng.integers(4096)]
        path.write_bytes(data)
        try:
            session = read_kiwi([path], STATIONS, window_s=0.1)[0]
        except DataError as error:
            outcomes["error" if "; allowed: " in str(error) else "without advice"] += 1
            continue
        assert np.isfinite(session.iq_RT).all()
        assert session.clock_sigma_s_R[0] > 0
        outcomes["refused clock" if math.isinf(session.clock_sigma_s_R[0]) else "session"] += 1
    assert set(outcomes) <= {"error", "session", "refused clock"}
    assert min(outcomes["error"], outcomes["session"]) > 50


def test_a_dead_receiver_and_a_clock_that_jumps_are_told(tmp_path):
    places = write_places(tmp_path / "places")

    def jump(blocks):
        for block in blocks[40:]:
            block.stamp_ns += 5_000
        return blocks

    dead = write_kiwi_like(tmp_path, "DF0KL", iq=lambda time_s: np.full(time_s.shape, 0.25 + 0.5j))
    jumping = write_kiwi_like(tmp_path, "F1JEK", edit=jump)
    recordings = read_kiwi([dead, jumping, write_kiwi_like(tmp_path, "HB9RYZ")], places)
    told = [note for note in recordings.notes if "dead" in note or "jumps" in note]
    assert told[0] == "DF0KL: dead: it recorded one value for most of its time"
    assert told[1].startswith("F1JEK: its clock jumps by +5.0 us, 1.7 s into the recording")
    assert len(told) == 2
    assert recordings[0].heard_R.tolist() == [False, True, True]
