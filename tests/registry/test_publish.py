"""A version is whole or not there, whoever is killed, whoever publishes at once, whatever the disk does."""

import errno
import functools
import hashlib
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from watched_store import KilledError, WatchedStore, kill, once

from heimdall_jax.errors import ConfigError, ExportError, HeimdallError, StorageError
from heimdall_jax.registry import fetch
from heimdall_jax.registry.fetch import fetch_bundle
from heimdall_jax.registry.publish import VersionTakenError, publish
from heimdall_jax.registry.published import read_latest
from heimdall_jax.store import FolderStore, MemoryStore, open_store

opened = functools.cache(open_store)
"""Making a client for S3 takes longer than most of these tests."""

NAME = "heimdall-net"
SET_FILES = ["model.onnx", "SHA256SUMS", "manifest.json"]
OTHER_FILES = ["model.onnx", "metrics.json", "config.yaml", "model_card.md", "SHA256SUMS", "manifest.json"]


@pytest.fixture(autouse=True)
def _reuse_clients(monkeypatch):
    monkeypatch.setattr(fetch, "open_store", opened)


@pytest.fixture(params=["folder", "s3"])
def url(request, tmp_path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_url")


def model_of(folder: Path) -> bytes:
    return (folder / "model.onnx").read_bytes()


def whole(url: str, version: str = "") -> bytes | None:
    """The model that a reader of a version, or of the latest, sees; None if it is told that there is none."""
    try:
        return fetch_bundle(f"{url}/{NAME}/{version}".rstrip("/")).model
    except ExportError:
        return None


def test_what_is_stored(url, other_folder, tmp_path):
    store = WatchedStore(opened(url))
    published = publish(other_folder, store, name=NAME)
    where = f"{NAME}/{published.version}"
    assert store.puts == [*(f"{where}/{name}" for name in OTHER_FILES), f"{NAME}/latest"]
    assert published.new
    assert sorted(published.files) == sorted(OTHER_FILES)
    for name in OTHER_FILES:
        (tmp_path / name).write_bytes(store.get(f"{where}/{name}"))
        assert name == "SHA256SUMS" or (tmp_path / name).read_bytes() == (other_folder / name).read_bytes()
    told = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.count(": OK") == len(OTHER_FILES) - 1
    sums, manifest = ((tmp_path / name).read_bytes() for name in ("SHA256SUMS", "manifest.json"))
    assert published.version == hashlib.sha256(sums).hexdigest()[:12]
    latest = json.loads(store.get(f"{NAME}/latest"))
    assert latest["version"] == published.version
    assert latest["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert whole(url) == whole(url, published.version) == whole(url, "latest") == model_of(other_folder)


def test_publishing_the_same_again_puts_nothing(url, set_folder, other_folder):
    first = publish(set_folder, opened(url), name=NAME)
    second = publish(other_folder, opened(url), name=NAME)
    store = WatchedStore(opened(url))
    for folder, before in ((other_folder, second), (set_folder, first)):
        again = publish(folder, store, name=NAME)
        assert (again.version, again.new) == (before.version, False)
    assert store.puts == []
    assert whole(url) == model_of(other_folder)


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("at", range(len(OTHER_FILES) + 1))
def test_a_stopped_upload_shows_nothing_and_is_completed(url, how, at, set_folder, other_folder):
    old = publish(set_folder, opened(url), name=NAME)
    with pytest.raises(KilledError):
        publish(other_folder, WatchedStore(opened(url), **{how: kill(at)}), name=NAME, version="7")
    finished = at == len(OTHER_FILES) and how == "after"
    committed = at + (how == "after") >= len(OTHER_FILES)
    assert whole(url) == model_of(other_folder if finished else set_folder)
    assert whole(url, old.version) == model_of(set_folder)
    assert whole(url, "7") == (model_of(other_folder) if committed else None)
    again = WatchedStore(opened(url))
    assert publish(other_folder, again, name=NAME, version="7").new is not committed
    assert len(again.puts) == len(OTHER_FILES) + 1 - at - (how == "after")
    assert whole(url) == whole(url, "7") == model_of(other_folder)


@pytest.mark.parametrize("at", range(len(OTHER_FILES)))
def test_what_a_stopped_upload_left_does_not_bind_another(url, at, set_folder, other_folder):
    with pytest.raises(KilledError):
        publish(other_folder, WatchedStore(opened(url), before=kill(at)), name=NAME, version="7")
    assert whole(url) is None
    assert publish(set_folder, opened(url), name=NAME, version="7").new
    assert whole(url) == whole(url, "7") == model_of(set_folder)


def test_other_bytes_under_a_published_version_are_refused(url, set_folder, other_folder):
    publish(set_folder, opened(url), name=NAME, version="3")
    store = WatchedStore(opened(url))
    with pytest.raises(VersionTakenError, match=r"heimdall-net/3: got other bytes in .*model\.onnx.*another --version"):
        publish(other_folder, store, name=NAME, version="3")
    assert store.puts == []
    assert whole(url, "3") == model_of(set_folder)


@pytest.mark.parametrize(
    ("how", "at"),  # after the last of its puts, the first has won
    [*(("before", at) for at in range(len(OTHER_FILES))), *(("after", at) for at in range(len(OTHER_FILES) - 1))],
)
def test_of_two_with_other_bytes_who_commits_first_wins(url, how, at, set_folder, other_folder):
    """The other publishes from first to last while one of the loser's puts is on its way, or has just arrived."""

    def rival() -> None:
        publish(set_folder, opened(url), name=NAME, version="7")

    late = WatchedStore(opened(url), **{how: once(at, rival)})
    with pytest.raises(VersionTakenError, match="other bytes"):
        publish(other_folder, late, name=NAME, version="7")
    assert whole(url) == whole(url, "7") == model_of(set_folder)
    sums = opened(url).get(f"{NAME}/7/SHA256SUMS").decode()
    assert [line.split()[1] for line in sums.splitlines()] == ["model.onnx", "manifest.json"]


@pytest.mark.parametrize("at", range(len(OTHER_FILES)))
def test_over_what_a_third_had_left_the_first_to_commit_wins_too(url, at, set_folder, other_folder):
    """Both put their files over those of an upload that was stopped."""
    for name in OTHER_FILES[:-1]:
        opened(url).put(f"{NAME}/7/{name}", b"left")

    def rival() -> None:
        publish(set_folder, opened(url), name=NAME, version="7")

    late = WatchedStore(opened(url), before=once(at, rival))
    with pytest.raises(VersionTakenError, match="other bytes"):
        publish(other_folder, late, name=NAME, version="7")
    if whole(url) is None:  # it never saw what it replaced: refused by its hash, and mended by publishing again
        assert publish(set_folder, opened(url), name=NAME, version="7").new is False
    assert whole(url) == whole(url, "7") == model_of(set_folder)


@pytest.mark.parametrize("at", range(len(SET_FILES) + 1))
def test_two_with_the_same_bytes_both_succeed(url, at, set_folder):
    def rival() -> None:
        assert publish(set_folder, opened(url), name=NAME).new

    late = WatchedStore(opened(url), before=once(at, rival if at < len(SET_FILES) else lambda: None))
    publish(set_folder, late, name=NAME)
    assert whole(url) == model_of(set_folder)


@pytest.mark.parametrize("same", [True, False])
def test_publishers_in_threads(url, same, set_folder, other_folder):
    for version in map(str, range(1, 7)):
        together = Barrier(2)

        def run(folder: Path, version: str = version, together: Barrier = together) -> bytes | None:
            together.wait()
            try:
                publish(folder, opened(url), name=NAME, version=version)
            except VersionTakenError:
                return None
            return model_of(folder)

        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(run, [set_folder, set_folder if same else other_folder]))
        winners = [model for model in ends if model is not None]
        assert len(winners) == (2 if same else 1)
        assert whole(url, version) == whole(url) == winners[0]


def test_versions_made_of_content_never_meet(url, set_folder, other_folder):
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda folder: publish(folder, opened(url), name=NAME), [set_folder, other_folder]))
    assert [whole(url, end.version) for end in ends] == [model_of(set_folder), model_of(other_folder)]
    assert whole(url) in (model_of(set_folder), model_of(other_folder))


def test_latest_does_not_go_back_to_a_lower_number(url, set_folder, other_folder):
    store = opened(url)
    for version, expected in (("9", "9"), ("10", "10"), ("2", "10"), ("9", "10")):
        publish(set_folder, store, name=NAME, version=version)
        latest = read_latest(store, NAME)
        assert latest is not None
        assert latest.version == expected
    publish(other_folder, store, name=NAME, version="rc-1")
    publish(set_folder, store, name=NAME, version="10")
    latest = read_latest(store, NAME)
    assert latest is not None
    assert (latest.version, latest.earlier) == ("rc-1", ("9", "10"))


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"version": "../x", "manifest_sha256": "", "earlier": []}', b"[]"])
def test_a_damaged_latest_is_refused_and_written_anew(url, spoilt, set_folder):
    store = opened(url)
    publish(set_folder, store, name=NAME)
    store.put(f"{NAME}/latest", spoilt)
    with pytest.raises(HeimdallError, match=r"latest.*: got "):
        fetch_bundle(f"{url}/{NAME}")
    publish(set_folder, store, name=NAME)
    assert whole(url) == model_of(set_folder)


@pytest.mark.parametrize("name", [*OTHER_FILES[:-1]])
@pytest.mark.parametrize("how", ["altered", "truncated", "missing"])
def test_a_damaged_object_is_mended_by_publishing_again(tmp_path, name, how, other_folder):
    store = FolderStore(tmp_path)
    publish(other_folder, store, name=NAME, version="3")
    path = tmp_path / NAME / "3" / name
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(data[:-1] + (b"" if how == "truncated" else b"\0"))
    watched = WatchedStore(store)
    assert publish(other_folder, watched, name=NAME, version="3").new is False
    assert watched.puts == [f"{NAME}/3/{name}"]
    assert path.read_bytes() == data


def test_a_store_that_alters_what_it_is_given_is_told_of(set_folder):
    inner = MemoryStore()
    store = WatchedStore(inner, spoil=lambda data: data[: len(data) // 2])
    with pytest.raises(StorageError, match=r"model\.onnx: got not what was written.*check the store"):
        publish(set_folder, store, name=NAME, version="3")
    assert not inner.exists(f"{NAME}/3/manifest.json")
    assert not inner.exists(f"{NAME}/latest")


@pytest.mark.parametrize("at", range(len(OTHER_FILES) + 1))
def test_a_full_disk(tmp_path, at, set_folder, other_folder, monkeypatch):
    store, url = FolderStore(tmp_path), str(tmp_path)
    publish(set_folder, store, name=NAME, version="1")
    write, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > at:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"No space left on device.*Free space") as caught:
        publish(other_folder, store, name=NAME, version="2")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert whole(url) == model_of(set_folder)
    assert list(tmp_path.rglob(".put-*")) == []
    publish(other_folder, store, name=NAME, version="2")
    assert whole(url) == model_of(other_folder)


@pytest.mark.parametrize("word", ["", "a/b", "..", ".hidden", "latest", "a b", "é", "x" * 101, "-x", "a\n"])
def test_names_that_are_no_part_of_a_key(word, set_folder):
    store = WatchedStore(MemoryStore())
    with pytest.raises(ConfigError, match="model name: got"):
        publish(set_folder, store, name=word)
    if word:
        with pytest.raises(ConfigError, match="model version: got"):
            publish(set_folder, store, name=NAME, version=word)
    assert store.puts == []


def test_a_bundle_that_is_not_what_it_says_is_not_published(set_folder, tmp_path):
    store = WatchedStore(MemoryStore())
    with pytest.raises(ExportError, match=r"model\.onnx: got No such file"):
        publish(tmp_path / "nothing", store, name=NAME)
    shutil.copytree(set_folder, tmp_path / "run")
    (tmp_path / "run" / "model.onnx").write_bytes(model_of(set_folder)[:-1])
    with pytest.raises(ExportError, match="truncated"):
        publish(tmp_path / "run", store, name=NAME)
    assert store.puts == []


def test_a_run_folder_that_changes_meanwhile_is_not_committed(other_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(other_folder, folder)
    inner = MemoryStore()
    store = WatchedStore(inner, after=once(0, lambda: (folder / "metrics.json").write_text('{"n": 2}')))
    with pytest.raises(ExportError, match=r"file metrics\.json: got another content.*Publish again"):
        publish(folder, store, name=NAME, version="3")
    assert not inner.exists(f"{NAME}/3/manifest.json")
