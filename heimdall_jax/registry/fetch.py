"""Models by URI: a folder, a file, a published version in an object store, or a registered one in MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from heimdall_jax.errors import ConfigError, ExportError, StorageError, explain
from heimdall_jax.export.bundle import MANIFEST, MAX_MODEL_BYTES, Bundle, read_bundle, verify_bundle
from heimdall_jax.export.manifest import MAX_MANIFEST_BYTES
from heimdall_jax.progress import tell
from heimdall_jax.registry.published import AGAIN, LATEST, MAX_NOTE_BYTES, MODEL, SUMS, parse_sums, read_latest, sha256
from heimdall_jax.store import FolderStore, MissingObjectError, ObjectStore, open_store

ALLOWED = "a folder, a model file, s3://bucket/name, s3://bucket/name/version, models:/name@alias or models:/name/3"


def fetch_bundle(uri: str | Path, *, tracking_uri: str = "") -> Bundle:
    """The verified bundle at a URI; nothing of it is kept on disk.

    Args:
        uri: A run folder or a model file; `s3://bucket/name/version`, or `s3://bucket/name`, with or without
            `/latest`, for the version published last, or a folder that holds the same; a file of a version by its
            name; `models:/name@alias` or `models:/name/3` of an MLflow registry.
        tracking_uri: Of that registry; `MLFLOW_TRACKING_URI` if empty.

    Raises:
        ConfigError: The URI is of another kind.
        ExportError: The model is missing, altered or of another kind; the message says which.
        StorageError: The store or the registry cannot be reached or read.
    """
    text = str(uri)
    if text.startswith("models:"):
        return _registered(text, tracking_uri)
    parts = urlsplit(text)
    if text.startswith("s3://") and parts.netloc and parts.path.strip("/"):
        return _published(open_store(f"s3://{parts.netloc}"), unquote(parts.path).strip("/"), text)
    if "://" in text and parts.scheme != "file":
        raise ConfigError(explain("model", got=repr(text), allowed=ALLOWED, cure="Correct the URI."))
    path = Path(unquote(parts.path) if parts.scheme == "file" else text).absolute()
    if path.name == LATEST and path.is_file():
        path = path.parent
    if (path / LATEST).is_file() and not (path / MODEL).exists():
        return _published(FolderStore(path.parent), path.name, text)
    return read_bundle(path)


def _published(store: ObjectStore, key: str, uri: str) -> Bundle:
    """A published bundle; `key` names a version, a file of one, or the model, whose latest version is meant."""
    where, file = (key.rpartition("/")[0], key.rpartition("/")[2]) if key.endswith(".onnx") else (key, MODEL)
    name, _, last = where.rpartition("/")
    manifest = None if last == LATEST else _object(store, f"{where}/{MANIFEST}", MAX_MANIFEST_BYTES)
    if manifest is None:
        name = name if last == LATEST else where
        latest = read_latest(store, name)
        if latest is None:
            raise _refuse(uri, f"no {where}/{MANIFEST} and no {name}/{LATEST}")
        where = f"{name}/{latest.version}"
        manifest = _object(store, f"{where}/{MANIFEST}", MAX_MANIFEST_BYTES)
        if manifest is None:
            raise _refuse(uri, f"a {LATEST} that names version {latest.version}, which has no {MANIFEST}")
        if sha256(manifest) != latest.manifest_sha256:
            raise _refuse(uri, f"a {where}/{MANIFEST} that is not the one {name}/{LATEST} names")
    sums = _object(store, f"{where}/{SUMS}", MAX_NOTE_BYTES)
    model = _object(store, f"{where}/{file}", MAX_MODEL_BYTES)
    if sums is None or model is None:
        raise _refuse(uri, f"no {where}/{SUMS if sums is None else file}")
    digests = parse_sums(sums, where)
    for part, data in ((MANIFEST, manifest), (file, model)):
        if digests.get(part) != sha256(data):
            raise _refuse(uri, f"{len(data)} bytes of {where}/{part} that {SUMS} does not know (altered or truncated)")
    return verify_bundle(Path(where) / file, model, manifest)


def _registered(uri: str, tracking_uri: str) -> Bundle:
    from heimdall_jax.tracking.models import fetch_registered  # MLflow takes seconds to load

    tell(f"downloading {uri}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            model, manifest = fetch_registered(uri, Path(folder), tracking_uri)
            return verify_bundle(Path(MODEL), model.read_bytes(), manifest.read_bytes())
    except FileNotFoundError as error:
        raise _refuse(uri, f"no {Path(error.filename).name}") from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        cure = "Free space there, or name another folder with TMPDIR."
        raise StorageError(explain("temporary folder", got=error, allowed="space for the model", cure=cure)) from error


def _object(store: ObjectStore, key: str, most_bytes: int) -> bytes | None:
    try:
        data = store.get(key, most_bytes + 1)
    except MissingObjectError:
        return None
    if len(data) > most_bytes:
        got, allowed = f"more than {most_bytes} bytes", f"{most_bytes} or fewer"
        raise ExportError(explain(f"object {key}", got=got, allowed=allowed, cure=AGAIN))
    return data


def _refuse(uri: str, got: str) -> ExportError:
    return ExportError(explain(f"model {uri}", got=got, allowed="a whole published version", cure=AGAIN))
