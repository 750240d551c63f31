"""A run's model published where others fetch it: under its registered name, and its registered number where it has one.

The number counts only in a registry that others share, named by `tracking.uri` or MLFLOW_TRACKING_URI: those of the
embedded one begin at 1 beside every folder of runs, and would meet in one store. Elsewhere the version is made of the
content.
"""

from __future__ import annotations

from pathlib import Path

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.credentials import refuse_secret
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.registry.publish import Published, publish
from heimdall_jax.registry.published import checked_segment
from heimdall_jax.run_folder import CONFIG, MODEL, read_note
from heimdall_jax.store import ObjectStore, open_store
from heimdall_jax.tracking.mlflow_tracker import tracking_address
from heimdall_jax.tracking.models import registered_version


def check_publishing(config: Config) -> None:
    """Refuse, before anything is trained, to publish under a name or in a store that cannot be.

    Raises:
        ConfigError: The name or the store's URL is wrong.
        StorageError: The store cannot be reached.
    """
    if config.export.publish:
        name = checked_segment("config tracking.registered_name", config.tracking.registered_name)
        list(_store(config.export.publish).list(f"{name}/latest"))


def publish_run(folder: Path, url: str, *, name: str | None = None, version: str | None = None) -> Published:
    """Publish a finished run's model; what is there already is only verified.

    Args:
        folder: Of the run.
        url: Of the store: `s3://heimdall-models`, or a folder.
        name: Of the model; by default the run's `tracking.registered_name`.
        version: By default the number in the run's registry, if others share that; empty: made of the content.

    Raises:
        HeimdallError: One of its children, see `registry.publish.publish`.
    """
    store, config = _store(url), configs.load(str(folder / CONFIG))
    tracking, run_id, address = config.tracking, read_note(folder).run_id, tracking_address(config.tracking)
    if version is None and tracking.enabled and address and run_id:
        digest = read_bundle(folder / MODEL).manifest.sha256
        version = registered_version(run_id, digest, tracking.registered_name, address)
    return publish(folder, store, name=name or tracking.registered_name, version=version)


def in_words(published: Published, url: str) -> str:
    """Where a model is, for the user."""
    done = "published" if published.new else "published already, every byte the same:"
    return f"{done} {url.rstrip('/')}/{published.name}/{published.version}"


def _store(url: str) -> ObjectStore:
    refuse_secret("store to publish in", url)
    return open_store(url)
