"""A finished run handed to its tracker, at its end or later: metrics, files and the model. Imports no JAX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from heimdall_jax import config as configs
from heimdall_jax.config import TrackingConfig
from heimdall_jax.errors import ConfigError, StorageError, explain
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.export.model_card import CARD, write_card
from heimdall_jax.progress import tell
from heimdall_jax.publishing import in_words, publish_run
from heimdall_jax.registry.publish import Published
from heimdall_jax.revision import code_revision
from heimdall_jax.run_folder import CONFIG, METRICS, MODEL, is_finished, read_metrics, read_note
from heimdall_jax.run_lock import locked
from heimdall_jax.tracking.metric_buffer import TrackerAway
from heimdall_jax.tracking.mlflow_tracker import open_tracker, tracked_at, tracking_address
from heimdall_jax.tracking.models import registered_version
from heimdall_jax.tracking.spool import SPOOL, Spool
from heimdall_jax.tracking.trackers import Tracker


class HandedOver(NamedTuple):
    """The registered version, empty where nothing is tracked; what became of the champion; what was published."""

    version: str
    note: str
    published: Published | None


def hand_over(folder: Path, tracking: TrackingConfig, tracker: Tracker, store: str = "") -> HandedOver:
    """Give a finished run's metrics, files and model to the tracker in which it was started, and end the run there.

    Before the end the model is published in `store`, where that is given: under its registered number if others share
    the registry, else under a version made of its content. May be repeated after a failure: what is there already is
    not stored twice.

    Raises:
        TrackerAway: The tracker does not answer, or refuses; `undelivered` says so to the user.
        HeimdallError: The run's files are not whole, or the store failed otherwise.
    """
    metrics = read_metrics(folder)
    manifest = read_bundle(folder / MODEL).manifest
    if tracking.enabled:
        tell("uploading the run to MLflow")
    tracker.log(metrics["step"], _told(metrics))
    tracker.flush()
    if not (folder / CARD).exists():
        describe_model(folder, manifest)
    for name in (CONFIG, METRICS, CARD, *(entry.file for entry in manifest.smaller if entry.accepted)):
        tracker.log_artifact(folder / name)
    tags = describe(metrics, manifest, read_note(folder).revision or code_revision())
    name, tree = tracking.registered_name, manifest.to_tree()
    version, note = tracker.register_model(folder / MODEL, tree, name, tracking.alias, tags), ""
    if version and tracking.champion:
        note = tracker.promote(name, version, tracking.champion)
    shared = version if tracking_address(tracking) else ""
    published = publish_run(folder, store, version=shared) if store else None
    tracker.finish()
    return HandedOver(version, note, published)


def describe_model(folder: Path, manifest: Manifest) -> None:
    """Write the model card of a run, over the one there.

    Raises:
        StorageError: It cannot be written.
    """
    write_card(folder, manifest, read_note(folder).revision or code_revision())


def describe(metrics: Mapping[str, Any], manifest: Manifest, revision: str) -> dict[str, str]:
    """Tags of a version and of its run: what it was measured on, how well, by which code, and how well exported.

    Args:
        metrics: Contents of `metrics.json`.
        manifest: Of the export.
        revision: Of the code.
    """
    rows = manifest.parity.get("rows", ())
    largest = {
        name: max(row[name] for row in rows if row[name] is not None)
        for name in manifest.parity.get("limits", ())
        if any(row[name] is not None for row in rows)
    }
    told: dict[str, Any] = {key: metrics.get(key) for key in ("dataset", "split", "fingerprint", "n")}
    told |= {"error_mean_m": metrics["error_m"]["mean"], "nll_nats_per_fix": metrics["nll_nats_per_fix"]}
    told |= {"error_mean_interval_m": metrics.get("error_interval_m"), "git_revision": revision, "parity": largest}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    return {key: text for key, text in texts.items() if told[key] is not None}


def summary(folder: Path, tracking: TrackingConfig) -> dict[str, Any]:
    """A finished run for machines: `run`, `model`, the registered `name` and `version`, and `metrics`.

    The first two are paths, the last are the contents of `metrics.json`; the version is None where none is registered.

    Raises:
        HeimdallError: The run's files are not whole, or its tracker does not answer.
    """
    run_id, version = read_note(folder).run_id, None
    if tracking.enabled and run_id:
        digest = read_bundle(folder / MODEL).manifest.sha256
        version = registered_version(run_id, digest, tracking.registered_name, tracked_at(tracking, folder))
    told = {"run": str(folder), "model": str(folder / MODEL), "name": tracking.registered_name, "version": version}
    return told | {"metrics": read_metrics(folder)}


def undelivered(folder: Path, error: TrackerAway) -> StorageError:
    """The error of a run that is whole in its folder, but not in its tracker."""
    waiting = len(Spool(folder / SPOOL).read())
    got = f"a finished run, whole in {folder}, whose files, model and {waiting} metrics were not all taken ({error})"
    cure = f"Run train.py --out {folder} --sync once it answers."
    return StorageError(explain("tracking", got=got, allowed="MLflow that takes them", cure=cure))


def sync(out: Path, tracking: TrackingConfig, store: str = "") -> str:
    """Deliver what a run, or each `seed-N` in a folder, could not give to its tracker; trains nothing, reads no data.

    Args:
        out: Run folder, or the folder of several.
        tracking: Where to.
        store: Where finished models are published, if anywhere.

    Returns:
        One line for each run.

    Raises:
        ConfigError: Tracking is off.
        StorageError: There is no run, it was never tracked, another process is at work in it, or the tracker does not
            answer; what is not delivered is still there.
    """
    if not tracking.enabled:
        cure = "Leave --sync out, or set --tracking.enabled True."
        raise ConfigError(explain("--sync", got="tracking.enabled False", allowed="a tracked run", cure=cure))
    folders = [out] if (out / CONFIG).exists() else sorted(path.parent for path in out.glob(f"seed-*/{CONFIG}"))
    if not folders:
        cure = "Give --out with the run's folder."
        raise StorageError(explain(f"sync {out}", got=f"no {CONFIG}", allowed="a run folder", cure=cure))
    return "\n".join(f"{folder}: {_sync_run(folder, tracking, store)}" for folder in folders)


def _sync_run(folder: Path, tracking: TrackingConfig, store: str) -> str:
    with locked(folder):
        waiting, finished = len(Spool(folder / SPOOL).read()), is_finished(folder)
        cure = f"train.py --out {folder} --resume goes on."
        if not finished and not waiting:
            return f"nothing waits; the run has not reached its end, {cure}"
        note = read_note(folder)
        if not note.run_id:
            got = "a run that was never tracked"
            raise StorageError(
                explain(f"sync {folder}", got=got, allowed="a tracked one", cure=f"With --resume {cure}")
            )
        tracker = open_tracker(tracking, folder)
        tracker.start(folder.name, asdict(configs.load(str(folder / CONFIG))), note.run_id)
        if not finished:
            tracker.finish("KILLED")
            return f"{waiting} metrics delivered, no model; the run has not reached its end, {cure}"
        version, told, published = hand_over(folder, tracking, tracker, store)
        registered = f"delivered: {waiting} metrics that waited, files, and {tracking.registered_name} {version}"
        more = [told, in_words(published, store) if published else ""]
        return "; ".join([registered, *filter(None, more)])


def _told(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What of `metrics.json` is tracked as metrics."""
    flat = {f"test/{key}_m": value for key, value in metrics["error_m"].items()}
    flat |= {f"test/coverage_{key}": value for key, value in metrics["coverage"].items()}
    return flat | {"test/nll_nats_per_fix": metrics["nll_nats_per_fix"]}
