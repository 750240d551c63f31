"""Groups are never divided, fractions are met, and a data set's own test files are honoured."""

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.geodesy import degrees_to_local, ground_distance_m
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.splits import CHUNK_S, OTHER_BLOCKS, held_out, split


@dataclass(frozen=True)
class Row:
    session_id: str
    start_time_s: float
    truth_deg: tuple[float, float] | None


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Row(f"t{i}", 7.0 * i, (40.76 + 0.02 * float(rng.random()), -111.84 + 0.02 * float(rng.random())))
        for i in range(n)
    ]


@pytest.mark.parametrize(("spec", "n"), [("time", 789), ("block", 458), ("random", 702), ("none", 0)])
def test_powder_own_tests(powder_folder, spec, n):
    data = read_powder(powder_folder)
    parts = split(data, spec, folder=powder_folder)
    assert len(parts.test) == n
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everything.tolist()) == list(range(3833))
    assert len(parts.validation) / (3833 - n) == pytest.approx(0.15, abs=0.002)
    if spec != "none":
        file = powder_folder / "train_test_splits" / f"{spec}_split" / f"{spec}_test.json"
        names = {data[i].session_id for i in parts.test}
        assert names == set(json.loads(file.read_text()))
        assert split(data.sessions, str(file), folder=None).name == file.name
        by_file = held_out(data.sessions, spec, folder=powder_folder / "single_tx.csv")[0]
        np.testing.assert_array_equal(by_file, parts.test)


def test_powder_test_chunks_are_aligned_bins(powder_folder):
    """The authors' time test holds whole wall-clock bins of 5 minutes: none is on both sides."""
    data = read_powder(powder_folder)
    parts = split(data.sessions, "time", folder=powder_folder)
    bins = np.array([session.start_time_s // CHUNK_S for session in data.sessions])
    for a, b in [("train", "test"), ("train", "validation"), ("validation", "test")]:
        assert not set(bins[getattr(parts, a)]) & set(bins[getattr(parts, b)])


@given(n=st.integers(2, 400), spec=st.sampled_from(["random", "time", "block", "none"]), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_sides_are_disjoint_and_groups_whole(n, spec, seed):
    transmissions = rows(n, seed)
    try:
        parts = split(transmissions, spec, validation_seed=seed)
    except DataError as error:
        if "cannot be divided" not in str(error):
            raise
        return
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everything.tolist()) == list(range(n))
    assert len(parts.train) > 0
    assert len(parts.validation) > 0
    again = split(transmissions, spec, validation_seed=seed)
    np.testing.assert_array_equal(again.validation, parts.validation)
    if spec == "time":
        bins = np.array([row.start_time_s // 300 for row in transmissions])
        assert not set(bins[parts.train]) & set(bins[parts.validation])


def test_sources_without_an_overview_are_read():
    class Source:
        def __len__(self):
            return 20

        def __getitem__(self, index, /):
            return rows(20)[index]

        def __getitems__(self, indices, /):
            return [self[i] for i in indices]

    np.testing.assert_array_equal(split(Source(), "random").test, split(rows(20), "random").test)


def test_own_test_shares_and_notes():
    transmissions = rows(1000)
    for spec, share in [("random", 0.18), ("time", 0.2), ("block", 0.12)]:
        parts = split(transmissions, spec)
        assert len(parts.test) / 1000 == pytest.approx(share, abs=0.03)
        assert "brings no" in parts.notes[0]
        other = split(transmissions, spec, validation_seed=1)
        np.testing.assert_array_equal(other.test, parts.test)
        assert not np.array_equal(other.validation, parts.validation)


def test_own_block_is_one_piece_of_ground():
    transmissions = rows(1000)
    parts = split(transmissions, "block")
    truth = np.array([row.truth_deg for row in transmissions])
    # Cells nearest to one transmission lie in a disc: its radius by the disc's area, plus a cell's diagonal each way.
    centre = truth[parts.test].mean(axis=0)
    furthest = ground_distance_m(truth[parts.test], centre[None]).max()
    area_m2 = 2220 * 1684  # 0.02 degrees each way at 40.77 N
    assert furthest < np.sqrt(0.12 * area_m2 / np.pi) * 2 + 2 * 283  # in a corner the quarter disc has twice the radius


def places_m(transmissions):
    truth = np.array([row.truth_deg for row in transmissions])
    return degrees_to_local(truth, tuple(truth.mean(axis=0)))


def assert_other_blocks(transmissions, size, folder=None):
    """Four squares of `size` rows, apart from one another and from the test of `block`, that nothing moves."""
    place_m, ids = places_m(transmissions), [row.session_id for row in transmissions]
    tests = [held_out(transmissions, "block", folder=folder)[0]]
    for spec in OTHER_BLOCKS:
        parts = split(transmissions, spec, folder=folder)
        assert parts.name == spec
        tests.append(parts.test)
        everything = np.concatenate([parts.train, parts.validation, parts.test])
        assert sorted(everything.tolist()) == list(range(len(transmissions)))
        how = rf"held out {size} of {len(ids)} rows, the square of (\d+) m about '(.*?)', .*"
        note = re.fullmatch(how, *parts.notes)
        assert note
        apart_m = np.abs(place_m - place_m[ids.index(note[2])]).max(axis=1)
        furthest_m = apart_m[parts.test].max()
        assert furthest_m == pytest.approx(float(note[1]) / 2, abs=0.26)
        assert furthest_m <= apart_m[np.concatenate([parts.train, parts.validation])].min()
        cells = [set(map(tuple, np.floor(place_m[side] / 200))) for side in (parts.train, parts.validation)]
        assert not cells[0] & cells[1]
        other = split(transmissions, spec, folder=folder, validation_seed=1)
        np.testing.assert_array_equal(other.test, parts.test)
        assert not np.array_equal(other.validation, parts.validation)
    assert [len(test) for test in tests] == [size] * 5
    assert len(np.unique(np.concatenate(tests))) == 5 * size


@pytest.mark.parametrize("n", [100, 1000])
def test_other_blocks(n):
    transmissions = rows(n)
    assert_other_blocks(transmissions, len(held_out(transmissions, "block")[0]))


def test_other_blocks_of_powder_are_as_large_as_the_authors(powder_folder):
    assert_other_blocks(read_powder(powder_folder).sessions, 458, powder_folder)


def test_other_blocks_follow_the_own_block_file(tmp_path):
    file = tmp_path / "train_test_splits" / "block_split" / "block_test.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([f"t{i}" for i in range(7)]))
    assert_other_blocks(rows(200), 7, tmp_path)
    assert "(block: test of block_test.json)" in split(rows(200), "block3", folder=tmp_path).notes[0]


def test_other_blocks_that_do_not_fit(tmp_path):
    file = tmp_path / "train_test_splits" / "block_split" / "block_test.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(["t0", "t1", "t2"]))
    corners = [(0.0, 0.0), (0.0, 0.1), (0.1, 0.0), (0.1, 0.1)]  # three each: room for three squares beside the first
    transmissions = [Row(f"t{i}", float(i), corners[i // 3]) for i in range(12)]
    with pytest.raises(DataError, match=r"split block2: got room for 3 squares of 3 .* 12 rows; allowed: 4 .*block,"):
        split(transmissions, "block2", folder=tmp_path)
    transmissions += [Row(f"u{i}", 0.0, (0.2, 0.2)) for i in range(3)]
    assert len(split(transmissions, "block2", folder=tmp_path).test) == 3


def test_places_of_one_transmitter_stay_together():
    transmissions = [Row(f"s{i}", float(i), (45.0 + 0.1 * (i % 10), 7.0)) for i in range(200)]
    parts = split(transmissions, "none")
    sides = [{transmissions[i].truth_deg for i in side} for side in (parts.train, parts.validation)]
    assert not sides[0] & sides[1]


def test_limit_is_nested_and_leaves_validation():
    transmissions = rows(300)
    whole = split(transmissions, "random")
    few, more = (split(transmissions, "random", limit=n) for n in (20, 50))
    assert len(few.train) == 20
    assert set(few.train) < set(more.train) < set(whole.train)
    np.testing.assert_array_equal(few.validation, whole.validation)
    assert "training on 20 of" in few.notes[-1]
    assert split(transmissions, "random", limit=10_000).notes == whole.notes


@pytest.mark.parametrize("form", [list, dict.fromkeys])
def test_a_file_names_the_test(tmp_path, form):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(form(["t3", "t5", "elsewhere"])))
    parts = split(rows(300), str(file))
    assert parts.test.tolist() == [3, 5]
    assert parts.name == "mine.json"
    assert parts.notes == ("test of mine.json", "1 of its rows are not in the data")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (["elsewhere"], r"1 names, of which the data holds none.*'t0'"),
        ([1, 2], "JSON timestamps"),
        ("t3", "JSON timestamps"),
        ([f"t{i}" for i in range(300)], "training rows"),
    ],
)
def test_files_that_split_nothing(tmp_path, tree, message):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        split(rows(300), str(file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "tme"}, "Did you mean 'time'"),
        ({"spec": "absent.json"}, "Check the path"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"limit": 0}, "data.limit"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        split(rows(10), **{"spec": "random", **change})


def test_rows_that_cannot_be_split():
    with pytest.raises(DataError, match="'t1' twice"):
        split([*rows(3), rows(2)[1]], "random")
    one_chunk = [Row(f"t{i}", 10.0 + i, (45.0, 7.0)) for i in range(5)]
    with pytest.raises(DataError, match=r"time.*cannot be divided"):
        split(one_chunk, "time")
    with pytest.raises(DataError, match="'t0' without a place"):
        split([Row("t0", 0.0, None), *rows(3)[1:]], "none")
    with pytest.raises(DataError, match="no transmissions"):
        split([], "random")
