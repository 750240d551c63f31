"""The format is checked byte by byte: what lies about itself is an error that says so."""

import struct

import numpy as np
import pytest
from kiwi_like import NAMED_S, signal, write_kiwi_like

from heimdall_jax.errors import DataError
from heimdall_jax.sources import kiwi_wav
from heimdall_jax.sources.kiwi_wav import parse_name, parse_stamped, read_stamped

BLOCK = 2074
"""Bytes of a kiwi chunk (8 + 10) and a data chunk (8 + 2048)."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_kiwi_like(tmp_path_factory.mktemp("kiwi"), seconds=1.0).read_bytes()


def sized(data):
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def replaced(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def test_samples_and_stamps(whole):
    recording = parse_stamped(whole, "a")
    assert recording.nominal_rate_hz == 12001.0
    assert recording.iq_T2.shape == (24 * 512, 2)  # 12001 samples begin 24 blocks
    np.testing.assert_array_equal(recording.first_sample_N, np.arange(24) * 512)
    # 124934 s is what the real recording of this name says about 10:41:56 UTC: a Monday, plus 18 s.
    assert set(recording.stamp_s_N[1:].tolist()) == {124_934, 124_935}
    assert recording.stamp_s_N[0] == 124_634
    assert recording.stamp_ns_N[1] == int((0.25 + 512 / 12001.1) * 1e9)
    assert set(recording.age_s_N.tolist()) == {2}
    wanted = signal(0.25 + np.arange(24 * 512) / 12001.1) * 32768
    np.testing.assert_allclose(recording.iq_T2[:, 0] + 1j * recording.iq_T2[:, 1], wanted, atol=0.8)


def test_other_chunks_are_passed_over(whole):
    strange = b"LIST" + struct.pack("<I", 5) + b"hello\0"  # padded to an even length
    data = sized(whole[:36] + strange + whole[36:] + strange)
    np.testing.assert_array_equal(parse_stamped(data, "a").iq_T2, parse_stamped(whole, "a").iq_T2)


FORMAT = "format 1, 2 channels of 16 bits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "RIFF....WAVE"),
        (lambda d: d[:11], "RIFF....WAVE"),
        (lambda d: b"OggS" + d[4:], "RIFF....WAVE"),
        (lambda d: d[:-1], r"got 49811 bytes where the header says 49812; .*cut off"),
        (lambda d: d + b"\0", "the same"),
        (lambda d: replaced(d, 4, b"\xff\xff\xff\xff"), "header says 4294967303"),
        (lambda d: sized(d[:-1]), r"chunk b'data' of 2048 bytes at byte .* with 2047 left"),
        (lambda d: sized(d[: -BLOCK + 5]), "chunk b'kiwi.{1,2}' of 0 bytes"),
        (lambda d: sized(d[: -BLOCK + 18]), "after its last stamp"),
        (lambda d: replaced(d, 58, b"\xff\xff\xff\x7f"), "of 2147483647 bytes"),
        (lambda d: replaced(d, 58, struct.pack("<I", 2046)), "2046 bytes; allowed: whole samples"),
        (lambda d: replaced(d, 16, struct.pack("<I", 14)), FORMAT),
        (lambda d: replaced(d, 20, b"\x03"), f"format 3, 2 channels.*allowed: {FORMAT}"),
        (lambda d: replaced(d, 22, b"\x01"), f"1 channels of 16 bits.*{FORMAT}"),
        (lambda d: replaced(d, 34, b"\x08"), f"2 channels of 8 bits.*{FORMAT}"),
        (lambda d: replaced(d, 32, b"\x02"), f"2 bytes a sample.*{FORMAT}"),
        (lambda d: replaced(d, 24, b"\0\0\0\0"), "got 0 Hz; allowed: 1000 to 200000 Hz"),
        (lambda d: sized(d[:36]), "got no samples;"),
        (lambda d: sized(d[:12] + d[36:]), "samples before the format"),
        (lambda d: sized(d[:36] + d[54:]), "a data chunk without a kiwi chunk"),
        (lambda d: sized(d[:54] + d[36:]), "two kiwi chunks for one data chunk"),
        (lambda d: sized(d[:40] + struct.pack("<I", 12) + d[44:54] + b"\0\0" + d[54:]), "a kiwi chunk of 12 bytes"),
        (lambda d: sized(d[:58] + struct.pack("<I", 0) + d[62 + 2048 :]), "a data chunk of 0 bytes"),
    ],
)
def test_files_that_lie(whole, change, message):
    with pytest.raises(DataError, match=message):
        parse_stamped(change(whole), "a")


def test_large_files_are_not_read(tmp_path, whole, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(whole)
    assert len(read_stamped(path).iq_T2) == 24 * 512
    monkeypatch.setattr(kiwi_wav, "MAX_BYTES", 49_811)
    with pytest.raises(DataError, match=r"more than 49811 bytes; allowed: 49811 or fewer.*shorter parts"):
        read_stamped(path)


def test_names():
    name = parse_name("some/20171127T104156Z_77500_F1JEK-P_x_iq.wav")
    assert (name.start_s, name.frequency_hz, name.station) == (NAMED_S, 77_500.0, "F1JEK-P_x")


@pytest.mark.parametrize(
    "name",
    ["a.wav", "20171127T104156Z_30000_iq.wav", "20171327T104156Z_77500_A_iq.wav", "20171127T104156Z_77500_A_usb.wav"],
)
def test_other_names_are_refused(name):
    with pytest.raises(DataError, match=r"allowed: YYYYMMDDTHHMMSSZ_HERTZ_STATION_iq.wav.*as kiwirecorder does"):
        parse_name(name)
