"""Two CSV files and a folder of .npy become a catalogue that trains."""

import numpy as np
import pytest

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources.catalogue import open_catalogue
from heimdall_jax.sources.own_recordings import import_recordings

STATIONS = "name,latitude,longitude,altitude_m\nhill,45.0,7.0,600\nroof,45.1,7.1,\nyard,45.0,7.2,250\n"
HEADER = "session,start,latitude,longitude,frequency_hz,station,file,sample_rate_hz,error_margin_m,rss_db,snr_db"
CARRIER = np.exp(0.3j * np.arange(600))
PLACES = {"a": "45.05,7.05", "b": "45.06,7.15"}


def row(session, station, **changes):
    values = {
        "session": session,
        "start": "2026-03-01T13:00:00+01:00" if session == "a" else "2026-03-01T12:05:00Z",
        "place": PLACES[session],
        "frequency_hz": "145.3e6",
        "station": station,
        "file": f"iq/{station}.npy",
        "sample_rate_hz": "12000",
        "error_margin_m": "10",
        "rss_db": "",
        "snr_db": "12.5",
    }
    return ",".join({**values, **changes}.values())


def write(folder, rows=None, stations=STATIONS, header=HEADER):
    (folder / "iq").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("hill", "roof", "yard")):
        np.save(folder / "iq" / f"{name}.npy", (0.1 * (number + 1) * CARRIER).astype(np.complex64))
    (folder / "stations.csv").write_text(stations)
    rows = rows or [row(session, station) for session in "ab" for station in ("hill", "roof", "yard")]
    (folder / "recordings.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_recordings_become_sessions(tmp_path):
    assert import_recordings(write(tmp_path / "mine"), tmp_path / "out") == 2
    source = open_catalogue(tmp_path / "out")
    assert source.skipped == {}
    assert [session.truth_deg for session in source.transmissions] == [(45.05, 7.05), (45.06, 7.15)]
    session = source[0]
    assert session.receivers == ("hill", "roof", "yard")
    assert session.start_time_s == 1772366400.0  # date -u -d '2026-03-01 12:00:00' +%s
    # Constant amplitude a has power a^2: 20 log10(a) dB.
    np.testing.assert_allclose(session.rss_db_R, [-20.0, 20 * np.log10(0.2), 20 * np.log10(0.3)], rtol=1e-5)
    np.testing.assert_array_equal(session.iq_RT[1], (0.2 * CARRIER).astype(np.complex64))
    assert session.truth_error_m == pytest.approx(10 / 2.4477, rel=1e-4)
    with pytest.raises(ConfigError, match="already"):
        import_recordings(tmp_path / "mine", tmp_path / "out")


def test_given_power_counts(tmp_path):
    rows = [row("a", station, rss_db="-77.5") for station in ("hill", "roof", "yard")]
    import_recordings(write(tmp_path / "mine", rows), tmp_path / "out")
    np.testing.assert_array_equal(open_catalogue(tmp_path / "out")[0].rss_db_R, np.float32([-77.5] * 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"station": "hil"}, r"Did you mean 'hill'"),
        ({"station": "elsewhere"}, r"Add it to stations.csv"),
        ({"start": "2026-03-01T12:00:00"}, r"start: got \['2026-03-01T12:00:00', .*same in all rows"),
        ({"sample_rate_hz": "fast"}, "sample_rate_hz"),
        ({"rss_db": "loud"}, r"column rss_db: got 'loud'"),
        ({"snr_db": "nan"}, r"column snr_db: got 'nan'"),
        ({"station": "roof"}, "each once"),
        ({"rss_db": "1,2"}, "12 cells in row 2 for 11 columns"),
    ],
)
def test_bad_rows_write_nothing(tmp_path, changes, message):
    rows = [row("a", **{"station": "hill", **changes}), row("a", "roof"), row("a", "yard")]
    with pytest.raises(DataError, match=message):
        import_recordings(write(tmp_path / "mine", rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "noon"}, "2026-01-31T12:00:00Z"),
        ({"start": "2026-03-01T12:00:00"}, "Append Z"),
        ({"place": "145.05,7.05"}, r"session 'a': got \(145.05, 7.05\).*look swapped"),
        ({"sample_rate_hz": "0"}, r"sample_rate_hz: got 0; allowed: 1 to 1e\+09"),
        ({"error_margin_m": "-3"}, "error_margin_m"),
    ],
)
def test_bad_sessions(tmp_path, changes, message):
    rows = [row("a", station, **changes) for station in ("hill", "roof", "yard")]
    with pytest.raises(DataError, match=message):
        import_recordings(write(tmp_path / "mine", rows), tmp_path / "out")


def test_bad_files(tmp_path):
    folder = write(tmp_path)
    np.save(folder / "iq" / "roof.npy", np.zeros(600, np.complex64))
    with pytest.raises(DataError, match=r"mean power 0.0.*not all zero"):
        import_recordings(folder, tmp_path / "out")
    np.save(folder / "iq" / "roof.npy", np.zeros(600, np.float32))
    with pytest.raises(DataError, match="Real samples"):
        import_recordings(folder, tmp_path / "out")
    (folder / "iq" / "roof.npy").unlink()
    with pytest.raises(StorageError, match="No such file"):
        import_recordings(folder, tmp_path / "out")
    with pytest.raises(DataError, match="no rows"):
        import_recordings(write(tmp_path, [""]), tmp_path / "out")
    with pytest.raises(DataError, match=r"no column 'file'.*Rename column 'fil'"):
        import_recordings(write(tmp_path, header=HEADER.replace("file", "fil")), tmp_path / "out")
    with pytest.raises(DataError, match=r"station 'hill'.*its place"):
        import_recordings(write(tmp_path, stations=STATIONS.replace("45.0,7.0,", "0,0,")), tmp_path / "out")
    (folder / "stations.csv").unlink()
    with pytest.raises(StorageError, match=r"stations.csv.*No such file"):
        import_recordings(folder, tmp_path / "out")
