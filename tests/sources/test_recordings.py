"""Recordings are checked by their header, before a sample is read."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.sources.recordings import (
    RecordingMetadata,
    decode_iq,
    decode_metadata,
    encode_iq,
    encode_metadata,
    metadata_name,
    read_iq,
)

IQ = (np.arange(500) - 250j).astype(np.complex64)


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def test_round_trip(tmp_path):
    (tmp_path / "a.npy").write_bytes(encode_iq(IQ))
    np.testing.assert_array_equal(decode_iq(encode_iq(IQ), "a"), IQ)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), IQ)  # NumPy reads it as its own
    np.testing.assert_array_equal(read_iq(tmp_path / "a.npy", minimum_samples=500), IQ)
    mapped = read_iq(tmp_path / "a.npy", mmap=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, IQ)


@given(n=st.integers(1, 2000), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_any_length_and_cut(n, seed):
    rng = np.random.default_rng(seed)
    iq = (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(np.complex64)
    data = encode_iq(iq)
    np.testing.assert_array_equal(decode_iq(data, "a"), iq)
    with pytest.raises(DataError):
        decode_iq(data[: rng.integers(len(data))], "a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(IQ.real), r"dtype float32.*Real samples hold no IQ"),
        (saved(IQ.astype(np.complex128)), r"dtype complex128.*astype"),
        (saved(IQ.astype(">c8")), r"dtype >c8.*astype"),
        (saved(IQ.reshape(2, -1)), r"shape \(2, 250\).*one receiver"),
        (saved(IQ[:0]), "no samples"),
        (saved(np.array([{}]), allow_pickle=True), "dtype object"),
        (encode_iq(IQ)[:-1], "3999 bytes of samples for 500"),
        (encode_iq(IQ) + b"x", "4001 bytes of samples for 500"),
        (encode_iq(IQ)[:100], "no readable header"),
        (b"RIFF....", "no readable header"),
        (b"", "no readable header"),
    ],
)
def test_broken_recordings(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        decode_iq(data, "a")
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_iq(tmp_path / "a.npy")


def test_short_and_absent_files(tmp_path):
    (tmp_path / "a.npy").write_bytes(encode_iq(IQ))
    with pytest.raises(DataError, match=r"500 samples; allowed: 12000 or more.*longer"):
        read_iq(tmp_path / "a.npy", minimum_samples=12_000)
    with pytest.raises(StorageError, match="No such file"):
        read_iq(tmp_path / "b.npy")


@pytest.mark.parametrize(
    "metadata",
    [
        RecordingMetadata(),
        RecordingMetadata("s", 1_650_895_952_123_456_789, 12001.1234567, 5e-8, 145e6),
        RecordingMetadata(sample_rate_hz=12001.1),
    ],
)
def test_metadata_round_trip(metadata):
    assert decode_metadata(encode_metadata(metadata), "m") == metadata
    assert metadata_name("sessions/7/websdr_1.npy") == "sessions/7/websdr_1_metadata.json"


def test_the_start_of_a_recording():
    data = encode_iq(IQ)
    np.testing.assert_array_equal(decode_iq(data, "a", 100), IQ[:100])
    np.testing.assert_array_equal(decode_iq(data[: 256 + 800], "a", 100), IQ[:100])
    for cut, samples in [(data, 501), (data[:500], 100)]:
        with pytest.raises(DataError, match=f"allowed: {samples} or more"):
            decode_iq(cut, "a", samples)


def test_metadata_of_others():
    read = decode_metadata(b'{"sample_rate_hz": 12000, "antenna": "loop", "clock_sigma_s": null}', "m")
    assert read == RecordingMetadata(sample_rate_hz=12000.0)
    assert isinstance(read.sample_rate_hz, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "no JSON"),
        (b"[]", "got list"),
        (b'{"sample_rate_hz": "12 kHz"}', "m, sample_rate_hz: got '12 kHz'; allowed: a finite number"),
        (b'{"clock_sigma_s": NaN}', "clock_sigma_s: got nan"),
        (b'{"clock_sigma_s": -1}', "at least 0"),
        (b'{"start_time_ns": 1.5}', "start_time_ns"),
        (b'{"start_time_ns": true}', "start_time_ns"),
        (b'{"station_id": 5}', "allowed: text"),
    ],
)
def test_broken_metadata(data, message):
    with pytest.raises(DataError, match=message):
        decode_metadata(data, "m")
