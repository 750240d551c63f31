"""Where sessions come from and where runs are tracked: stores chosen by a URL, embedded by default. Imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Where the sessions come from and how they are split."""

    source: Literal["simulation", "powder", "catalogue", "prepared"] = "simulation"
    path: str = ""
    """Folder of the data set (powder, catalogue, prepared), or the URL of a catalogue's database."""
    objects: str = ""
    """Store of a catalogue's recordings; empty: the folder's own, or s3://heimdall-raw-iq for a URL."""
    split: str = "random"
    """random, time, block, none, or a JSON file whose keys name the test transmissions."""
    validation_fraction: float = 0.15
    """Share of the training rows held out for validation."""
    validation_seed: int = 0
    limit: int | None = None
    """Train on at most this many transmissions."""
    min_receivers: int = 3
    """Transmissions heard by fewer are skipped and counted."""
    cache: str = ""
    """Folder for cached features; empty: `cache` beside the run folder."""


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow."""

    enabled: bool = True
    uri: str = ""
    """Tracking server; empty: MLFLOW_TRACKING_URI of the environment, else SQLite beside the run folder."""
    experiment: str = "heimdall"
    registered_name: str = "heimdall-net"
    alias: str = "candidate"
    champion: str = "champion"
    """Alias that moves to a new version which is better for sure; empty: none."""
