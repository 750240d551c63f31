"""The compose file, read as YAML: no Docker is here to run it."""

import re
from typing import Any

import pytest
import yaml

from heimdall_jax.jobs import settings
from heimdall_jax.sources.rows import BUCKET
from tests.laws import ROOT

FILE = ROOT / "docs" / "compose.yaml"
SERVICES = {"postgres", "minio", "buckets", "mlflow", "redis", "worker"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


def test_services_wait_for_healthy_ones(services: dict[str, Any]) -> None:
    assert services.keys() == SERVICES
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"buckets"}
    waited = {name: service.get("depends_on", {}) for name, service in services.items()}
    for name, others in waited.items():
        for other, how in others.items():
            ends = "service_completed_successfully" if other == "buckets" else "service_healthy"
            assert how == {"condition": ends}, (name, other)
    assert set(waited["worker"]) == {"postgres", "redis", "mlflow"}


def test_no_secret_has_a_value_and_all_are_in_the_example(services: dict[str, Any]) -> None:
    text = FILE.read_text(encoding="utf-8")
    asked = dict(re.findall(r"(?<!\$)\$\{(\w+)(:\?)?[^}]*\}", text))
    assert set(asked.values()) == {":?"}, "a variable that may be absent"
    example = (ROOT / "docs" / "compose.env.example").read_text(encoding="utf-8")
    assert re.findall(r"^(\w+)=(.*)$", example, re.M) == [(name, "") for name in asked]
    secret = re.compile("PASSWORD|SECRET|ACCESS_KEY|ROOT_USER|BROKER")
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert "${" in value, name


def test_it_names_what_the_code_reads(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert {settings.BROKER, settings.JOBS} <= worker["environment"].keys()
    assert "-A heimdall_jax.jobs.app worker --pool prefork" in worker["command"]
    made = services["buckets"]["command"][0]
    assert f"platform/{BUCKET} " in made
    assert "platform/heimdall-models platform/mlflow" in made
    command = services["mlflow"]["command"].split()
    assert "mlflow:5000" in command[command.index("--allowed-hosts") + 1]  # else it answers a worker with 403
    copied = re.findall(r"^COPY (.*) \S+$", worker["build"]["dockerfile_inline"], re.M)
    assert copied
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
