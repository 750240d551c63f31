"""Recordings of two transmitters and of none: real files where present, and made-up ones in the same formats."""

import json

import numpy as np
import pytest
from powder_like import FIXED_M, ORIGIN, write_no_tx_like, write_powder_like, write_two_tx_like

from heimdall_jax.errors import DataError
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.sources.powder import file_with, read_powder


@pytest.fixture
def folder(tmp_path):
    return write_no_tx_like(write_two_tx_like(write_powder_like(tmp_path, rows=10), rows=6), rows=4)


# Counts by a separate pass over the files with the csv and json modules: rows, and readings that are neither -101 nor
# at (0, 0) or (-1, -1).
@pytest.mark.parametrize(
    ("transmitters", "count", "file", "first", "heard"),
    [
        (0, 46, "no_tx.json", "2022-04-25 13:36:44", 791),
        (1, 3833, "single_tx.csv", "2022-04-25 14:12:32", 80459),
        (2, 346, "two_tx.csv", "2022-04-25 14:11:02", 3964),
    ],
)
def test_the_whole_data_set(powder_folder, transmitters, count, file, first, heard):
    data = read_powder(powder_folder, transmitters=transmitters)
    assert len(data) == count
    assert data.file.name == file
    assert data.sessions[0].session_id == first
    assert data.places_deg_NXE.shape == (count, transmitters, 2)
    assert data.receivers == read_powder(powder_folder).receivers
    assert data.origin_deg == read_powder(powder_folder).origin_deg
    assert sum(int(session.heard_R.sum()) for session in data.sessions) == heard


def test_places_of_the_real_first_row(powder_folder):
    two = read_powder(powder_folder, transmitters=2)
    # As the file's first row has them.
    np.testing.assert_array_equal(two.places_deg_NXE[0], [[40.76778075, -111.84686963], [40.76935595, -111.84657217]])


@pytest.mark.parametrize("name", ["two_tx.csv", "all_data/no_tx.json"])
def test_real_files_of_another_count_are_named(powder_folder, name):
    with pytest.raises(DataError, match=r"exactly one transmitter.*single_tx"):
        read_powder(powder_folder / name)


def test_two_places_and_powers_of_a_row(folder):
    data = read_powder(folder, transmitters=2)
    assert len(data) == 6
    assert data.notes[0] == "read two_tx.csv, not all_data/no_tx.json, single_tx.csv"
    assert {session.truth_deg for session in data.sessions} == {None}
    session, places_deg = data.sessions[0], data.places_deg_NXE[0]
    place_m = degrees_to_local(places_deg, ORIGIN)
    distance_m = np.linalg.norm(FIXED_M - place_m[:, None], axis=-1)
    # The law by which the file was made: powers add as watts, with 1 dB of scatter.
    expected_db = 10 * np.log10((10 ** ((-30 - 30 * np.log10(distance_m / 10)) / 10)).sum(axis=0))
    heard = np.array(session.receivers) != "bus-1"
    np.testing.assert_array_equal(session.heard_R, heard)
    np.testing.assert_allclose(session.rss_db_R[heard], expected_db, atol=4.0)


def test_places_follow_their_rows_in_the_order_of_time(folder):
    file = folder / "two_tx.csv"
    before = read_powder(file, transmitters=2)
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(rows)]) + "\n")
    after = read_powder(file, transmitters=2)
    assert [session.session_id for session in after.sessions] == [session.session_id for session in before.sessions]
    np.testing.assert_array_equal(after.places_deg_NXE, before.places_deg_NXE)


def test_noise_alone_has_no_place(folder):
    data = read_powder(folder, transmitters=0)
    assert len(data) == 4
    assert data.places_deg_NXE.shape == (4, 0, 2)
    assert {session.truth_deg for session in data.sessions} == {None}
    assert all(session.heard_R.sum() == 5 for session in data.sessions)


def test_an_empty_list_of_transmitters_is_none_and_two_in_json_are_two(folder):
    records = json.loads((folder / "all_data" / "no_tx.json").read_text())
    for record in records.values():
        record["tx_coords"] = []
    (folder / "none.json").write_text(json.dumps(records))
    assert len(read_powder(folder / "none.json", transmitters=0)) == 4
    for record in records.values():
        record["tx_coords"] = [[40.77, -111.85], [40.76, -111.84]]
    (folder / "two.json").write_text(json.dumps(records))
    two = read_powder(folder / "two.json", transmitters=2)
    np.testing.assert_array_equal(two.places_deg_NXE[3], [[40.77, -111.85], [40.76, -111.84]])


@pytest.mark.parametrize(
    ("name", "transmitters", "message"),
    [
        ("single_tx.csv", 2, r"one transmitter; allowed: exactly two transmitters.*two_tx.csv"),
        ("single_tx.csv", 0, r"one transmitter; allowed: exactly no transmitter.*no_tx.csv or .json"),
        ("two_tx.csv", 1, r"two transmitters; allowed: exactly one transmitter.*single_tx"),
        ("all_data/no_tx.json", 2, r"no transmitters in record.*two_tx.csv"),
        ("single_tx.csv", 3, r"transmitters at once: got 3; allowed: \[0, 1, 2\]"),
    ],
)
def test_another_count_is_an_error(folder, name, transmitters, message):
    with pytest.raises(DataError, match=message):
        read_powder(folder / name, transmitters=transmitters)


def test_a_folder_without_the_file_names_it(tmp_path):
    write_no_tx_like(tmp_path, rows=2)
    (tmp_path / "all_data" / "no_tx.json").unlink()
    with pytest.raises(DataError, match=r"without recordings; allowed: two_tx.csv"):
        read_powder(tmp_path, transmitters=2)


def test_a_missing_or_far_second_place(folder):
    file = folder / "two_tx.csv"
    text = file.read_text()
    file.write_text(text.replace("tx_2_y_coord", "tx_2_y_cord"))
    with pytest.raises(DataError, match=r"no column 'tx_2_y_coord'.*Rename column 'tx_2_y_cord'"):
        read_powder(file, transmitters=2)
    header, first, *rest = text.splitlines()
    file.write_text("\n".join([header, ",".join([*first.split(",")[:-2], "10.0", "-111.84"]), *rest]) + "\n")
    data = read_powder(file, transmitters=2)
    assert len(data) == 5
    assert data.skipped == {"transmitter at an impossible place": 1}


def test_files_of_other_counts_are_found_beside_the_folder_or_file_that_is_read(folder, tmp_path_factory):
    for path in (folder, folder / "single_tx.csv", folder / "all_data" / "no_tx.json"):
        found = [file_with(path, transmitters) for transmitters in (0, 1, 2)]
        assert found == [folder / "all_data" / "no_tx.json", folder / "single_tx.csv", folder / "two_tx.csv"]
    assert file_with(tmp_path_factory.mktemp("empty"), 2) is None
