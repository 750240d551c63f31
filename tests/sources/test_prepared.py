"""Sessions come back from prepared sets as they went in, to the bit, and without TensorFlow or JAX."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from heimdall_jax.errors import ConfigError, DataError, StorageError
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.prepared import open_prepared, prepare, prepare_powder
from heimdall_jax.sources.splits import split
from heimdall_jax.sources.subset import Subset
from heimdall_jax.types import Session, SessionSource

NAMES = ("a", "b", "ü")


class Made:
    """Sessions with values that a float32 or a text format would change."""

    def __init__(self, side, count, *, iq=True, names=NAMES):
        self.side, self.count, self.iq, self.names = side, count, iq, names

    def __len__(self):
        return self.count

    def __getitems__(self, indices, /):
        return [self[i] for i in indices]

    def __getitem__(self, index, /):
        rng = np.random.default_rng([index, len(self.side)])
        shape = (len(self.names), 50 + index)
        iq = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
        iq[0, 0] = complex(np.nan, -0.0)
        return Session(
            session_id=f"{self.side} é{index}",
            start_time_s=1e9 + 0.1 + index,
            receivers=self.names,
            receiver_deg_RE=rng.standard_normal((len(self.names), 2)),
            present_R=np.array([True, True, False]),
            heard_R=np.array([index % 2 == 0, True, False]),
            rss_db_R=np.float32([np.nan, -1 / 3, 1e-40]),
            truth_deg=(1 / 3, 1e-300) if index % 3 else None,
            truth_error_m=0.1 * index,
            iq_RT=iq if self.iq else None,
            sample_rate_hz=12001.1234567890123 if self.iq else None,
            frequency_hz=None if index % 2 else 145.3e6,
            altitude_m_R=np.array([1 / 3, -7.1, 0.0]) if index % 2 else None,
            clock_sigma_s_R=np.array([50e-9, np.inf, 1 / 3]) if index % 3 else None,
            masked=("one é", "two", "two")[: index % 4],
        )


ABOUT = {"receivers": list(NAMES), "origin_deg": [1 / 3, -7.1], "skipped": {"odd": 2}, "notes": ["n"]}


def assert_same(a, b):
    for name in ("receiver_deg_RE", "present_R", "heard_R", "rss_db_R", "iq_RT", "altitude_m_R", "clock_sigma_s_R"):
        one, two = getattr(a, name), getattr(b, name)
        if one is None or two is None:
            assert one is two
        else:
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
            assert one.tobytes() == two.tobytes(), name
    names = ("session_id", "start_time_s", "receivers", "truth_deg", "truth_error_m", "sample_rate_hz", "frequency_hz")
    names = (*names, "masked")
    assert [getattr(a, name) for name in names] == [getattr(b, name) for name in names]


@pytest.mark.parametrize("iq", [True, False])
def test_round_trip(tmp_path, iq):
    sides = {"train": Made("train", 40, iq=iq), "validation": Made("v", 0), "test": Made("test", 5, iq=iq)}
    prepare(tmp_path, sides, about=ABOUT, name="simulated_network")
    source = open_prepared(tmp_path)
    assert isinstance(source, SessionSource)
    assert len(source) == 45
    assert (source.receivers, source.origin_deg) == (NAMES, (1 / 3, -7.1))
    assert (source.skipped, source.notes, source.name) == ({"odd": 2}, ("n",), "simulated_network")
    expected = {s.session_id: s for side in sides.values() for s in side.__getitems__(range(len(side)))}
    for row, session in zip(source.transmissions, source.__getitems__(range(45)), strict=True):
        assert_same(session, expected[row.session_id])
        assert (row.session_id, row.start_time_s, row.truth_deg) == (
            session.session_id,
            session.start_time_s,
            session.truth_deg,
        )
    test = open_prepared(tmp_path, "test")
    assert [row.session_id for row in test.transmissions] == [f"test é{i}" for i in range(5)]
    assert_same(test[np.int64(3)], expected["test é3"])
    assert len(open_prepared(tmp_path, "train+test")) == 45
    with pytest.raises(ConfigError, match=r"got validation; allowed: \['test', 'train'\]"):
        open_prepared(tmp_path, "validation")
    named = {f"test é{i}" for i in range(5)}
    file = tmp_path / "train_test_splits" / "random_split" / "random_test.json"
    assert set(json.loads(file.read_text())) == named


def test_a_set_of_an_older_version_is_prepared_again(tmp_path, monkeypatch):
    """As version 1.1.0 wrote it."""
    from heimdall_jax.sources import builders

    older = {name: kind for name, kind in builders.FEATURES.items() if name != "masked"}
    encode = builders.encode
    monkeypatch.setattr(builders, "FEATURES", older)
    monkeypatch.setattr(builders, "encode", lambda session: {name: encode(session)[name] for name in older})
    prepare(tmp_path, {"test": Made("test", 2)}, about=ABOUT, name="simulated_network")
    with pytest.raises(DataError, match=r"not say what was masked.*Prepare it again"):
        open_prepared(tmp_path)


@pytest.mark.parametrize("spec", ["time", "block2", "none"])
def test_powder_is_split_and_read_as_from_its_files(powder_folder, tmp_path, spec):
    prepare_powder(powder_folder, tmp_path, spec)
    raw, source = read_powder(powder_folder), open_prepared(tmp_path)
    assert source.receivers == raw.receivers
    assert source.origin_deg == raw.origin_deg
    assert source.skipped == raw.skipped
    for index in [0, 17, 2000, 3832]:
        assert_same(source[index], raw[index])
    one, two = split(raw, spec, folder=powder_folder), split(source, spec, folder=tmp_path)
    for side in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, side), getattr(two, side))
    held = open_prepared(tmp_path, "validation")
    assert [row.session_id for row in held.transmissions] == [raw[int(i)].session_id for i in one.validation]


def test_powder_by_the_tfds_registry(powder_folder, tmp_path):
    """As a user of tensorflow-datasets would: by name, with the files in manual_dir."""
    import tensorflow_datasets as tfds

    from heimdall_jax.sources import builders

    assert "powder_rss" in builders.PowderRss.name
    builder = tfds.builder("powder_rss/block", data_dir=tmp_path, file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=powder_folder, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    test = tfds.data_source("powder_rss/block", data_dir=tmp_path, split="test", download=False)
    assert len(test) == 458
    assert len(open_prepared(tmp_path, "test")) == 458
    with pytest.raises(DataError, match=r"simulated_network.*no sessions"):
        builders.SimulatedNetwork(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()


def test_subset():
    subset = Subset(Made("x", 9), np.array([8, 2, 5]))
    assert len(subset) == 3
    assert subset[np.int64(1)].session_id == "x é2"
    assert [session.session_id for session in subset.__getitems__([2, 0])] == ["x é5", "x é8"]
    assert [session.session_id for session in subset] == ["x é8", "x é2", "x é5"]


def test_sets_that_cannot_be_prepared(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no sessions"):
        prepare(tmp_path / "none", {"train": Made("t", 0)}, about=ABOUT, name="simulated_network")
    prepare(tmp_path, {"train": Made("t", 2)}, about=ABOUT, name="simulated_network")
    with pytest.raises(ConfigError, match="there already"):
        prepare(tmp_path, {"train": Made("t", 2)}, about=ABOUT, name="simulated_network")

    class Mixed(Made):
        def __getitem__(self, index, /):
            self.names = ("x", "y", "z") if index else NAMES
            return super().__getitem__(index)

    with pytest.raises(DataError, match=r"t é1: got other receivers"):
        prepare(tmp_path / "mixed", {"train": Mixed("t", 2)}, about=ABOUT, name="simulated_network")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"prepared set.*Check the folder"):
        prepare(tmp_path / "file", {"train": Made("t", 2)}, about=ABOUT, name="simulated_network")

    class Failing(Made):
        def __getitem__(self, index, /):
            raise self.error

    failing = Failing("t", 2)
    full = "write() failed: No space left on device"  # what ArrayRecord says on a full tmpfs
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError(full)):
        failing.error = error
        with pytest.raises(StorageError, match=r"No space left.*space on its disk"):
            prepare(tmp_path / "full", {"train": failing}, about=ABOUT, name="simulated_network")
    failing.error = RuntimeError("the source's own")
    with pytest.raises(RuntimeError, match="own"):
        prepare(tmp_path / "full", {"train": failing}, about=ABOUT, name="simulated_network")
    prepare(tmp_path / "full", {"train": Made("t", 2)}, about=ABOUT, name="simulated_network")
    assert not list((tmp_path / "full").rglob("incomplete.*"))


def test_folders_that_hold_no_set(tmp_path):
    with pytest.raises(StorageError, match="no folder"):
        open_prepared(tmp_path / "absent")
    with pytest.raises(DataError, match=r"got none.*prepare_data"):
        open_prepared(tmp_path)
    for name in ("one", "two"):
        prepare(tmp_path / name, {"train": Made("t", 2)}, about=ABOUT, name="simulated_network")
    with pytest.raises(DataError, match=r"one/simulated_network.*Name one"):
        open_prepared(tmp_path)
    info = next((tmp_path / "one").rglob("dataset_info.json"))
    (info.parent / "metadata.json").unlink()
    with pytest.raises(DataError, match="Prepare it again"):
        open_prepared(tmp_path / "one")
    records = next((tmp_path / "two").rglob("*array_record*"))
    source = open_prepared(tmp_path / "two")
    records.write_bytes(records.read_bytes()[:100])
    with pytest.raises(StorageError, match=r"unreadable record.*Prepare it again"):
        source[0]
    records.unlink()
    with pytest.raises(DataError, match="Prepare it again"):
        open_prepared(tmp_path / "two")
    info.write_text("{")
    with pytest.raises(DataError, match="Prepare it again"):
        open_prepared(tmp_path / "one")


def test_sources_read_without_jax_or_tensorflow(tmp_path):
    """In a process of its own, as everything here has imported JAX."""
    prepare(tmp_path, {"train": Made("t", 3)}, about=ABOUT, name="simulated_network")
    code = """
import importlib, pkgutil, sys
import heimdall_jax.sources as room, heimdall_jax.store
for module in pkgutil.iter_modules(room.__path__):
    importlib.import_module(f"heimdall_jax.sources.{module.name}")
from heimdall_jax.sources.prepared import open_prepared
assert len(open_prepared(sys.argv[1]).__getitems__([0, 1])) == 2
print([name for name in ("jax", "tensorflow", "grain", "boto3", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
