"""SigMF recordings: every layout comes back as the samples that were written, and what lies is refused."""

import hashlib
import json
import tarfile

import numpy as np
import pytest

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.sources.sigmf import decode_archive, read_sigmf
from tests.fuzz.sigmf_files import FIRST, IQ_T2, archive, metadata


def written(folder, meta, data):
    (folder / "a.sigmf-meta").write_bytes(meta)
    (folder / "a.sigmf-data").write_bytes(data)
    return folder / "a.sigmf-meta"


def test_a_recording_says_when_and_where_it_was_made(tmp_path):
    read = read_sigmf(written(tmp_path, metadata(), IQ_T2.tobytes()))
    np.testing.assert_array_equal(read.iq_T, (IQ_T2[:, 0] + 1j * IQ_T2[:, 1]) / 32768)
    assert read.sample_rate_hz == 12000.5
    assert read.start_ns == 1_772_366_400_123_456_789  # date -u -d 2026-03-01T12:00:00Z +%s
    assert read.frequency_hz == 145e6
    assert read.place == (45.07, 7.69, 250.0)


@pytest.mark.parametrize(
    ("datatype", "parts", "value"),
    [
        ("cf32_le", np.array([0.5, -0.25], "<f4"), 0.5 - 0.25j),
        ("cf32_be", np.array([0.5, -0.25], ">f4"), 0.5 - 0.25j),
        ("cf64_le", np.array([0.5, -0.25], "<f8"), 0.5 - 0.25j),
        ("ci32_le", np.array([1 << 30, -(1 << 29)], "<i4"), 0.5 - 0.25j),
        ("ci16_be", np.array([16384, -8192], ">i2"), 0.5 - 0.25j),
        ("cu16_le", np.array([49152, 24576], "<u2"), 0.5 - 0.25j),
        ("ci8", np.array([64, -32], "i1"), 0.5 - 0.25j),
        ("cu8", np.array([192, 96], "u1"), 0.5 - 0.25j),
    ],
)
def test_every_datatype_has_full_scale_one(tmp_path, datatype, parts, value):
    read = read_sigmf(written(tmp_path, metadata({"core:datatype": datatype}), np.tile(parts, 3).tobytes()))
    np.testing.assert_array_equal(read.iq_T, np.full(3, value, np.complex64))


def test_headers_trailers_and_later_captures_are_no_samples_of_the_first(tmp_path):
    captures = [FIRST | {"core:header_bytes": 6}, FIRST | {"core:sample_start": 12, "core:header_bytes": 2}]
    data = b"header" + IQ_T2[:12].tobytes() + b"zz" + IQ_T2[12:].tobytes() + b"end"
    read = read_sigmf(written(tmp_path, metadata({"core:trailing_bytes": 3}, captures), data))
    np.testing.assert_array_equal(read.iq_T, (IQ_T2[:12, 0] + 1j * IQ_T2[:12, 1]) / 32768)


def test_an_archive_is_its_pair(tmp_path):
    members = {"a/a.sigmf-meta": metadata(), "a/a.sigmf-data": IQ_T2.tobytes()}
    (tmp_path / "a.sigmf").write_bytes(archive(members))
    one, other = read_sigmf(tmp_path / "a.sigmf"), read_sigmf(written(tmp_path, metadata(), IQ_T2.tobytes()))
    np.testing.assert_array_equal(one.iq_T, other.iq_T)
    assert (one.start_ns, one.place) == (other.start_ns, other.place)


def test_what_is_not_said_is_none_and_another_name_is_followed(tmp_path):
    (tmp_path / "raw.bin").write_bytes(IQ_T2.tobytes())
    (tmp_path / "a.sigmf-meta").write_bytes(metadata({"core:dataset": "raw.bin"}, []))
    read = read_sigmf(tmp_path / "a.sigmf-meta")
    assert (read.start_ns, read.frequency_hz, read.place, len(read.iq_T)) == (None, None, None, 20)


@pytest.mark.parametrize(
    ("about", "captures", "message"),
    [
        ({"core:datatype": "rf32_le"}, None, "rf32_le in 1 channels; .*real samples hold no IQ"),
        ({"core:datatype": "cf32"}, None, "allowed: complex samples"),
        ({"core:num_channels": 2}, None, "in 2 channels"),
        ({"core:sample_rate": None}, None, "schema"),
        ({"core:sample_rate": 1e300}, None, "core:sample_rate: got 1e\\+300|maximum"),
        ({"core:sha512": "0" * 128}, None, "another core:sha512"),
        ({"core:metadata_only": True}, None, "metadata alone"),
        ({"core:dataset": "x/../../y"}, None, "core:dataset: got .*a file's name alone|schema"),
        ({"core:trailing_bytes": 81}, None, "80 bytes, 81 of them no samples"),
        ({"core:datatype": "cf64_le"}, [FIRST | {"core:sample_start": 5}], "captures from \\[5\\]"),
        ((), [FIRST | {"core:header_bytes": 2}], "whole samples of 4 bytes"),
        ((), [FIRST | {"core:datetime": "2026-03-01T25:00:00Z"}], "core:datetime|schema"),
        ((), [FIRST | {"core:geolocation": {"type": "Point", "coordinates": [45.07, 107.69]}}], "look swapped|schema"),
        ((), [FIRST | {"core:geolocation": {"type": "Point", "coordinates": [0, 0]}}], r"got \(0.0, 0.0\)"),
    ],
)
def test_metadata_that_lies_is_refused(tmp_path, about, captures, message):
    with pytest.raises(DataError, match=message):
        read_sigmf(written(tmp_path, metadata(about, captures), IQ_T2.tobytes()))


def test_a_hash_that_fits_is_no_error(tmp_path):
    digest = hashlib.sha512(IQ_T2.tobytes()).hexdigest()
    assert len(read_sigmf(written(tmp_path, metadata({"core:sha512": digest}), IQ_T2.tobytes())).iq_T) == 20


def strange(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive({"../a.sigmf-meta": metadata()}), "a path that climbs"),
        (archive({"/a.sigmf-meta": metadata()}), "a path that climbs"),
        (archive({}, strange("a.sigmf-meta", tarfile.SYMTYPE, "/etc/passwd")), "a link or device"),
        (archive({}, strange("a.sigmf-data", tarfile.LNKTYPE, "b")), "a link or device"),
        (archive({}, strange("a", tarfile.CHRTYPE)), "a link or device"),
        (archive({f"{i}": b"" for i in range(65)}), "member 65"),
        (archive({"a.sigmf-meta": metadata(), "b.sigmf-meta": metadata()}), "2 recordings"),
        (archive({"a.sigmf-meta": metadata()}), "no a.sigmf-data"),
        (archive({"a.sigmf-data": IQ_T2.tobytes()}), "0 recordings"),
        (b"\x1f\x8b\x08" + bytes(600), "no tar archive"),
        (archive({"a.sigmf-data": bytes(5000)})[:1024], "5000 bytes|no tar archive"),
    ],
)
def test_archives_that_attack_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        decode_archive(data, "a.sigmf")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        read_sigmf(tmp_path / "a.sigmf-meta")
    with pytest.raises(DataError, match=r"allowed: \.sigmf-meta"):
        read_sigmf(tmp_path / "a.wav")
    nan = json.loads(metadata())
    nan["global"]["core:datatype"] = "cf32_le"
    with pytest.raises(DataError, match="NaN or infinity"):
        read_sigmf(written(tmp_path, json.dumps(nan).encode(), np.full(4, np.nan, "<f4").tobytes()))
