"""The deployment chapter's commands and snippets, run in their order on real servers, with its open names filled in.

Of its `export` line the names are taken: servers and keys are those that the test starts.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from kiwi_like import write_kiwi_like, write_places

from heimdall_jax.store import open_store
from tests import platform_like, servers
from tests.documentation import FENCE, TRAINING, section
from tests.jobs.workers import until
from tests.laws import ROOT
from tests.locate.made_up import PLACES, delay_s
from tests.powder_like import write_powder_like

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(1800)]
SMALL = f"--features.n-frames {platform_like.FRAMES} --model.width 16 --model.depth 1 --model.heads 2"
SMALL += " --training.epochs 2"
"""What a training of the chapter is given beside, so that it ends soon."""
TASKS = """
from heimdall_jax.jobs.tasks import evaluate, export, publish, train

def done(task):
    return task.get(timeout=600, interval=0.2)

again = train.delay(out="/runs/a", config="powder", changes={"data.path": "/data/powder", "training.epochs": 2})
print(done(again)["error_m"]["mean"] > 0)
print(done(evaluate.delay(run="runs/RUN"))["n"] > 0)
print(len(done(export.delay(run="runs/RUN"))["parity"]["rows"]) > 0)
print(done(publish.delay(run="runs/RUN", store="s3://heimdall-models", name="by-task", version="1"))["version"])
"""


class Chapter:
    """Runs what is written, with the names that it leaves open filled in."""

    def __init__(self, folder: Path, names: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._folder, self._names = folder, names
        inherited = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        paths = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self._environment = inherited | paths | dict(environment)
        self._worker: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def run(self, command: str) -> str:
        """What a command of the shell says; it must end well."""
        done = subprocess.run(
            ["bash", "-c", self._filled(command)],
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self._folder,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def python(self, program: str) -> str:
        (self._folder / "snippet.py").write_text(self._filled(program))
        return self.run("python snippet.py")

    def serve(self, command: str) -> None:
        """Start a worker, and wait until it is ready."""
        log = self._folder / "worker.log"
        with log.open("wb") as output:
            self._worker = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        until("the worker is ready", lambda: b" ready." in log.read_bytes())

    def close(self) -> None:
        if self._worker is not None:
            self._worker.terminate()
            self._worker.wait(timeout=60)


def test_the_deployment_chapter(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, recordings = tmp_path / "catalogue", tmp_path / "recordings"
    platform_like.write_platform(catalogue, good=110)
    write_places(recordings, PLACES)
    for name in PLACES:
        write_kiwi_like(recordings, name, hertz=145_000_000, delay_s=delay_s(name))
    (tmp_path / "runs").mkdir()
    for bucket in ("heimdall-raw-iq", "heimdall-models", "mlflow"):
        (tmp_path / "s3" / bucket).mkdir(parents=True)
    with servers.postgresql() as database, servers.s3(tmp_path / "s3") as s3, servers.redis() as redis:
        environment = servers.s3_environment(s3)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        platform_like.copy_platform(catalogue, database.url, open_store("s3://heimdall-raw-iq"))
        with servers.mlflow(tmp_path / "mlflow", mlflow_template, "s3://mlflow/artifacts") as tracking:
            names = {
                "postgresql://USER@HOST/DATABASE": database.url,
                "http://mlflow:5000": tracking.url,
                "scripts/": f"{ROOT}/scripts/",
                "CATALOGUE": str(catalogue),
                "SET": str(tmp_path / "set"),
                "FOLDER": str(recordings),
                "/runs/a": str(tmp_path / "runs" / "a"),
                "/data/powder": str(write_powder_like(tmp_path / "powder")),
            }
            told = {"MLFLOW_TRACKING_URI": tracking.url, "CELERY_BROKER_URL": redis.url}
            chapter = Chapter(tmp_path, names, environment | told | {"HEIMDALL_JOBS": str(tmp_path / "jobs")})
            try:
                said = follow(chapter)
            finally:
                chapter.close()
    assert re.search(r"method +model", said)
    assert (tmp_path / "s3" / "heimdall-models" / "by-task" / "1" / "manifest.json").exists()


def follow(chapter: Chapter) -> str:
    """All that the chapter's blocks say, and the tasks that it names beside the one it shows."""
    said = ""
    for language, body in FENCE.findall(section(TRAINING, "Deployment")):
        if language == "python":
            said += chapter.python(body)
            continue
        for line in body.splitlines():
            if line.startswith("celery "):
                chapter.serve(line)
            elif not line.startswith("export "):
                begins = "train.py" in line and "--resume" not in line and "--sync" not in line
                said += chapter.run(f"{line} {SMALL}" if begins else line)
    tasks = chapter.python(TASKS)
    assert tasks.split() == ["True", "True", "True", "1"]
    return said
