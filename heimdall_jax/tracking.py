"""Where a run's parameters, metrics and models are recorded: the only door to MLflow.

By default MLflow is embedded: one SQLite file in the folder that holds the run folder, artifacts beside it;
`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` opens it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heimdall_jax.config import TrackingConfig
from heimdall_jax.errors import StorageError, explain
from heimdall_jax.trackers import MemoryTracker, MetricBuffer, NoopTracker, Tracker, flatten, no_such_run

__all__ = ["MemoryTracker", "MlflowTracker", "NoopTracker", "Tracker", "open_tracker"]

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
METRICS_PER_CALL = 1000
"""MLflow refuses more in one `log_batch`."""
PARAMETERS_PER_CALL = 100
RETRIES = "3"
"""Of a request to a tracking server; MLflow's own 7 try a wrong address for minutes."""


class MlflowTracker:
    """Records in MLflow; only this class imports it, when it is made."""

    def __init__(self, uri: str, experiment: str, artifact_location: str | None = None) -> None:
        self._mlflow = _import_mlflow()
        self._uri = uri
        self._experiment = experiment
        self._artifact_location = artifact_location
        with self._storing("tracking database"):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            self._experiment_id = self._find_or_create_experiment()
        self._buffer = MetricBuffer()
        self._run_id = ""

    def start(self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None) -> str:
        entities = self._mlflow.entities
        with self._storing("start of a tracked run"):
            if run_id is None:
                run = self._client.create_run(self._experiment_id, run_name=run_name)
            else:
                run = self._find_run(run_id)
                self._client.update_run(run_id, status="RUNNING")
            self._run_id = run.info.run_id
            known = run.data.params
            new = [entities.Param(key, text) for key, text in flatten(parameters).items() if key not in known]
            for first in range(0, len(new), PARAMETERS_PER_CALL):
                self._client.log_batch(self._run_id, params=new[first : first + PARAMETERS_PER_CALL])
            # Step by step and key by key: a kill may have stored some keys of a step and not the others.
            history = {key: self._client.get_metric_history(self._run_id, key) for key in run.data.metrics}
        self._buffer.start({key: {metric.step for metric in metrics} for key, metrics in history.items()})
        return self._run_id

    def attach(self, run_id: str) -> None:
        with self._storing("tracked run"):
            self._run_id = self._find_run(run_id).info.run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._buffer.add(step, metrics)

    def flush(self) -> None:
        metric, now_ms = self._mlflow.entities.Metric, int(time.time() * 1000)
        for chunk in self._buffer.chunks(METRICS_PER_CALL):
            with self._storing("metrics"):
                rows = [metric(row.key, row.value, now_ms, row.step) for row in chunk]
                self._client.log_batch(self._run_id, metrics=rows)

    def last_step(self) -> int:
        return self._buffer.last_step

    def log_artifact(self, path: Path, folder: str = "") -> None:
        with self._storing(f"artifact {path.name}"):
            self._client.log_artifact(self._run_id, str(path), folder or None)

    def register_model(self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str) -> str:
        """Store the ONNX model, its signature and its manifest, and point the alias at the new version.

        Registering the same file twice in one run, as a resumed run may, gives the version it already has.
        """
        digest = str(manifest["sha256"])
        with self._storing(f"model {name}"):
            version = self._registered_version(name, digest) or self._log_model(onnx_path, manifest, name)
            self._client.set_registered_model_alias(name, alias, version)
        return version

    def finish(self, status: str = "FINISHED") -> None:
        self.flush()
        with self._storing("end of the tracked run"):
            self._client.set_terminated(self._run_id, status=status)

    def _find_or_create_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(self._experiment, artifact_location=self._artifact_location)

    def _find_run(self, run_id: str) -> Any:
        try:
            return self._client.get_run(run_id)
        except self._mlflow.exceptions.MlflowException as error:
            raise no_such_run(run_id, self._uri) from error

    def _registered_version(self, name: str, digest: str) -> str | None:
        for version in self._client.search_model_versions(f"run_id='{self._run_id}'"):
            if version.name == name and version.tags.get("sha256") == digest:
                return str(version.version)
        return None

    def _log_model(self, onnx_path: Path, manifest: Mapping[str, Any], name: str) -> str:
        """Save the model as MLflow's ONNX flavour and make it a version.

        `mlflow.onnx.log_model` would do the same through process-wide state: it logs to the default experiment of
        whatever store is current, prints, and leaves a folder in the working directory.
        """
        client, run_id = self._client, self._run_id
        model = client.create_logged_model(self._experiment_id, name="model", source_run_id=run_id)
        with tempfile.TemporaryDirectory() as folder:
            save_onnx_flavour(onnx_path, manifest, Path(folder) / "model", run_id, model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [self._mlflow.entities.LoggedModelOutput(model.model_id, step=0)])
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        tags = {"sha256": str(manifest["sha256"])}
        # Not "models:/<id>", which the SQL registry would look up in the process-wide store.
        source = model.artifact_location
        version = client.create_model_version(name, source, run_id, tags, model_id=model.model_id)
        return str(version.version)

    @contextmanager
    def _storing(self, what: str) -> Iterator[None]:
        """MLflow's and its database's failures as the house's own."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            ours = isinstance(error, (self._mlflow.exceptions.MlflowException, OSError))
            if not ours and not type(error).__module__.startswith("sqlalchemy"):
                raise
            problem = " ".join(str(error).split())
            cure = "Check its address and its disk, or run with --tracking.enabled False."
            if any(words in problem for words in ("No space left", "disk is full")):  # Python's words, SQLite's
                problem, cure = os.strerror(errno.ENOSPC), "Free space and run again with --resume."
            allowed = f"a writable MLflow store at {self._uri}"
            raise StorageError(explain(what, got=problem[:300], allowed=allowed, cure=cure)) from error


def open_tracker(config: TrackingConfig, run_folder: Path) -> Tracker:
    """The tracker that the config asks for; by default SQLite in the folder that holds the run folder.

    Raises:
        StorageError: That folder or its database cannot be used.
    """
    if not config.enabled:
        return NoopTracker()
    if config.uri:
        return MlflowTracker(config.uri, config.experiment)
    folder = run_folder.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / DATABASE
        # MLflow itself would retry a file that is no database for minutes.
        with database.open("a+b") as file:
            file.seek(0)
            start = file.read(15)
    except OSError as error:
        raise StorageError(
            explain("runs folder", got=error, allowed="a writable folder", cure="Choose another --out.")
        ) from error
    if start not in (b"", b"SQLite format 3"):
        raise StorageError(
            explain("tracking database", got=f"{database}", allowed="SQLite", cure="Move that file away.")
        )
    return MlflowTracker(f"sqlite:///{database}", config.experiment, (folder / ARTIFACTS).as_uri())


def _import_mlflow() -> Any:
    """MLflow, silent and without its telemetry, which it switches on when imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", RETRIES)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def save_onnx_flavour(onnx_path: Path, manifest: Mapping[str, Any], folder: Path, run_id: str, model_id: str) -> None:
    """Write a model as a folder that MLflow loads as `onnx` and as `pyfunc`, its manifest in `extra_files`."""
    import onnx

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as aside:
        # About a type of MLflow's own, shown to the user.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        from mlflow.models import Model, ModelSignature
        from mlflow.onnx import save_model

        manifest_path = Path(aside) / "manifest.json"
        manifest_path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        save_model(
            onnx.load(onnx_path, load_external_data=False),
            folder,
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=ModelSignature(inputs=_schema(manifest["inputs"]), outputs=_schema(manifest["outputs"])),
            pip_requirements=["onnxruntime", "numpy"],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            extra_files=[str(manifest_path)],
        )


def _schema(tensors: Sequence[Mapping[str, Any]]) -> Any:
    """MLflow's schema of a manifest's inputs or outputs; optional inputs stay out, for MLflow has no such thing."""
    from mlflow.types import Schema, TensorSpec
    from numpy import dtype

    return Schema(
        [
            TensorSpec(
                dtype(tensor["dtype"]),
                [size if isinstance(size, int) else -1 for size in tensor["shape"]],
                tensor["name"],
            )
            for tensor in tensors
            if not tensor.get("optional", False)
        ]
    )
