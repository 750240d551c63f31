"""Objects by key: in a folder, in memory, or in S3. With `store_s3` the only door to boto3.

Keys are slash-separated names (`sessions/42/websdr_1.npy`), the same in every store, and never leave its root.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.store_s3 import (
    ExistingObjectError as ExistingObjectError,
)
from heimdall_jax.store_s3 import MissingObjectError, at_s3, existing, missing, received, s3_client, to_send

MAX_KEY, MAX_NAME = 1024, 255  # bytes of a key in S3, and of a part of one in a file system
TEMPORARY = ".put-"
"""Prefix of files that are being written; a crash may leave one behind, and it is never listed."""


@runtime_checkable
class ObjectStore(Protocol):
    """Whole objects by key. A put is seen entirely or not at all."""

    def get(self, key: str, length: int | None = None) -> bytes:
        """The object's bytes, or at most its first `length`.

        Raises:
            MissingObjectError: No object has this key.
            StorageError: It cannot be read, or the key is not allowed.
        """
        ...

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Write an object: over the one there or, if `new`, only where there is none.

        One of several writers succeeds; of one moment all may, where a server ignores `If-None-Match` (rclone's).

        Raises:
            ExistingObjectError: It was to be `new`, and is there.
            StorageError: It cannot be written, or the key is not allowed.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def stamps(self, prefix: str = "") -> dict[str, str]:
        """What changes when an object does, by key: its size and when or what was written; nothing is read."""
        ...

    def exists(self, key: str) -> bool:
        """Whether an object has this key."""
        ...

    def size(self, key: str) -> int:
        """Bytes of the object.

        Raises:
            MissingObjectError: No object has this key.
        """
        ...


def checked_key(key: str) -> str:
    """`key`, if it names an object inside the store.

    Raises:
        StorageError: It is empty, absolute or long, or holds an empty, `.` or `..` part, a backslash or no print.
    """
    parts = key.split("/")
    sizes = [len(part.encode("utf-8", "replace")) for part in (key, *parts)]
    odd = sizes[0] > MAX_KEY or max(sizes[1:]) > MAX_NAME or "\\" in key or not key.isprintable()
    if any(part in {"", ".", ".."} for part in parts) or odd:
        allowed = f"printable names of up to {MAX_NAME} bytes joined by single slashes, none of them '.' or '..'"
        raise StorageError(explain("object key", got=repr(key), allowed=allowed, cure="Correct the key."))
    return key


def open_store(url: str | Path) -> ObjectStore:
    """The store at a folder's path, `file:///folder`, `memory://` (a new, empty one) or `s3://bucket/prefix`.

    S3's address and credentials come from boto3's own settings (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …).

    Raises:
        ConfigError: The URL names another kind of store.
    """
    text = str(url)
    parts = urlsplit(text)
    if "://" not in text:
        return FolderStore(Path(text))
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"))
    allowed = "a folder, file:///folder, memory:// or s3://bucket/prefix"
    raise ConfigError(explain("store", got=repr(text), allowed=allowed, cure="Correct the URL."))


class MemoryStore:
    """An `ObjectStore` that lives as long as the object: for tests and trials."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def get(self, key: str, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        try:
            return self._objects[checked_key(key)][:length]
        except KeyError:
            raise missing(key, "memory") from None

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """See `ObjectStore`."""
        if new and self.exists(key):
            raise existing(key, "memory")
        self._objects[checked_key(key)] = bytes(data)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        return iter(sorted(key for key in self._objects if key.startswith(prefix)))

    def stamps(self, prefix: str = "") -> dict[str, str]:
        """See `ObjectStore`."""
        return {key: hashlib.sha256(self._objects[key]).hexdigest() for key in self.list(prefix)}

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return checked_key(key) in self._objects

    def size(self, key: str) -> int:
        """See `ObjectStore`."""
        return len(self.get(key))


class FolderStore:
    """An `ObjectStore` in a folder: keys are paths inside it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def _path(self, key: str) -> Path:
        path = self.root.joinpath(*checked_key(key).split("/"))
        # A symbolic link inside the folder could still lead out of it.
        if not path.resolve().is_relative_to(self.root.resolve()):
            inside = f"paths inside {self.root}"
            raise StorageError(explain("object key", got=repr(key), allowed=inside, cure="Remove the link."))
        return path

    def get(self, key: str, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        with _files(key, self.root), self._path(key).open("rb") as file:
            return file.read(-1 if length is None else min(length, os.fstat(file.fileno()).st_size))

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """See `ObjectStore`."""
        path = self._path(key)
        with _files(key, self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(TEMPORARY + uuid.uuid4().hex)
            try:
                temporary.write_bytes(data)
                (os.link if new else os.replace)(temporary, path)  # a link fails where the name is taken
            except FileExistsError as error:
                raise existing(key, self.root) from error
            finally:
                temporary.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        return iter(sorted(self._found(prefix)))

    def stamps(self, prefix: str = "") -> dict[str, str]:
        """See `ObjectStore`."""
        return {key: f"{status.st_size} {status.st_mtime_ns}" for key, status in self._found(prefix).items()}

    def _found(self, prefix: str) -> dict[str, os.stat_result]:
        """Every whole file whose key starts with `prefix`; other folders are not looked into."""
        found: dict[str, os.stat_result] = {}
        if {"", ".", ".."} & set(prefix.split("/")[:-1]):
            return found
        for folder, below, names in os.walk(self.root / prefix.rpartition("/")[0]):
            start = Path(folder).relative_to(self.root).as_posix().removeprefix(".")
            start = f"{start}/" if start else ""
            below[:] = [name for name in below if f"{start}{name}/"[: len(prefix)] == prefix[: len(f"{start}{name}/")]]
            keys = [f"{start}{name}" for name in names if not name.startswith(TEMPORARY)]
            found |= {key: (self.root / key).stat() for key in keys if key.startswith(prefix)}
        return found

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        """See `ObjectStore`."""
        with _files(key, self.root):
            return self._path(key).stat().st_size


class S3Store:
    """An `ObjectStore` in an S3 bucket, under a prefix; path-style addresses, which MinIO and rclone serve too."""

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None) -> None:
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client or s3_client()

    def __reduce__(self) -> tuple[Any, ...]:  # a client cannot travel to another process: workers make their own
        return S3Store, (self.bucket, self._prefix.rstrip("/"))

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + checked_key(key)}

    def get(self, key: str, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        part = {} if length is None else {"Range": f"bytes=0-{length - 1}"}
        address = self._address(key)

        def read() -> bytes:
            try:
                answer = self._client.get_object(**address, **part)
            except self._client.exceptions.ClientError as error:
                # An empty object has no first byte, so a range on it is refused.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416:
                    return b""
                raise
            return received(key, answer)

        return at_s3(key, self.bucket, read)

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """See `ObjectStore`."""
        if new and self.exists(key):
            raise existing(key, f"s3://{self.bucket}")
        address = self._address(key) | ({"IfNoneMatch": "*"} if new else {})
        at_s3(key, self.bucket, lambda: self._client.put_object(**address, Body=to_send(key, data)))

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        return iter(sorted(self.stamps(prefix)))

    def stamps(self, prefix: str = "") -> dict[str, str]:
        """See `ObjectStore`."""
        found: dict[str, str] = {}
        where = {"Bucket": self.bucket, "Prefix": self._prefix + prefix}
        page: dict[str, Any] = {"IsTruncated": True}
        while page["IsTruncated"]:
            # Each page is asked for by itself, so that one that fails does not begin the list anew.
            after = {"ContinuationToken": page["NextContinuationToken"]} if "NextContinuationToken" in page else {}
            page = at_s3(prefix, self.bucket, functools.partial(self._client.list_objects_v2, **where, **after))
            for item in page.get("Contents", ()):
                found[item["Key"].removeprefix(self._prefix)] = f"{item['Size']} {item['ETag']}"
        return found

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        with contextlib.suppress(MissingObjectError):
            self.size(key)
            return True
        return False

    def size(self, key: str) -> int:
        """See `ObjectStore`."""
        address = self._address(key)
        return int(at_s3(key, self.bucket, lambda: self._client.head_object(**address))["ContentLength"])


@contextlib.contextmanager
def _files(key: str, root: Path) -> Iterator[None]:
    """Turn the file system's errors into the store's."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise missing(key, root) from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cure = "Free space on the disk." if full else "Check the folder and its permissions."
        got, allowed = error.strerror or str(error), "a readable, writable folder"
        raise StorageError(explain(f"object {key!r} in {root}", got=got, allowed=allowed, cure=cure)) from error
