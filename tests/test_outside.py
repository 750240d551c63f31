"""What comes from outside has limits: bombs, lies and depths are refused before memory is asked for."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from heimdall_jax import outside
from heimdall_jax.errors import LONGEST, DataError, StorageError, explain
from heimdall_jax.outside import parse_json, parse_npz, parse_yaml, read_file
from heimdall_jax.sources import kiwi_wav, powder_tables
from heimdall_jax.sources.own_recordings import import_recordings
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.prepared import open_prepared
from tests.fuzz.recordings import wav_seeds
from tests.fuzz.runs import whole, write_set
from tests.fuzz.tables import own_folder
from tests.powder_like import write_powder_like


def test_files_that_are_none_or_large(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert read_file(tmp_path / "a", 3) == b"123"
    with pytest.raises(DataError, match="more than 2 bytes; allowed: 2 or fewer"):
        read_file(tmp_path / "a", 2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a pipe or device"):
        read_file(tmp_path / "pipe", 2)
    for name in ("absent", "", "a\0b", "a" * 300):
        with pytest.raises(StorageError, match="a readable file"):
            read_file(tmp_path / name, 2)


def test_json_within_limits_is_what_json_reads():
    characters = '["\\u00e9", "\\ud83d\\udce1"]'
    for text in ('{"a": [1, -2.5e3, null, true]}', characters, "[]", "3", '"x"', "[" * 60 + "]" * 60, "[-Infinity]"):
        assert parse_json(text) == json.loads(text)
    assert parse_json(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}
    assert parse_json("[1, 2]", each_object=dict) == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested deeper|Expecting"),
        ("[" * 70 + "]" * 70, "nested deeper than 64"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested deeper than 64"),
        ("9" * 5000, "an integer of 5000 digits, 30 are allowed"),
        ("[{},{},{},1]", "7 values in JSON, 6 are allowed"),
        (b"\xff", "invalid start byte"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        (b"1" * 101, "101 bytes of JSON, 100 are allowed"),
    ],
)
def test_json_beyond_limits_is_a_value_error(text, message):
    most = 100 if text == b"1" * 101 else outside.MAX_TEXT_BYTES
    with pytest.raises(ValueError, match=message):
        parse_json(text, most_values=6 if "{}" in str(text) else outside.MAX_VALUES, most_bytes=most)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "an alias in line 2"),
        ("a: &x {b: 1}\nc: {<<: *x}", "an alias in line 2"),
        ("a: !!python/object/apply:os.getcwd []", "the tag .*python.* in line 1"),
        ("a: !!bool x", "the tag"),
        ("a: 2026-13-45", "month must be in|day is out"),
        ("[" * 65 + "]" * 65, "nested deeper than 64"),
        ("? {a: 1}\n: b", "unhashable"),
        ("a" * (outside.MAX_YAML_BYTES + 1), "bytes of YAML"),
        ("a: [", "expected"),
    ],
)
def test_yaml_that_is_not_plain_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text.encode())
    assert parse_yaml(b"a: {b: [1, 2.5, null, x]}") == {"a": {"b": [1, 2.5, None, "x"]}}


def packed(content, **changes):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
        for name, value in changes.items():
            setattr(archive.infolist()[0], name, value)
    return stream.getvalue()


def test_archives_of_arrays_hold_what_they_say():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3)), "c": np.array(["x", "yé"])}
    stream, one = io.BytesIO(), io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    read = parse_npz(stream.getvalue(), 1 << 20)
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)
    np.save(one, np.zeros(1000))
    claimed = one.getvalue().replace(b"(1000,)", b"(9999,)")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}]), allow_pickle=True)
    for data, most, message in (
        (packed(one.getvalue()), 1000, "8128 bytes of arrays, 1000 are allowed"),
        (packed(claimed), 1 << 20, "8000 bytes of float64 for an array"),
        (packed(pickled.getvalue()), 1 << 20, "of object for an array"),
        (packed(bytes(50 << 20), file_size=200), 1 << 20, "no whole archive"),
        (b"PK\3\4", 1 << 20, "no whole archive"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_npz(data, most)


def test_small_files_cannot_ask_for_large_tables(tmp_path, monkeypatch):
    write_powder_like(tmp_path, rows=8)
    monkeypatch.setattr(powder_tables, "MAX_CELLS", 40)
    with pytest.raises(DataError, match="cells; allowed: 40 or fewer"):
        read_powder(tmp_path)
    monkeypatch.setattr(kiwi_wav, "MAX_BLOCKS", 3)
    with pytest.raises(DataError, match="more blocks; allowed: 3 or fewer"):
        kiwi_wav.parse_stamped(wav_seeds()[1], "a.wav")
    monkeypatch.setattr(kiwi_wav, "MAX_CHUNKS", 2)
    with pytest.raises(DataError, match="more than 2 chunks"):
        kiwi_wav.parse_stamped(wav_seeds()[1], "a.wav")


@pytest.mark.parametrize("file", ["../outside.npy", "/etc/passwd", "link.npy"])
def test_tables_name_files_in_their_own_folder_only(tmp_path, file):
    own, secret = tmp_path / "own", tmp_path / "outside.npy"
    own.mkdir()
    own_folder(own)
    (own / "hill.npy").rename(secret)
    (own / "link.npy").symlink_to(secret)
    table = own / "recordings.csv"
    table.write_text(table.read_text().replace("hill.npy", file))
    with pytest.raises(DataError, match="allowed: a path inside"):
        import_recordings(own, tmp_path / "out")


def test_a_prepared_set_names_no_other_code(tmp_path):
    import shutil

    shutil.copytree(whole(write_set), tmp_path / "set")
    (features,) = (tmp_path / "set").rglob("features.json")
    features.write_text(features.read_text().replace("features.tensor_feature.Tensor", "features.video_feature.Video"))
    with pytest.raises(DataError, match=r"features of the class '.*video_feature\.Video'"):
        open_prepared(tmp_path / "set")


def test_messages_are_one_printable_line():
    told = explain("a\x1b[2J", got="b\nc\u202ed\0", allowed=["é"], cure="D.")
    assert told == "a\\x1b[2J: got b c\\u202ed\\x00; allowed: ['é']. D."
    assert len(explain("a", got="b" * 10**6, allowed="c", cure="D.")) < LONGEST + 50
