"""Stores and devices from the environment, and one task on a device at a time."""

import os
import subprocess
import sys

import pytest

from heimdall_jax.errors import ConfigError
from heimdall_jax.jobs.devices import free_slot
from heimdall_jax.jobs.settings import celery_settings, devices, visibility_s
from tests.laws import ROOT


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "HEIMDALL_VISIBILITY_SECONDS", "HEIMDALL_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("HEIMDALL_JOBS", str(tmp_path / "jobs"))


def test_embedded_stores_are_folders(tmp_path):
    settings = celery_settings()
    assert settings["broker_url"] == "filesystem://"
    assert settings["result_backend"] == f"file://{tmp_path}/jobs/results"
    assert sorted(os.listdir(tmp_path / "jobs")) == ["control", "queue", "results"]


def test_redis_keeps_results_too_and_gives_lost_tasks_again(monkeypatch, tmp_path):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://redis:6379/0")
    monkeypatch.setenv("HEIMDALL_VISIBILITY_SECONDS", "5")
    settings = celery_settings()
    assert settings["result_backend"] == "redis://redis:6379/0"
    assert settings["broker_transport_options"]["visibility_timeout"] == 5
    assert not (tmp_path / "jobs").exists()
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://other:6379/1")
    assert celery_settings()["result_backend"] == "redis://other:6379/1"


def test_only_json_travels():
    settings = celery_settings()
    assert settings["accept_content"] == settings["result_accept_content"] == ["json"]
    assert settings["task_serializer"] == settings["result_serializer"] == "json"


@pytest.mark.parametrize("text", ["0", "soon", "inf", "nan"])
def test_a_wrong_visibility_is_told(monkeypatch, text):
    monkeypatch.setenv("HEIMDALL_VISIBILITY_SECONDS", text)
    with pytest.raises(ConfigError, match="HEIMDALL_VISIBILITY_SECONDS"):
        visibility_s()


def test_devices(monkeypatch):
    assert devices() == ("all",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices() == ("all",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f")
    assert devices() == ("2", "GPU-8f")
    monkeypatch.setenv("HEIMDALL_DEVICES", "0, cpu")
    assert devices() == ("0", "cpu")
    for wrong in ("", "0,0", "0,"):
        monkeypatch.setenv("HEIMDALL_DEVICES", wrong)
        with pytest.raises(ConfigError, match="HEIMDALL_DEVICES"):
            devices()


def test_a_device_is_had_once_and_by_who_inherits_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HEIMDALL_DEVICES", "0,cpu")
    with free_slot(tmp_path / "locks") as first, free_slot(tmp_path / "locks") as second:
        assert first is not None
        assert second is not None
        assert (first.environment, second.environment) == ({"CUDA_VISIBLE_DEVICES": "0"}, {"JAX_PLATFORMS": "cpu"})
        with free_slot(tmp_path / "locks") as third:
            assert third is None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[first.descriptor])
    with free_slot(tmp_path / "locks") as now:
        assert now is not None
        assert now.device == "cpu"  # the child works on the other
    child.communicate(b"\n")
    with free_slot(tmp_path / "locks") as now:
        assert now is not None
        assert now.device == "0"


def test_the_whole_machine_is_left_as_it_is(tmp_path):
    with free_slot(tmp_path) as slot:
        assert slot is not None
        assert slot.environment == {}


def test_a_worker_imports_no_jax(tmp_path):
    """A JAX that is started before a worker forks hangs in its children."""
    program = "import sys, heimdall_jax.jobs.tasks; print({'jax', 'flax'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "set()\n"
