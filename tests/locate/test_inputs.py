"""Recordings of every kind give one fix; what they leave out is supplied by a flag, or named with it."""

import json
import tarfile

import numpy as np
import pytest
from kiwi_like import write_places

from heimdall_jax.errors import ConfigError, DataError, HeimdallError, StorageError
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.find import find
from heimdall_jax.sources.described import read_described
from heimdall_jax.sources.kinds import Supplied, read_receptions
from heimdall_jax.sources.receptions import together
from heimdall_jax.sources.sigmf_write import write_collection
from tests.locate.made_up import PLACES, START, START_S, TRANSMITTER, transmission, write_npy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("made_up")


@pytest.fixture(scope="module")
def npy(folder):
    return write_npy(folder / "npy", transmission())


@pytest.fixture(scope="module")
def sigmf(folder):
    """The collection, and its recordings' metadata in the receivers' order."""
    files = write_collection(transmission(), folder / "sigmf")
    return folder / "sigmf" / "sigmf.sigmf-collection", tuple(files.values())


@pytest.fixture(scope="module")
def archive(folder, sigmf):
    """The first recording as one file."""
    path = folder / "first.sigmf"
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as tar:
        for suffix in (".sigmf-meta", ".sigmf-data"):
            part = sigmf[1][0].with_suffix(suffix)
            tar.add(part, f"first/{part.name}")
    return path


@pytest.fixture(scope="module")
def fix(npy):
    return find(LocateArguments(npy)).to_tree()


def test_a_place_comes_back_from_npy_and_json(fix):
    off_m = degrees_to_local(np.array((fix["latitude"], fix["longitude"])), TRANSMITTER)
    assert fix["located"]
    assert np.linalg.norm(off_m) < 10  # noise of 5 ns
    assert fix["receivers_used"] == sorted(PLACES)
    assert fix["sigma_us"] == 0.0
    assert 14.3 < fix["radius_68_m"] < 60  # 1.51 x 15 m x sqrt(2 / 5), were they all around


@pytest.mark.parametrize("kind", ["collection", "pairs", "data", "archive", "mixed", "with_json"])
def test_every_kind_gives_the_same_fix_to_the_bit(kind, npy, sigmf, archive, fix):
    collection, pairs = sigmf
    paths = {
        "collection": (collection,),
        "pairs": pairs,
        "data": tuple(path.with_suffix(suffix) for path in pairs for suffix in (".sigmf-data", ".sigmf-meta")),
        "archive": (archive, *pairs[1:]),
        "mixed": (*npy[:2], *pairs[2:]),
        "with_json": (*npy, *(path.with_suffix(".json") for path in npy)),
    }[kind]
    assert find(LocateArguments(paths)).to_tree() == fix


def test_recordings_that_began_apart_are_brought_to_one_time(folder):
    """Each its own tenths of a second late, one at twice the rate; the common time is interpolated."""
    begins = dict(zip(PLACES, (0.0, 0.1, 0.033_321, 0.25, 0.0), strict=True))
    paths = ()
    for name, begin_s in begins.items():
        session = transmission((name,), begin_s=begin_s, rate_hz=24_000.0 if name == "GE" else 12_000.0)
        start = f"2023-11-14T22:13:20.{round(begin_s * 1e9):09d}Z"
        paths += write_npy(folder / "apart", session, start=start)
    fix = find(LocateArguments(paths)).to_tree()
    off_m = degrees_to_local(np.array((fix["latitude"], fix["longitude"])), TRANSMITTER)
    assert fix["windows"]["length_s"] == pytest.approx(0.75, abs=1e-4)
    assert np.linalg.norm(off_m) < 15


MISSING = {
    "station": ({}, None),
    "altitude_m": ({}, None),
    "start": ({"start": START}, r"TO\.npy: got no start \(core:datetime\).*Give --start 2026-01-31T12:00:00Z"),
    "frequency_hz": ({"frequency_hz": 145e6}, r"TO\.npy: got no frequency_hz .*Give --frequency-hz HERTZ"),
    "clock_sigma_s": ({"clock_us": 0.05}, None),
}


@pytest.mark.parametrize("key", MISSING)
def test_what_a_json_leaves_out_is_assumed_or_asked_for(key, folder, fix):
    """Neither the names, nor what the flags say, differ from what the JSONs said."""
    paths = write_npy(folder / f"without_{key}", transmission(), **{key: None})
    flags, refusal = MISSING[key]
    if refusal:
        with pytest.raises(DataError, match=refusal):
            find(LocateArguments(paths))
    found = find(LocateArguments(paths, **flags)).to_tree()
    notes = fix["notes"]
    if key == "clock_sigma_s":
        notes = [f"{note}, assumed: nothing says it" if "clock sigma" in note else note for note in notes]
    assert found == fix | {"notes": notes}


def test_places_may_come_from_a_folder(folder, fix):
    paths = write_npy(folder / "nowhere", transmission(), latitude=None, longitude=None)
    with pytest.raises(DataError, match=r"TO\.npy: got no latitude, longitude .*--stations FOLDER with TO\.txt"):
        find(LocateArguments(paths))
    stations = write_places(folder / "places", PLACES | {"VA": (45.82, 8.83)})
    found = find(LocateArguments(paths, stations=stations)).to_tree()
    assert found["latitude"] == fix["latitude"]
    assert found["helps"]["station"]["name"] == "VA"


def test_the_fields_of_sigmf_are_named_with_their_file_and_flag(folder, sigmf):
    path = sigmf[1][0]
    bare = folder / "bare.sigmf-meta"
    tree = json.loads(path.read_text())
    tree["global"].pop("core:sha512", None)
    tree["global"].pop("core:collection", None)
    for field in ("core:datetime", "core:frequency", "core:geolocation"):
        tree["captures"][0].pop(field, None)
        tree["global"].pop(field, None)
    bare.write_text(json.dumps(tree))
    bare.with_suffix(".sigmf-data").write_bytes(path.with_suffix(".sigmf-data").read_bytes())
    for flags, said in (
        ({}, r"bare\.sigmf-meta: got no start \(core:datetime\).*--start"),
        ({"start_ns": START_S * 10**9}, r"bare\.sigmf-meta: got no frequency_hz \(core:frequency\).*--frequency-hz"),
        ({"start_ns": START_S * 10**9, "frequency_hz": 145e6}, r"no latitude, longitude \(core:geolocation\).*TO\.txt"),
    ):
        with pytest.raises(DataError, match=said):
            read_receptions([bare], Supplied(**flags))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"lattitude": 45.0}, ConfigError, r"TO\.json: lattitude.*Did you mean .*TO\.json: latitude\?"),
        ({"latitude": "north"}, ConfigError, r"TO\.json: latitude: got 'north'"),
        ({"latitude": 107.0, "longitude": 45.0}, DataError, "look swapped: latitude comes first"),
        ({"latitude": 400.0}, DataError, r"TO\.json: got \(400"),
        ({"latitude": 0.0, "longitude": 0.0}, DataError, r"TO\.json: got \(0, 0\)"),
        ({"longitude": None}, DataError, "got no longitude; allowed: both coordinates"),
        ({"sample_rate_hz": None}, DataError, "sample_rate_hz: got nothing; allowed: 1 to 1e"),
        ({"sample_rate_hz": -12e3}, DataError, "sample_rate_hz: got -12000"),
        ({"frequency_hz": 0.0}, DataError, "frequency_hz: got 0"),
        ({"clock_sigma_s": -1.0}, DataError, "clock_sigma_s: got -1"),
        ({"altitude_m": 1e9}, DataError, "altitude_m: got 1000000000"),
        ({"start": "2023-11-14 22:13"}, DataError, r"TO\.json, start: got 2023-11-14 22:13; allowed: a moment in UTC"),
        ({"station": " "}, DataError, "station: got ' '"),
    ],
)
def test_a_json_that_cannot_be_meant_is_refused(tmp_path, changes, error, said):
    paths = write_npy(tmp_path, transmission(("TO",)), **changes)
    with pytest.raises(error, match=said):
        read_described(paths[0])


def test_files_that_are_not_whole_are_refused(tmp_path):
    (path,) = write_npy(tmp_path, transmission(("TO",)))
    about = path.with_suffix(".json")
    text = about.read_text()
    about.write_text(text[:-5])
    with pytest.raises(DataError, match=r"TO\.json: got no JSON"):
        read_described(path)
    about.unlink()
    with pytest.raises(DataError, match=r"TO\.npy: got no TO\.json; allowed: one beside it\. Write TO\.json"):
        read_described(path)
    about.write_text(text)
    np.save(path, np.full(100, np.nan, np.complex64))
    with pytest.raises(DataError, match="NaN or infinity"):
        read_described(path)
    path.unlink()
    with pytest.raises(StorageError, match="No such file"):
        read_described(path)


def test_recordings_that_do_not_belong_together_are_told(tmp_path):
    one = write_npy(tmp_path / "one", transmission(("TO",)))
    again = write_npy(tmp_path / "again", transmission(("TO",)))
    fast = write_npy(tmp_path / "fast", transmission(("GE",), rate_hz=96_000.0))
    other = write_npy(tmp_path / "other", transmission(("GE",), hertz=433e6))
    for paths, said in (
        ((*one, *again), r"receivers \['TO', 'TO'\]; allowed: each once"),
        ((*one, *fast), "a sample rate of 96000 Hz; allowed: 3000 to 48000 Hz"),
        ((*one, *other), "TO 145000000 Hz"),
    ):
        receptions, _ = read_receptions(paths, Supplied())
        with pytest.raises(HeimdallError, match=said):
            together(receptions, sample_rate_hz=12_000.0)
