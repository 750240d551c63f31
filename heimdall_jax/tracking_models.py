"""Registered models read back from MLflow: which version a file is, and a version's files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.tracking import _import_mlflow

ADDRESS = "MLFLOW_TRACKING_URI"
URI = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")


def fetch_registered(uri: str, folder: Path, tracking_uri: str = "") -> tuple[Path, Path]:
    """Download a registered model into a folder.

    Args:
        uri: `models:/name@alias` or `models:/name/3`.
        folder: Where to.
        tracking_uri: Of the registry; `MLFLOW_TRACKING_URI` if empty.

    Returns:
        Where its `model.onnx` and its `manifest.json` are; whether they came is not checked.

    Raises:
        ConfigError: The URI is of another kind, or no registry is named.
        StorageError: The registry does not hold it, or cannot be reached.
    """
    found = URI.fullmatch(uri)
    if found is None:
        allowed = "models:/name@alias or models:/name/3"
        raise ConfigError(explain("registered model", got=repr(uri), allowed=allowed, cure="Correct the URI."))
    name, alias, number = found.groups()
    address = tracking_uri or os.environ.get(ADDRESS, "")
    if not address:
        cure = f"Set {ADDRESS}, as to sqlite:///runs/mlflow.db or a server's URL."
        raise ConfigError(explain(f"registry of {uri}", got="no address", allowed="MLflow's URI", cure=cure))
    refuse_secret(ADDRESS, address)
    with _registry(address, uri) as (mlflow, client):
        if alias is not None:
            number = client.get_model_version_by_alias(name, alias).version
        # By the version's own address: "models:/" would be looked up in the process-wide registry.
        source = client.get_model_version_download_uri(name, str(number))
        there = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=address)
    return Path(there) / "model.onnx", Path(there) / "extra_files" / "manifest.json"


def registered_version(run_id: str, sha256: str, name: str, tracking_uri: str) -> str | None:
    """The version as which a tracked run registered a model file; None if it did not.

    Raises:
        StorageError: The registry cannot be reached.
    """
    with _registry(tracking_uri, f"versions of {name}") as (_, client):
        versions = client.search_model_versions(f"run_id='{run_id}'")
    found = [item for item in versions if item.name == name and item.tags.get("sha256") == sha256]
    return max((str(item.version) for item in found), key=int, default=None)


@contextmanager
def _registry(address: str, what: str) -> Iterator[tuple[Any, Any]]:
    """MLflow and a client of a registry, whose failures become the house's own."""
    mlflow = _import_mlflow()
    try:
        yield mlflow, mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
    except Exception as error:
        known = isinstance(error, (mlflow.exceptions.MlflowException, OSError))
        if not known and type(error).__module__.split(".")[0] not in {"sqlalchemy", "botocore", "boto3"}:
            raise
        problem, cure = " ".join(str(error).split())[:300], f"Check the name and {ADDRESS}, and that it is running."
        allowed = f"a registered model at {address}"
        raise StorageError(explain(what, got=problem, allowed=allowed, cure=cure)) from error
