"""One contract, three stores; S3 is moto's server on loopback."""

import errno
import http.server
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.store import (
    ExistingObjectError,
    FolderStore,
    MemoryStore,
    MissingObjectError,
    ObjectStore,
    S3Store,
    checked_key,
    open_store,
)


@pytest.fixture(params=["folder", "file", "memory", "s3", "s3-prefix"])
def store(request, tmp_path):
    if request.param.startswith("s3"):
        url = request.getfixturevalue("s3_url") + ("/some/prefix" if request.param == "s3-prefix" else "")
    else:
        url = {"folder": tmp_path / "a b", "file": (tmp_path / "a b").as_uri(), "memory": "memory://"}[request.param]
    return open_store(url)


def test_contract(store):
    assert isinstance(store, ObjectStore)
    assert list(store.list()) == []
    assert not store.exists("sessions/1/a.npy")
    store.put("sessions/1/a.npy", b"0123456789")
    store.put("sessions/1/b é.json", b"")
    store.put("models/m/1", b"x")
    assert store.get("sessions/1/a.npy") == b"0123456789"
    assert store.get("sessions/1/a.npy", 4) == b"0123"
    assert store.get("sessions/1/a.npy", 99) == b"0123456789"
    assert store.get("sessions/1/b é.json", 4) == b""
    assert store.size("sessions/1/a.npy") == 10
    assert store.exists("models/m/1")
    store.put("sessions/1/a.npy", b"new")
    assert store.get("sessions/1/a.npy") == b"new"
    assert list(store.list("sessions/1/")) == ["sessions/1/a.npy", "sessions/1/b é.json"]
    assert list(store.list("mod")) == ["models/m/1"]
    assert list(store.list("absent")) == []


def test_stamps_change_with_the_objects(store):
    store.put("sessions/1/a", b"one")
    store.put("sessions/12/a", b"one")
    store.put("models/a", b"one")
    before = store.stamps("sessions/1")
    assert sorted(before) == ["sessions/1/a", "sessions/12/a"]
    assert sorted(store.stamps("sessions/1/")) == ["sessions/1/a"]
    assert store.stamps("sessions/1") == before
    store.put("sessions/1/a", b"two")
    after = store.stamps("sessions/1")
    assert after["sessions/1/a"] != before["sessions/1/a"]
    assert after["sessions/12/a"] == before["sessions/12/a"]
    for nowhere in ("none/at/all", "../", "sessions/../", "/"):
        assert store.stamps(nowhere) == {}


@pytest.mark.slow
def test_a_long_list_comes_in_pages(s3_url):
    store = open_store(s3_url)
    for number in range(1003):
        store.put(f"many/{number:04d}", b"")
    assert list(store.list("many/")) == [f"many/{number:04d}" for number in range(1003)]


def test_a_new_object_takes_nobodys_place(store):
    store.put("models/m", b"first", new=True)
    with pytest.raises(ExistingObjectError, match=r"'models/m': got one in .* already.*Choose another key"):
        store.put("models/m", b"second", new=True)
    assert store.get("models/m") == b"first"
    assert list(store.list()) == ["models/m"]
    store.put("models/m", b"third")
    assert store.get("models/m") == b"third"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_of_many_writers_of_a_new_object_one_succeeds(kind, request, tmp_path, monkeypatch):
    url = request.getfixturevalue("s3_url") if kind == "s3" else tmp_path
    monkeypatch.setattr(S3Store, "exists", lambda store, key: False)  # all have looked before any writes

    def write(number: int) -> int | None:
        try:
            open_store(url).put("a", f"{number}".encode(), new=True)
        except ExistingObjectError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [number for number in pool.map(write, range(8)) if number is not None]
    assert open_store(url).get("a") == f"{winner}".encode()
    assert list(open_store(url).list()) == ["a"]


def test_stores_travel_to_workers(store):
    store.put("a", b"x")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"x"


def test_missing_objects(store):
    for read in (store.get, store.size):
        with pytest.raises(MissingObjectError, match=r"'no/such'.*Check the key"):
            read("no/such")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/./b", "a\\b", "a\0b", "a/"])
def test_keys_never_leave_the_root(store, key):
    for use in (store.get, store.exists, store.size, lambda k: store.put(k, b"")):
        with pytest.raises(StorageError, match="object key"):
            use(key)


@given(st.text(max_size=20))
@settings(deadline=None, max_examples=100)
def test_any_allowed_key_stays_inside(key):
    from pathlib import Path

    try:
        checked_key(key)
    except StorageError:
        return
    assert (Path("/root/of") / key).is_relative_to("/root/of")
    assert ".." not in Path(key).parts


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError, match="Remove the link"):
        FolderStore(tmp_path / "inside").get("link")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "root").write_text("file")
    store = FolderStore(tmp_path / "root")
    with pytest.raises(StorageError, match="Check the folder"):
        store.put("a", b"")
    with pytest.raises(StorageError):
        store.get("a")


def test_a_failed_put_keeps_the_old_object(tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    store.put("a", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"No space left.*Free space"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_unfinished_files_are_not_listed(tmp_path):
    (tmp_path / ".put-xyz").write_bytes(b"half")
    assert list(FolderStore(tmp_path).list()) == []


def test_unreachable_and_forbidden_s3(s3_url, monkeypatch):
    with pytest.raises(StorageError, match=r"NoSuchBucket.*Check the bucket's name") as caught:
        S3Store("another-bucket").put("a", b"")
    assert not isinstance(caught.value, MissingObjectError)
    with pytest.raises(StorageError, match="NoSuchBucket"):
        S3Store("another-bucket").list()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HEIMDALL_PATIENCE_SECONDS", "0.5")
    store = open_store(s3_url)
    with pytest.raises(StorageError, match=r"Could not connect.*Check AWS_ENDPOINT_URL"):
        store.exists("a")


class CutOff(http.server.BaseHTTPRequestHandler):
    """An S3 server whose connection ends in the middle of the object, the first `cut` times."""

    cut = 0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * (50 if type(self).cut > 0 else 100))
        type(self).cut -= 1

    def log_message(self, *_):
        pass


@pytest.fixture
def cut_off(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CutOff)
    threading.Thread(target=server.serve_forever).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield CutOff
    server.shutdown()
    server.server_close()


def test_an_object_cut_off_while_it_is_read_is_read_again(cut_off, monkeypatch):
    cut_off.cut = 2
    assert S3Store("bucket").get("a") == b"x" * 100
    monkeypatch.setenv("HEIMDALL_PATIENCE_SECONDS", "0.5")
    cut_off.cut = 10**6
    with pytest.raises(StorageError, match=r"object 'a' in s3://bucket: got .*IncompleteRead\(50 bytes"):
        S3Store("bucket").get("a")


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "file://host/share"])
def test_other_urls(url):
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(url)


def test_memory_is_new_each_time():
    open_store("memory://").put("a", b"")
    store = open_store("memory://")
    assert isinstance(store, MemoryStore)
    assert not store.exists("a")


def test_boto3_loads_only_for_s3(tmp_path):
    code = (
        "import sys; from heimdall_jax.store import open_store; open_store(sys.argv[1]).put('a', b'');"
        "print('boto3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
