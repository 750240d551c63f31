"""Where tasks wait and results are kept: stores chosen by the environment, files in one folder by default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from heimdall_jax.errors import ConfigError, explain

BROKER, BACKEND = "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"
JOBS, DEVICES = "HEIMDALL_JOBS", "HEIMDALL_DEVICES"
VISIBILITY_SECONDS = "HEIMDALL_VISIBILITY_SECONDS"
DEFAULT_VISIBILITY_S = 3600.0
QUEUE = "heimdall"
RESULTS_EXPIRE_S = 30 * 86400
WHOLE_MACHINE = "all"
"""The only device where none is named: one task at a time, which sees what the machine has."""


def jobs_folder() -> Path:
    """Folder of device locks, and of queue and results where no servers are named."""
    return Path(os.environ.get(JOBS) or "jobs").absolute()


def visibility_s() -> float:
    """Seconds after which Redis gives a task that nobody has finished to another worker.

    Raises:
        ConfigError: The environment's value is no number of seconds, 1 or more.
    """
    text = os.environ.get(VISIBILITY_SECONDS, "")
    try:
        seconds = float(text) if text else DEFAULT_VISIBILITY_S
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < float("inf"):
        allowed, cure = "seconds, 1 or more", "Correct or unset it."
        raise ConfigError(explain(VISIBILITY_SECONDS, got=repr(text), allowed=allowed, cure=cure))
    return seconds


def devices() -> tuple[str, ...]:
    """Devices of this machine, each of which one task has at a time.

    Raises:
        ConfigError: One is named twice, or a name is empty.
    """
    text = os.environ.get(DEVICES)
    if text is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return tuple(visible.split(",")) if visible not in {"", "-1"} else (WHOLE_MACHINE,)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        cure = "As CUDA_VISIBLE_DEVICES: 0,1. Unset it for one task at a time."
        raise ConfigError(explain(DEVICES, got=repr(text), allowed="different names, joined by commas", cure=cure))
    return names


def celery_settings() -> dict[str, Any]:
    """Of the app. Only JSON travels; a task is acknowledged when it is done, so a lost worker's is given again.

    Raises:
        ConfigError: A variable of the environment is wrong.
        OSError: The folder of the embedded queue cannot be made.
    """
    broker = os.environ.get(BROKER) or "filesystem://"
    backend = os.environ.get(BACKEND) or (broker if broker.startswith("redis") else "")
    given: dict[str, Any] = {
        "broker_url": broker,
        "broker_transport_options": _transport_options(broker),
        "result_backend": backend or _made("results").as_uri(),
    }
    return given | {
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": QUEUE,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend_always_retry": True,
        "result_backend_max_retries": float("inf"),
        "result_expires": RESULTS_EXPIRE_S,
    }


def _transport_options(broker: str) -> dict[str, Any]:
    if broker.startswith("filesystem:"):
        queue, control = str(_made("queue")), str(_made("control"))
        return {"data_folder_in": queue, "data_folder_out": queue, "control_folder": control}
    if broker.startswith("redis"):
        seconds = visibility_s()
        # Looked for every `unacked_restore_interval`, not only every hundred seconds.
        restore = {"unacked_restore_interval": min(10.0, seconds), "unacked_restore_throttle": 1}
        return {"visibility_timeout": seconds, "socket_keepalive": True, **restore}
    return {}


def _made(name: str) -> Path:
    folder = jobs_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
