"""A transmitter placed from GPS-stamped recordings: made-up ones with known delays, and the real ones where present."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pymap3d.vincenty
import pytest
from kiwi_like import PLACES, signal, write_kiwi_like, write_places

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S, degrees_to_local
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.command import locate
from heimdall_jax.locate.delays import timing_config
from heimdall_jax.locate.find import find
from heimdall_jax.sources.kiwi import read_kiwi
from tests.laws import ROOT

TRANSMITTER = (49.2, 4.4)
DCF77 = (50.0152, 9.0112)  # Mainflingen, as physics gives it: 50.0152 N, 9.0112 E
FOUR = PLACES | {"TWR": (50.9, 4.6)}
KEYS = {
    *("located", "reasons", "receivers", "helps"),
    *("latitude", "longitude", "radius_68_m", "covariance_m2", "ellipse_68", "ellipse_95", "receivers_used"),
    *("receivers_refused", "windows", "method", "sigma_us", "notes"),
}


def locate_by_recordings(paths: tuple[Path, ...], stations: Path, **options) -> dict:
    return find(LocateArguments(paths, stations=stations, **options)).to_tree()


def geodesic_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Vincenty's, from pymap3d: an independent library."""
    return float(np.asarray(pymap3d.vincenty.vdist(*a, *b)[0]).squeeze())


def write(folder: Path, name: str, late_s: float = 0.0, **options) -> Path:
    """A recording at a receiver that the ground wave reaches when it should, and `late_s` later."""
    delay_s = geodesic_m(FOUR[name], TRANSMITTER) / SPEED_OF_LIGHT_M_PER_S + late_s
    return write_kiwi_like(folder, name, delay_s=delay_s, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kiwi")


@pytest.fixture(scope="module")
def stations(folder):
    return write_places(folder / "places", FOUR)


@pytest.fixture(scope="module")
def three(folder):
    return tuple(write(folder / "three", name) for name in PLACES)


@pytest.fixture(scope="module")
def fix(three, stations):
    return locate_by_recordings(three, stations)


def mahalanobis_squared(fix: dict, place: tuple[float, float]) -> float:
    off_m = degrees_to_local(np.array(place), (fix["latitude"], fix["longitude"]))
    return float(off_m @ np.linalg.inv(fix["covariance_m2"]) @ off_m)


def test_known_delays_give_the_known_place(fix):
    """Clean signals: 10 ns of the reader's times is 3 m, and three receivers' geometry at most triples it."""
    assert geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER) < 10
    assert mahalanobis_squared(fix, TRANSMITTER) < 0.01
    assert fix["receivers_used"] == sorted(PLACES)
    assert fix["receivers_refused"] == []
    assert (fix["located"], fix["reasons"]) == (True, [])
    assert {entry["name"]: entry["used"] for entry in fix["receivers"]} == dict.fromkeys(PLACES, True)
    assert fix["windows"] == {"length_s": 1.0, "in_common": 3, "used": 3}
    assert fix["sigma_us"] == 20.0


def test_sigma_scales_the_ellipse_and_not_the_place(three, stations, fix):
    """20 us against 5 us: noise and clocks are nanoseconds here, so every axis is a quarter."""
    sharper = locate_by_recordings(three, stations, sigma_us=5.0)
    for axis in ("semi_major_m", "semi_minor_m"):
        assert fix["ellipse_95"][axis] / sharper["ellipse_95"][axis] == pytest.approx(4, rel=0.02)
    # The ellipses' ratio: sqrt(ln 0.05 / ln 0.32).
    assert fix["ellipse_95"]["semi_major_m"] / fix["ellipse_68"]["semi_major_m"] == pytest.approx(1.6214, rel=1e-3)


def test_a_late_receiver_moves_the_place_within_what_sigma_says(folder, stations, three):
    """30 us late is 1.5 sigma: the place moves by kilometres, and the 95 % region still holds the truth."""
    late = (write(folder / "late", "DF0KL", late_s=30e-6), *three[1:])
    fix = locate_by_recordings(late, stations)
    assert geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER) > 2000
    assert mahalanobis_squared(fix, TRANSMITTER) < 5.99  # chi-square of two, 95 %


@pytest.mark.parametrize("hertz", [7_100_000, 145_500_000])
def test_waves_follow_the_ground_below_30_mhz_and_have_no_extra_spread_above(folder, stations, hertz):
    paths = tuple(write(folder / str(hertz), name, hertz=hertz) for name in PLACES)
    fix = locate_by_recordings(paths, stations)
    off_m = geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER)
    if hertz < 30e6:
        assert (fix["sigma_us"], off_m < 10) == (20.0, True)
    else:
        # Arcs of 550 km are d^3 / 24 R^2 = 170 m longer than the straight line that is now assumed.
        assert fix["sigma_us"] == 0.0
        assert 10 < off_m < 1000
        assert fix["ellipse_95"]["semi_major_m"] < 500


def test_a_steady_carrier_twenty_decibels_up_moves_nothing(folder, stations):
    """What the module says of carriers; 0.4 of full scale over 16 tones of 0.01 each."""
    paths = tuple(write(folder / "carrier", name, iq=lambda t: 0.4 + 0.2 * signal(t)) for name in PLACES)
    fix = locate_by_recordings(paths, stations)
    assert geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER) < 300  # 1 us


def test_another_station_beside_the_band_moves_nothing(folder, stations):
    """5 dB weaker, 5 kHz up, and sent from where the three hear it 1 ms apart: its delays are not the wanted ones'."""
    away_s = dict(zip(PLACES, (0.0, 1e-3, -1e-3), strict=True))

    def both(name):
        wanted_hz = np.array([-430.0, -260.0, -90.0, 35.0, 150.0, 280.0, 410.0])

        def iq(t):
            other = np.exp(2j * np.pi * 5000 * t) * np.sin(2 * np.pi * 40 * (t - away_s[name]) + np.sin(9 * t))
            return 0.05 * np.exp(2j * np.pi * t[:, None] * wanted_hz).sum(axis=1) + 0.1 * other

        return iq

    paths = tuple(write(folder / "beside", name, iq=both(name)) for name in PLACES)
    fix = locate_by_recordings(paths, stations)
    assert any("correlated: -" in note for note in fix["notes"])
    assert geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER) < 1000


def test_receivers_that_cannot_be_used_are_named_with_the_reason(folder, stations, three):
    def old(blocks):
        for block in blocks:
            block.age_s = 254
        return blocks

    unlocked = write(folder / "old", "TWR", edit=old)
    fix = locate_by_recordings((*three, unlocked), stations)
    (refused,) = fix["receivers_refused"]
    assert (refused["name"], "GPS" in refused["reason"]) == ("TWR", True)
    silent = write(folder / "silent", "TWR", iq=lambda t: np.zeros(len(t), complex))
    fix = locate_by_recordings((*three, silent), stations)
    assert fix["receivers_refused"] == [{"name": "TWR", "reason": "it recorded one value for most of its time"}]
    rng = np.random.default_rng(0)
    deaf = write(folder / "deaf", "TWR", iq=lambda t: 0.1 * rng.standard_normal((len(t), 2)) @ np.array([1, 1j]))
    fix = locate_by_recordings((*three, deaf), stations)
    (refused,) = fix["receivers_refused"]
    assert (refused["name"], "no correlation" in refused["reason"]) == ("TWR", True)
    assert geodesic_m((fix["latitude"], fix["longitude"]), TRANSMITTER) < 10
    for spoilt, kind in ((silent, "dead receivers"), (deaf, "no common signal"), (unlocked, "stale clocks")):
        fix = locate_by_recordings((*three[:2], spoilt), stations)
        assert (fix["located"], fix["best_guess"]) == (False, None)
        few, why = fix["reasons"]
        assert few == "too few receivers: 2 usable, 3 are needed"
        assert why.startswith(f"{kind}: TWR: ")
        assert fix["helps"]["station"]["name"] in {"TWR", "HB9RYZ"}


def test_a_bare_carrier_is_refused_for_its_bandwidth(folder, stations):
    paths = tuple(write(folder / "bare", name, iq=lambda t: 0.5 * np.exp(200j * np.pi * t)) for name in PLACES)
    fix = locate_by_recordings(paths, stations)
    assert fix["reasons"][0].startswith("too few receivers: 0 usable")
    assert fix["reasons"][1].startswith("no bandwidth: DF0KL: no clear peak")


def test_lags_and_gate_follow_from_geometry(three, stations):
    """F1JEK and HB9RYZ or DF0KL are farthest apart: Vincenty's geodesic over c, and 4 sigma of 20 us twice."""
    config = timing_config(read_kiwi(three, stations), 20e-6)
    farthest_m = max(geodesic_m(a, b) for a in PLACES.values() for b in PLACES.values())
    sought = config.max_lag - config.half_width
    assert sought == np.ceil((farthest_m / SPEED_OF_LIGHT_M_PER_S + 4 * np.hypot(20e-6, 20e-6)) * 12_000)
    falls_hz = np.sqrt(-2 * np.log(0.9)) / (2 * np.pi * sought / 12_000)
    assert config.min_bandwidth_hz == max(falls_hz, 40.0)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"stations": None}, DataError, r"_iq\.wav: got no place.*Give --stations FOLDER with DF0KL\.txt"),
        ({"stations": Path("nowhere")}, StorageError, "existing folder"),
        ({"recordings": ()}, ConfigError, "recordings: got none"),
        ({"clock_us": 0.0}, ConfigError, "--clock-us: got 0"),
        ({"frequency_hz": 0.0}, ConfigError, "--frequency-hz: got 0"),
        ({"start": "yesterday"}, DataError, "--start: got yesterday; allowed: a moment in UTC such as"),
        ({"tiles": "https://tiles.example/{z}/{x}/{y}.png"}, ConfigError, "--tiles: got no --map"),
        ({"map": Path(".")}, ConfigError, "--map: got the folder"),
        ({"recordings": (Path("a.mp3"),)}, ConfigError, r"a\.mp3: got \.mp3; allowed: \.wav, \.sigmf-meta"),
        ({"window": 0.01}, ConfigError, "--window: got 0.01 s"),
        ({"window": 60.0}, DataError, "within the time that all hold"),
        ({"sigma_us": -1.0}, ConfigError, "--sigma-us"),
        ({"sigma_us": float("nan")}, ConfigError, "--sigma-us"),
    ],
)
def test_what_is_wrong_is_said(three, stations, options, error, said):
    with pytest.raises(error, match=said):
        locate(LocateArguments(**({"recordings": three, "stations": stations} | options)))


def test_recordings_that_do_not_overlap_are_refused(folder, stations, three):
    later = write(folder / "later", "HB9RYZ", begin_s=100.0)
    with pytest.raises(DataError, match="within the time that all hold"):
        locate_by_recordings((*three[:2], later), stations)


def test_the_command_prints_words_or_one_json_object(three, stations, fix):
    command = [sys.executable, str(ROOT / "scripts" / "locate.py"), "--method", "tdoa", *map(str, three)]
    done = subprocess.run(
        [*command, "--stations", str(stations), "--json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    printed = json.loads(done.stdout)
    assert printed.keys() == KEYS
    assert printed["ellipse_95"].keys() == {"semi_major_m", "semi_minor_m", "azimuth_deg"}
    assert np.shape(printed["covariance_m2"]) == (2, 2)
    assert printed["latitude"] == pytest.approx(fix["latitude"], abs=1e-4)
    words, located = locate(LocateArguments(recordings=three, stations=stations))
    assert located
    assert "49.2000" in words.splitlines()[0]
    assert "3 of 3 used, 1 s each" in words
    failed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    "window_s", [1.0, *(pytest.param(length_s, marks=pytest.mark.slow) for length_s in (0.5, 2.0, 4.0))]
)
def test_dcf77_is_found(kiwi_folder, window_s):
    """The 95 % region holds it and is at most 40 km long, and it is at most the 10 km off that the project wants."""
    fix = locate_by_recordings(tuple(kiwi_folder.glob("*.wav")), kiwi_folder / "gnss_pos", window=window_s)
    assert mahalanobis_squared(fix, DCF77) < 5.99  # chi-square of two, 95 %
    assert fix["ellipse_95"]["semi_major_m"] <= 40_000
    assert len(fix["receivers_used"]) == 3
    assert geodesic_m((fix["latitude"], fix["longitude"]), DCF77) <= 10_000
