"""What tasks are asked for: plain JSON, checked before it is sent and again where it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heimdall_jax import config as configs
from heimdall_jax.config import Config
from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.trees import build


@dataclass(frozen=True)
class Request:
    """What all tasks have: arguments that are names, paths and numbers, and never secrets.

    Raises:
        ConfigError: An argument carries a secret or is out of its range.
    """

    def __post_init__(self) -> None:
        for argument, value in vars(self).items():
            if isinstance(value, str):
                refuse_secret(f"task argument {argument}", value)


@dataclass(frozen=True)
class RunRequest(Request):
    """What works on a finished run."""

    run: str

    @property
    def folder(self) -> str:
        """Of the run."""
        return self.run


@dataclass(frozen=True)
class TrainRequest(Request):
    """Train a run in the folder `out`, or go on with the one in it."""

    out: str
    config: str | dict = "simulation"
    """A named config, a YAML file, or a config's tree."""
    changes: dict = field(default_factory=dict)
    """Settings by their dotted names, as `{"training.epochs": 5}`."""

    @property
    def folder(self) -> str:
        """Of the run."""
        return self.out

    def settings(self) -> Config:
        """Everything the run depends on.

        Raises:
            ConfigError: A setting is unknown, wrong or secret.
            StorageError: The YAML file cannot be read.
        """
        given = self.config
        tree = dataclasses.asdict(configs.from_tree(given) if isinstance(given, dict) else configs.load(given))
        for name, value in self.changes.items():
            *path, last = str(name).split(".")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    cure = "Name a setting as training.epochs."
                    raise ConfigError(explain("task argument changes", got=name, allowed="settings", cure=cure))
            node[last] = value
        return configs.from_tree(tree)


@dataclass(frozen=True)
class EvaluateRequest(RunRequest):
    """Measure a finished run, as `evaluate.py` does."""

    data: str | None = None
    objects: str | None = None
    split: str | None = None
    out: str | None = None
    conditions: int | None = None
    faults: bool = False
    report: bool = False


@dataclass(frozen=True)
class ExportRequest(RunRequest):
    """Prove that a run's exported model is its checkpoint, as `validate_export.py` does."""


@dataclass(frozen=True)
class PublishRequest(RunRequest):
    """Publish a run's model in a store, as `validate_export.py --publish` does."""

    store: str
    name: str | None = None
    version: str | None = None


REQUESTS: Mapping[str, type[TrainRequest | RunRequest]] = {
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "export": ExportRequest,
    "publish": PublishRequest,
}


def checked(name: str, arguments: Mapping[str, Any]) -> TrainRequest | RunRequest:
    """The request of a task's arguments; a training's config is whole, whatever named it.

    Raises:
        ConfigError: An argument is missing, unknown, of the wrong type or secret, or a config's setting is.
        StorageError: The config's YAML file cannot be read.
    """
    kind = REQUESTS[name]
    required = [each.name for each in dataclasses.fields(kind) if _is_required(each)]
    missing = [argument for argument in required if argument not in arguments]
    if missing:
        got, allowed = f"no {' and no '.join(missing)}", f"at least {', '.join(required)}"
        raise ConfigError(explain(f"task {name}", got=got, allowed=allowed, cure="Give them by name."))
    request = build(kind, dict(arguments), f"{name}.")
    if isinstance(request, TrainRequest):
        return dataclasses.replace(request, config=_plain(dataclasses.asdict(request.settings())), changes={})
    return request


def _is_required(argument: dataclasses.Field[Any]) -> bool:
    return argument.default is dataclasses.MISSING and argument.default_factory is dataclasses.MISSING


def _plain(tree: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    lists = {key: list(value) for key, value in tree.items() if isinstance(value, tuple)}
    return tree | lists | {key: _plain(value) for key, value in tree.items() if isinstance(value, dict)}
