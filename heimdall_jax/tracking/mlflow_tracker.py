"""Where a run's parameters, metrics and models are recorded: MLflow, embedded or at a server.

By default MLflow is embedded: one SQLite file in the folder that holds the run folder, artifacts beside it;
`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` opens it. A server is named by `tracking.uri`, or else by the
environment's MLFLOW_TRACKING_URI. Only this room imports MLflow.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heimdall_jax.config import TrackingConfig
from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import StorageError, explain
from heimdall_jax.tracking.client import ADDRESS, HURRY, ask, ask_once, environment, import_mlflow
from heimdall_jax.tracking.metric_buffer import MetricBuffer
from heimdall_jax.tracking.registry import Origin, promote, register
from heimdall_jax.tracking.spool import SPOOL, Row, Spool
from heimdall_jax.tracking.trackers import NoopTracker, Tracker, flatten, no_such_run

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
METRICS_PER_CALL = 1000
"""MLflow refuses more in one `log_batch`."""
PARAMETERS_PER_CALL = 100
TOKEN = "heimdall.token"
"""Tag by which a run is found whose id nobody lived to note."""
Result = TypeVar("Result")


class MlflowTracker:
    """Records in MLflow, which is imported when one is made.

    Args:
        uri: Of a server or a database.
        experiment: Name; made if absent.
        artifact_location: For a new experiment; the server's own if None.
        spool: Where metrics wait while the server is away; without one that is an error.

    Raises:
        TrackerAway: The server stays away, or refuses (any method but `log`, and with a spool `flush`).
        StorageError: The store failed otherwise (likewise).
    """

    def __init__(
        self, uri: str, experiment: str, artifact_location: str | None = None, spool: Spool | None = None
    ) -> None:
        self._mlflow = import_mlflow()
        self._uri = uri
        self._experiment = experiment
        self._artifact_location = artifact_location
        self._buffer = MetricBuffer(spool)
        self._run_id = ""
        self._client, self._experiment_id = self._patiently("tracking database", self._connect)

    def start(
        self, run_name: str, parameters: Mapping[str, object], run_id: str | None = None, token: str | None = None
    ) -> str:
        begun = token or uuid.uuid4().hex
        run = self._patiently("start of a tracked run", lambda: self._begin(run_name, run_id, begun))
        self._run_id = run.info.run_id
        new = {key: text for key, text in flatten(parameters).items() if key not in run.data.params}
        self._patiently("parameters", lambda: self._log_parameters(new))
        self._buffer.start(self._patiently("metrics", lambda: self._stored_steps(list(run.data.metrics))))
        return self._run_id

    def attach(self, run_id: str) -> None:
        self._run_id = self._patiently("tracked run", lambda: self._find_run(run_id)).info.run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._buffer.add(step, metrics)

    def flush(self) -> None:
        with environment(HURRY):
            self._buffer.flush(self._write, METRICS_PER_CALL)

    def last_step(self) -> int:
        return self._buffer.last_step

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self._patiently(
            f"artifact {path.name}", lambda: self._client.log_artifact(self._run_id, str(path), folder or None)
        )

    def register_model(
        self, onnx_path: Path, manifest: Mapping[str, Any], name: str, alias: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Registering the same file twice in one run, as a resumed run may, gives the version it already has."""
        given, origin = tags or {}, Origin(self._client, self._experiment_id, self._run_id)
        on_run = [self._mlflow.entities.RunTag(key, value) for key, value in given.items()]
        if on_run:
            self._patiently("tags", lambda: self._client.log_batch(self._run_id, tags=on_run))
        return self._patiently(f"model {name}", lambda: register(origin, onnx_path, manifest, name, alias, given))

    def promote(self, name: str, version: str, champion: str) -> str:
        return self._patiently(f"champion of {name}", lambda: promote(self._client, name, version, champion))

    def finish(self, status: str = "FINISHED") -> None:
        if status == "FINISHED":
            self._patiently("metrics", self._store)
            self._patiently("end of the tracked run", lambda: self._end(status))
        else:
            with environment(HURRY):
                self._store()
                ask_once("end of the tracked run", self._uri, lambda: self._end(status))

    def _connect(self) -> tuple[Any, str]:
        client = self._mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            with contextlib.suppress(self._mlflow.exceptions.MlflowException):  # another run may be as far; asked below
                return client, client.create_experiment(self._experiment, artifact_location=self._artifact_location)
            found = client.get_experiment_by_name(self._experiment)
        return client, found.experiment_id

    def _begin(self, run_name: str, run_id: str | None, token: str) -> Any:
        """The run of that id or token, running; else a new one."""
        if run_id is not None:
            run = self._find_run(run_id)
        else:
            found = self._client.search_runs([self._experiment_id], f"tags.`{TOKEN}` = '{token}'")
            if not found:
                return self._client.create_run(self._experiment_id, run_name=run_name, tags={TOKEN: token})
            run = found[0]
        self._client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _find_run(self, run_id: str) -> Any:
        try:
            return self._client.get_run(run_id)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise no_such_run(run_id, self._uri) from error

    def _log_parameters(self, texts: Mapping[str, str]) -> None:
        new = [self._mlflow.entities.Param(key, text) for key, text in texts.items()]
        for first in range(0, len(new), PARAMETERS_PER_CALL):
            self._client.log_batch(self._run_id, params=new[first : first + PARAMETERS_PER_CALL])

    def _stored_steps(self, keys: Sequence[str]) -> dict[str, set[int]]:
        """Step by step and key by key: a kill may have stored some keys of a step and not the others."""
        history = {key: self._client.get_metric_history(self._run_id, key) for key in keys}
        return {key: {metric.step for metric in metrics} for key, metrics in history.items()}

    def _store(self) -> None:
        self._buffer.store(self._write, METRICS_PER_CALL)

    def _write(self, rows: Sequence[Row]) -> None:
        """Rows carry their own time: sent again because an answer was lost, they are those that the store has."""
        metric = self._mlflow.entities.Metric
        batch = [metric(row.key, row.value, row.time_ms, row.step) for row in rows]
        ask_once("metrics", self._uri, lambda: self._client.log_batch(self._run_id, metrics=batch))

    def _end(self, status: str) -> None:
        self._client.set_terminated(self._run_id, status=status)

    def _patiently(self, what: str, action: Callable[[], Result]) -> Result:
        return ask(what, self._uri, action)


def tracking_address(config: TrackingConfig) -> str:
    """Where a config's runs are tracked: its own address, else the environment's; empty: beside the run folder.

    Raises:
        ConfigError: The environment's holds a secret.
    """
    if config.uri:
        return config.uri
    address = os.environ.get(ADDRESS, "")
    refuse_secret(ADDRESS, address)
    return address


def tracked_at(config: TrackingConfig, run_folder: Path) -> str:
    """The address of a run's tracker: a server's, or that of SQLite in the folder that holds the run folder."""
    return tracking_address(config) or f"sqlite:///{run_folder.absolute().parent / DATABASE}"


def open_tracker(config: TrackingConfig, run_folder: Path) -> Tracker:
    """The tracker that the config asks for; by default SQLite in the folder that holds the run folder.

    Metrics that it does not take wait in the run folder's spool.

    Raises:
        ConfigError: The environment's address holds a secret.
        StorageError: That folder or its database cannot be used, or the server does not answer or refuses.
    """
    if not config.enabled:
        return NoopTracker()
    spool = Spool(run_folder / SPOOL)
    address = tracking_address(config)
    if address:
        return MlflowTracker(address, config.experiment, spool=spool)
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
    return MlflowTracker(tracked_at(config, run_folder), config.experiment, (folder / ARTIFACTS).as_uri(), spool)
