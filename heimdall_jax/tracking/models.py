"""Registered models read back from MLflow: which version a file is, and a version's files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.tracking.client import ADDRESS, ask, import_mlflow
from heimdall_jax.tracking.registry import registered_as

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
    mlflow = import_mlflow()

    def download() -> str:
        client, version = mlflow.MlflowClient(tracking_uri=address, registry_uri=address), number
        if alias is not None:
            version = client.get_model_version_by_alias(name, alias).version
        # By the version's own address: "models:/" would be looked up in the process-wide registry.
        source = client.get_model_version_download_uri(name, str(version))
        return mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=address)

    there = Path(ask(f"registered model {uri}", address, download))
    return there / "model.onnx", there / "extra_files" / "manifest.json"


def registered_version(run_id: str, sha256: str, name: str, tracking_uri: str) -> str | None:
    """The version as which a tracked run registered a model file; None if it did not.

    Raises:
        StorageError: The registry cannot be reached.
    """
    client = import_mlflow().MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    return ask(f"versions of {name}", tracking_uri, lambda: registered_as(client, run_id, name, sha256))
