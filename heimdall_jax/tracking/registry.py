"""MLflow's registry of models: versions with tags, and the aliases that point at them.

Every function may be called again after a failure, or by a resumed run: what is there already is not made twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from heimdall_jax.tracking.flavour import save_onnx_flavour
from heimdall_jax.tracking.promotion import Version, judge

DIGEST = "sha256"
"""Tag by which a file is known again."""


class Origin(NamedTuple):
    """The tracked run that a model is from."""

    client: Any
    experiment_id: str
    run_id: str


def register(
    origin: Origin, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str, tags: Mapping[str, str]
) -> str:
    """Store a model, its signature and its manifest as a version with tags; the alias never moves to an older one."""
    client, told = origin.client, {**tags, DIGEST: str(manifest[DIGEST])}
    version = registered_as(client, origin.run_id, name, told[DIGEST])
    if version is None:
        version = _log_model(origin, onnx_path, manifest, name, told)
    else:
        for key, value in told.items():
            client.set_model_version_tag(name, version, key, value)
    held = client.get_registered_model(name).aliases.get(alias)
    if held is None or int(held) < int(version):
        client.set_registered_model_alias(name, alias, version)
    return version


def promote(client: Any, name: str, version: str, champion: str) -> str:
    """Move the alias of the champion if the candidate is better for sure; gives the reason.

    The champion is read again just before: a candidate that another process promoted meanwhile is judged against.
    MLflow cannot compare and set in one, so that two within the same few milliseconds both move it; the later stays.
    """
    candidate = Version(version, client.get_model_version(name, version).tags)
    holder = _holder(client, name, champion)
    while True:
        verdict = judge(candidate, holder)
        if not verdict.moves:
            return verdict.reason
        again = _holder(client, name, champion)
        if (again and again.number) == (holder and holder.number):
            client.set_registered_model_alias(name, champion, version)
            return verdict.reason
        holder = again


def _holder(client: Any, name: str, alias: str) -> Version | None:
    """The version that an alias points at."""
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else Version(str(number), client.get_model_version(name, str(number)).tags)


def registered_as(client: Any, run_id: str, name: str, digest: str) -> str | None:
    """The newest version as which a run registered a file of this SHA-256; None if it did not."""
    versions = client.search_model_versions(f"run_id='{run_id}'")
    found = [each for each in versions if each.name == name and each.tags.get(DIGEST) == digest]
    return max((str(each.version) for each in found), key=int, default=None)


def _log_model(origin: Origin, onnx_path: Path, manifest: Mapping[str, Any], name: str, tags: Mapping[str, str]) -> str:
    """Save the model as MLflow's ONNX flavour and make it a version.

    `mlflow.onnx.log_model` would do the same through process-wide state: it logs to the default experiment of
    whatever store is current, prints, and leaves a folder in the working directory.
    """
    from mlflow.entities import LoggedModelOutput

    client, experiment_id, run_id = origin
    same = f"source_run_id='{run_id}' AND tags.{DIGEST}='{tags[DIGEST]}'"
    model = next(iter(client.search_logged_models([experiment_id], same)), None)
    if model is None:
        digest = {DIGEST: tags[DIGEST]}
        model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id, tags=digest)
    with tempfile.TemporaryDirectory() as folder:
        save_onnx_flavour(onnx_path, manifest, Path(folder) / "model", run_id, model.model_id)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    # Not "models:/<id>", which the SQL registry would look up in the process-wide store.
    source = model.artifact_location
    version = client.create_model_version(name, source, run_id, dict(tags), model_id=model.model_id)
    return str(version.version)
