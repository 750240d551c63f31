"""Objects by key: in a folder, in memory, or in S3. The only door to boto3.

Keys are slash-separated names (`sessions/42/websdr_1.npy`), the same in every store, and never leave its root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from heimdall_jax.errors import ConfigError, StorageError, explain

TEMPORARY = ".put-"
"""Prefix of files that are being written; a crash may leave one behind, and it is never listed."""


class MissingObjectError(StorageError):
    """No object has this key."""


class ExistingObjectError(StorageError):
    """An object has this key already, and only a new one was to be put."""


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
        StorageError: It is empty or absolute, or holds an empty, `.` or `..` part, a backslash or a NUL.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in key or "\0" in key:
        allowed = "names joined by single slashes, none of them '.' or '..'"
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
            raise _missing(key, "memory") from None

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """See `ObjectStore`."""
        if new and self.exists(key):
            raise _existing(key, "memory")
        self._objects[checked_key(key)] = bytes(data)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        return iter(sorted(key for key in self._objects if key.startswith(prefix)))

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
            return file.read(-1 if length is None else length)

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
                raise _existing(key, self.root) from error
            finally:
                temporary.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        keys = (
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file() and not path.name.startswith(TEMPORARY)
        )
        return iter(sorted(key for key in keys if key.startswith(prefix)))

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
        self._client = client or _s3_client()

    def __reduce__(self) -> tuple[Any, ...]:  # a client cannot travel to another process: workers make their own
        return S3Store, (self.bucket, self._prefix.rstrip("/"))

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + checked_key(key)}

    def get(self, key: str, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        # An empty object has no first byte, so a range on it is refused.
        part = {} if length is None or self.size(key) == 0 else {"Range": f"bytes=0-{length - 1}"}
        with _s3(key, self.bucket):
            return self._client.get_object(**self._address(key), **part)["Body"].read()

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """See `ObjectStore`."""
        if new and self.exists(key):
            raise _existing(key, f"s3://{self.bucket}")
        with _s3(key, self.bucket):
            self._client.put_object(**self._address(key), Body=data, **({"IfNoneMatch": "*"} if new else {}))

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        with _s3(prefix, self.bucket):
            paginator = self._client.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self.bucket, Prefix=self._prefix + prefix)
            keys = [item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", ())]
        return iter(sorted(keys))

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        with contextlib.suppress(MissingObjectError):
            self.size(key)
            return True
        return False

    def size(self, key: str) -> int:
        """See `ObjectStore`."""
        with _s3(key, self.bucket):
            return int(self._client.head_object(**self._address(key))["ContentLength"])


def _s3_client() -> Any:
    """A client that other servers than Amazon's understand: no checksum trailers unless required."""
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    # Not the shared session, which keeps the first credentials it saw.
    return boto3.Session().client("s3", region_name=region, config=config)


def _missing(key: str, where: object) -> MissingObjectError:
    got, cure = f"nothing in {where}", "Check the key."
    return MissingObjectError(explain(f"object {key!r}", got=got, allowed="an existing key", cure=cure))


def _existing(key: str, where: object) -> ExistingObjectError:
    what, got = f"object {key!r}", f"one in {where} already"
    return ExistingObjectError(explain(what, got=got, allowed="a new key", cure="Choose another key."))


@contextlib.contextmanager
def _files(key: str, root: Path) -> Iterator[None]:
    """Turn the file system's errors into the store's."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _missing(key, root) from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cure = "Free space on the disk." if full else "Check the folder and its permissions."
        got, allowed = error.strerror or str(error), "a readable, writable folder"
        raise StorageError(explain(f"object {key!r} in {root}", got=got, allowed=allowed, cure=cure)) from error


@contextlib.contextmanager
def _s3(key: str, bucket: str) -> Iterator[None]:
    """Turn boto3's errors into the store's."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        if code in {"NoSuchKey", "404", "NotFound"}:
            raise _missing(key, f"s3://{bucket}") from error
        if code == "PreconditionFailed":
            raise _existing(key, f"s3://{bucket}") from error
        what, cure = f"object {key!r} in s3://{bucket}", "Check AWS_ENDPOINT_URL, the credentials and the bucket."
        raise StorageError(explain(what, got=error, allowed="a reachable bucket", cure=cure)) from error
