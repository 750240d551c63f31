"""Real files where present, and a small data set in the same formats, written by hand."""

import json

import numpy as np
import pytest

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.sources.powder import read_powder

LOCATIONS = "{'north': (40.77, -111.84), 'south': (40.76, -111.84), 'east': (40.765, -111.83), 'bus': None,\n}\n"
HEADER = ["timestamp", "north", "bus_rss", "bus_x", "bus_y", "south", "east", "tx_x_coord", "tx_y_coord"]
ROWS = [
    ["2022-04-25 14:12:36", "-80.5", "-70", "40.7651", "-111.8421", "-101", "-91", "40.766", "-111.841"],
    ["2022-04-25 14:12:32", "-81", "-60", "0", "0", "-90", "-92", "40.7661", "-111.8411"],
    ["2022-04-25 14:12:40", "-82", "-101", "-1", "-1", "-90", "-93", "40.7662", "-111.8412"],
]
RECORDS = {
    "2022-04-25 14:12:36": {
        "rx_data": [
            [-91, 40.765, -111.83, "east"],
            [-70, 40.7651, -111.8421, "bus"],
            [-80.5, 40.77, -111.84, "north"],
        ],
        "tx_coords": [[40.766, -111.841]],
        "metadata": [{}],
    },
    "2022-04-25 14:12:32": {
        "rx_data": [
            [-60, 0.0, 0.0, "bus"],
            [-81, 40.77, -111.84, "north"],
            [-90, 40.76, -111.84, "south"],
            [-92, 40.765, -111.83, "east"],
        ],
        "tx_coords": [[40.7661, -111.8411]],
    },
    "2022-04-25 14:12:40": {
        "rx_data": [
            [-82, 40.77, -111.84, "north"],
            [-90, 40.76, -111.84, "south"],
            [-93, 40.765, -111.83, "east"],
        ],
        "tx_coords": [[40.7662, -111.8412]],
    },
}


def write(folder, rows=ROWS, header=HEADER, locations=LOCATIONS):
    (folder / "single_tx.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    (folder / "location_coordinates.json").write_text(locations)
    return folder


def write_json(folder, records=RECORDS, name="time_test.json"):
    (folder / name).write_text(json.dumps(records))
    return folder / name


def changed(column, value, row=0):
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


def assert_same(a, b):
    assert (a.session_id, a.start_time_s, a.receivers, a.truth_deg) == (
        b.session_id,
        b.start_time_s,
        b.receivers,
        b.truth_deg,
    )
    for name in ("receiver_deg_RE", "present_R", "heard_R", "rss_db_R"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_the_whole_data_set(powder_folder):
    data = read_powder(powder_folder)
    # Counts by a separate pass over the file with the csv module (see the numbers of the data set's description).
    assert len(data) == 3833
    assert len(data.receivers) == 40
    assert data.skipped == {"reading of a receiver at an impossible place, masked": 72}
    assert data.file.name == "single_tx.csv"
    assert "two_tx.csv" in data.notes[0]
    times = [session.start_time_s for session in data.sessions]
    assert times == sorted(times)
    heard = np.stack([session.heard_R for session in data.sessions])
    assert heard.sum(axis=1).min() == 9
    powers = np.concatenate([session.rss_db_R[session.heard_R] for session in data.sessions])
    np.testing.assert_allclose([powers.min(), powers.max()], [-99.67440737588548, -4.482360676500636], rtol=1e-6)


@pytest.mark.parametrize(("split", "count"), [("time", 789), ("block", 458), ("random", 702)])
def test_json_and_csv_of_one_transmission_agree(powder_folder, split, count):
    by_id = {session.session_id: session for session in read_powder(powder_folder).sessions}
    records = read_powder(powder_folder / "train_test_splits" / f"{split}_split" / f"{split}_test.json")
    assert len(records) == count
    for session in records.sessions:
        assert_same(session, by_id[session.session_id])


def test_values_and_masks_of_a_row(tmp_path):
    data = read_powder(write(tmp_path))
    assert data.receivers == ("bus", "east", "north", "south")
    assert [session.session_id[-2:] for session in data.sessions] == ["32", "36", "40"]
    np.testing.assert_allclose(data.origin_deg, (40.765, -111.8366666666667))  # mean of three by hand
    at_zero, heard, absent = data.sessions
    assert not at_zero.present_R[0]
    assert not at_zero.heard_R[0]
    assert heard.present_R.tolist() == [True, True, True, False]  # -101: mostly off, so it says nothing of the power
    assert heard.heard_R.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(heard.rss_db_R[:3], np.float32([-70, -91, -80.5]))
    np.testing.assert_array_equal(heard.receiver_deg_RE[0], [40.7651, -111.8421])
    assert absent.present_R.tolist() == absent.heard_R.tolist()
    assert heard.truth_deg == (40.766, -111.841)
    assert heard.start_time_s == 1650895956.0  # date -u -d '2022-04-25 14:12:36' +%s
    assert data.skipped == {"reading of a receiver at an impossible place, masked": 1}
    assert all(np.isfinite(s.rss_db_R).all() and np.isfinite(s.receiver_deg_RE).all() for s in data.sessions)


def test_small_json_equals_small_csv(tmp_path):
    csv, records = read_powder(write(tmp_path)), read_powder(write_json(tmp_path))
    for a, b in zip(csv.sessions, records.sessions, strict=True):
        assert_same(a, b)
    assert csv.skipped == records.skipped


def test_json_alone_knows_only_listed_receivers(tmp_path):
    data = read_powder(write_json(tmp_path, name="single_tx.json"), min_receivers=2)
    session = data.sessions[1]
    assert session.receivers == ("bus", "east", "north", "south")
    assert session.present_R.tolist() == [True, True, True, False]
    # Receivers that keep one place give the origin: all four, as the bus has one true place here.
    np.testing.assert_allclose(data.origin_deg[0], (40.77 + 40.76 + 40.765 + 40.7651) / 4)
    assert not data.sessions[0].heard_R[0]


def test_minus_infinity_is_not_heard(tmp_path):
    write(tmp_path)
    text = json.dumps(RECORDS).replace("-80.5", "-Infinity")
    (tmp_path / "records.json").write_text(text)
    session = read_powder(tmp_path / "records.json", min_receivers=1).sessions[1]
    assert not session.present_R[2]
    assert not session.heard_R[2]


def test_station_at_zero_is_masked_and_counted(tmp_path):
    data = read_powder(write(tmp_path, locations=LOCATIONS.replace("(40.77, -111.84)", "(0, 0)")), min_receivers=1)
    assert data.skipped["fixed receiver at (0, 0), masked everywhere"] == 1
    assert not any(session.present_R[2] for session in data.sessions)
    np.testing.assert_allclose(data.origin_deg, (40.7625, -111.835))


def test_few_receivers_and_far_transmitters_are_counted(tmp_path):
    rows = changed("tx_x_coord", "10.0")
    data = read_powder(write(tmp_path, rows), min_receivers=3)
    assert data.skipped["transmitter at an impossible place"] == 1
    assert len(data) == 2
    with pytest.raises(DataError, match=r"no usable row.*fewer than 5.*min_receivers"):
        read_powder(write(tmp_path), min_receivers=5)


def test_a_folder_names_what_it_reads(tmp_path):
    write(tmp_path)
    (tmp_path / "all_data").mkdir()
    write_json(tmp_path / "all_data", name="single_tx.json")
    data = read_powder(tmp_path)
    assert data.file.name == "single_tx.csv"
    assert "single_tx.json" in data.notes[0]
    (tmp_path / "single_tx.csv").rename(tmp_path / "mine.csv")
    (tmp_path / "all_data" / "single_tx.json").unlink()
    assert read_powder(tmp_path).file.name == "mine.csv"
    write_json(tmp_path, name="other.json")
    with pytest.raises(DataError, match=r"mine.csv, other.json.*single_tx"):
        read_powder(tmp_path)


def test_access_by_index(tmp_path):
    data = read_powder(write(tmp_path))
    assert data[1] is data.sessions[1]
    assert data.__getitems__([2, 0]) == [data.sessions[2], data.sessions[0]]


def test_empty_folder_and_absent_path(tmp_path):
    with pytest.raises(DataError, match="folder without recordings"):
        read_powder(tmp_path)
    with pytest.raises(StorageError, match="nothing at"):
        read_powder(tmp_path / "absent")
    (tmp_path / "single_tx.csv").write_text("a\n")
    with pytest.raises(DataError, match=r"no location_coordinates.json.*beside"):
        read_powder(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tx_x_coord", "tx_x_cord", r"no column 'tx_x_coord'.*Rename column 'tx_x_cord'"),
        ("south", "sout", r"no column 'south'.*'sout'.*remove the receiver"),
        ("bus_x", "bus_lat", r"no column 'bus_x'"),
        ("timestamp", "when", r"no column 'timestamp'"),
    ],
)
def test_missing_column(tmp_path, old, new, message):
    with pytest.raises(DataError, match=message):
        read_powder(write(tmp_path, header=[new if name == old else name for name in HEADER]))


def test_unknown_column(tmp_path):
    with pytest.raises(DataError, match=r"unknown column 'west'.*location_coordinates"):
        read_powder(write(tmp_path, [[*row, "-90"] for row in ROWS], [*HEADER, "west"]))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("north", "loud", r"row 2, column 'north': got 'loud'; allowed: numbers"),
        ("north", "", r"column 'north': got ''"),
        ("north", "nan", r"receiver north: got nan"),
        ("timestamp", "2022-04-25 14:12:32", r"'2022-04-25 14:12:32' 2 times"),
        ("timestamp", "noon", r"timestamp 'noon'; allowed: YYYY"),
        ("tx_x_coord", "-111.84", r"latitude in"),
    ],
)
def test_bad_cells(tmp_path, column, value, message):
    with pytest.raises(DataError, match=message):
        read_powder(write(tmp_path, changed(column, value)))


def test_swapped_transmitter(tmp_path):
    rows = [[*row[:-2], row[-1], row[-2]] for row in ROWS]
    with pytest.raises(DataError, match="look swapped"):
        read_powder(write(tmp_path, rows))


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        (LOCATIONS[:40], "cut off"),
        ("__import__('os').getcwd()", "no Python literal"),
        ("[1, 2]", "got list"),
        (LOCATIONS.replace("40.77, -111.84", "-111.84, 40.77"), "receiver north.*look swapped"),
        (LOCATIONS.replace("40.77, -111.84", "140.77, -211.84"), "Correct the place"),
        (LOCATIONS.replace("(40.77, -111.84)", "'hill'"), "receiver north.*two numbers"),
    ],
)
def test_bad_locations(tmp_path, locations, message):
    with pytest.raises(DataError, match=message):
        read_powder(write(tmp_path, locations=locations))


def test_truncated_csv_and_no_rows(tmp_path):
    write(tmp_path)
    file = tmp_path / "single_tx.csv"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(DataError, match="cut off"):
        read_powder(tmp_path)
    with pytest.raises(DataError, match="no rows"):
        read_powder(write(tmp_path, rows=[]))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_powder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(RECORDS)[:-50], "cut off"),
        ("[1]", "records with rx_data"),
        ('{"a": {"rx_data": [[1, 2, 3]], "tx_coords": [[1, 2]]}}', "numbers"),
        ('{"a": {"rx_data": [[null, 2, 3, "n"]], "tx_coords": [[1, 2]]}}', "numbers"),
        ('{"a": {"rx_data": [[1, 2, 3, "n"], [1, 2, 3, "n"]], "tx_coords": [[1, 2]]}}', "'n' twice"),
        ('{"a": {"rx_data": [], "tx_coords": [["x", 2]]}}', "transmitter of record 'a'"),
        ('{"a": {"rx_data": []}, "a": {"rx_data": []}}', "key 'a' twice"),
        ('{"a": {"rx_data": [], "tx_coords": [[1, 2]]}}', "no place at all"),
    ],
)
def test_bad_json(tmp_path, text, message):
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_powder(tmp_path / "records.json")
