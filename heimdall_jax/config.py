"""The configuration tree: one source per fact, frozen, saved beside every checkpoint. Imports no JAX."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from heimdall_jax.credentials import refuse_secret
from heimdall_jax.errors import ConfigError, DataError, StorageError, explain
from heimdall_jax.export_settings import ExportConfig
from heimdall_jax.feature_settings import FeatureConfig, TimingConfig
from heimdall_jax.outside import MAX_YAML_BYTES, parse_yaml, read_file
from heimdall_jax.propagation import RadioMapConfig
from heimdall_jax.store_settings import DataConfig, TrackingConfig
from heimdall_jax.trees import build
from heimdall_jax.worlds import TIMING_WORLD, WorldConfig


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and its size."""

    name: Literal["localization_net", "receiver_set", "radio_map"] = "localization_net"
    backbone: Literal["resnet18", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large"] = "resnet18"
    """Backbone of localization_net."""
    receivers: int = 7
    """Channels of localization_net; the receiver-set network takes any number."""
    dropout: float = 0.2
    width: int = 128
    """Token width of receiver_set."""
    depth: int = 4
    heads: int = 4
    identity: bool = True
    """Embed the identity of known receivers."""
    identity_dropout: float = 0.3
    """Share of receivers whose identity is hidden in training, so that unknown ones work."""
    power: bool = True
    """Let receiver_set read received powers."""
    snr: bool = False
    """Let receiver_set read each receiver's own measure of signal over noise, where it is known."""
    timing: bool = False
    """Let receiver_set solve for the place from arrival times, about what powers say."""
    spectrogram: bool = False
    """Encode each receiver's mel spectrogram into its token."""
    sigma_min_m: float = 1.0
    sigma_max_m: float = 1_000_000.0


@dataclass(frozen=True)
class AugmentationConfig:
    """Applied to training batches only."""

    receiver_dropout: float = 0.0
    """Probability that a receiver's measurement is hidden."""
    power_offset_db: float = 0.0
    """Standard deviation of an offset common to all receivers of a transmission."""
    noise_db: float = 0.0
    """Standard deviation of noise on each power or spectrogram."""
    simulated: float = 0.0
    """Share of each batch replaced by samples drawn from a radio map fitted to the training rows (powers only)."""
    fade_from: float = 1.0
    """From this share of the training on, augmentation fades linearly to none at its end; 1: never."""


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation and stopping."""

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    clip_norm: float = 1.0
    ema_decay: float | None = None
    """Decay of an exponential moving average of the weights, used for evaluation; off when null."""
    part_weight: float = 0.3
    """Weight of the loss of what a network says on the way to its answer (of powers alone, where it fuses)."""
    outliers: float = 0.0
    """Share of fixes that the loss takes for lost, as far off as powers alone would be; for networks that fuse."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the steps compute in; weights, optimizer and loss are float32, and so is what a trained network answers."""
    sharding: Literal["replicated", "fsdp"] = "replicated"
    """Parameters and moments whole on each device, or each large one cut among all of them (fully sharded)."""
    rematerialise: bool = False
    """Compute activations inside of blocks a second time for the gradient instead of keeping them: slower, smaller."""
    patience: int = 20
    """Stop after this many evaluations without a better validation loss."""
    evaluations_per_epoch: float = 1.0
    """Below 1: an evaluation every few epochs."""
    checkpoint_seconds: float = 60.0
    """Save at an evaluation, or after this long."""
    spike_factor: float | None = None
    """Go back from a step whose loss is above the median of those before by so many robust standard deviations."""
    spike_window: int = 100
    """Losses that a spike is told by, and the steps between the checkpoints that are gone back to."""
    spike_rollbacks: int = 3
    """At most; what is not finite is gone back from, too, and ends the run once they are used up."""
    prefetch: int = 8


POSITIVE = (
    "data.min_receivers",
    *(f"model.{name}" for name in ("receivers", "width", "depth", "heads", "sigma_min_m", "sigma_max_m")),
    *(f"training.{name}" for name in ("epochs", "batch_size", "learning_rate", "clip_norm", "patience")),
    "training.evaluations_per_epoch",
    *(f"training.{name}" for name in ("spike_factor", "spike_window", "spike_rollbacks")),
    *(f"radio_map.{name}" for name in ("shadowing_db", "correlation_m", "noise_db", "spacing_m", "moving_std_db")),
    *(f"radio_map.{name}" for name in ("neighbours", "missed")),
)
NOT_NEGATIVE = (
    "seed",
    "data.validation_seed",
    "augmentation.power_offset_db",
    "augmentation.noise_db",
    "augmentation.fade_from",
    *(f"radio_map.{name}" for name in ("margin_m", "offset_db", "inflation", "fingerprints")),
    *(f"training.{name}" for name in ("weight_decay", "checkpoint_seconds", "prefetch", "part_weight")),
)
SHARE = (
    "model.dropout",
    "model.identity_dropout",
    "augmentation.receiver_dropout",
    "augmentation.simulated",
    "training.warmup_fraction",
    "training.ema_decay",
    "training.outliers",
    "radio_map.missed",
)
"""Ranges of the settings that no room checks itself."""
MOST = {"model.receivers": 1000, "model.width": 8192, "model.depth": 200, "model.heads": 1024}
"""A network beyond them fits no machine: a record that was altered must not ask for one."""


@dataclass(frozen=True)
class Config:
    """Everything a run depends on.

    Raises:
        ConfigError: A setting is outside its range.
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    radio_map: RadioMapConfig = field(default_factory=RadioMapConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        self.export.check(self.model.name, timing=self.model.timing)
        for name, most in MOST.items():
            value = getattr(self.model, name.removeprefix("model."))
            if value > most:
                raise ConfigError(explain(f"config {name}", got=value, allowed=f"up to {most}", cure="Lower it."))
        for name, url in self.urls().items():
            refuse_secret(f"config {name}", url)
        for names, low, high, allowed in (
            (POSITIVE, math.nextafter(0.0, 1.0), math.inf, "above 0"),
            (NOT_NEGATIVE, 0.0, math.inf, "0 or more"),
            (SHARE, 0.0, 1.0, "0 or more, below 1"),
        ):
            for name in names:
                value: Any = self
                for part in name.split("."):
                    value = getattr(value, part)
                if value is not None and not low <= value < high:
                    raise ConfigError(explain(f"config {name}", got=value, allowed=allowed, cure="Correct the value."))

    def urls(self) -> dict[str, str]:
        """Settings that may be URLs."""
        data, tracking = self.data, self.tracking
        return {
            "data.path": data.path,
            "data.objects": data.objects,
            "tracking.uri": tracking.uri,
            "export.publish": self.export.publish,
        }


POWDER = Config(
    data=DataConfig(source="powder", split="time"),
    model=ModelConfig(name="receiver_set", dropout=0.05, depth=2),
    augmentation=AugmentationConfig(
        receiver_dropout=0.1, power_offset_db=3.0, noise_db=2.0, simulated=0.7, fade_from=0.3
    ),
    training=TrainingConfig(epochs=250, batch_size=64, ema_decay=0.998, evaluations_per_epoch=0.2),
)

SIMULATION = Config(
    world=TIMING_WORLD,
    model=ModelConfig(name="receiver_set", width=64, depth=2, dropout=0.0, identity=False, timing=True),
    training=TrainingConfig(epochs=40, batch_size=64, learning_rate=2e-3, ema_decay=0.99, outliers=0.01),
)

SIMULATION_LONG = dataclasses.replace(
    SIMULATION,
    world=dataclasses.replace(TIMING_WORLD, train=8_000, validation=5_000),
    training=dataclasses.replace(SIMULATION.training, batch_size=128),
)

POWER = Config(
    world=WorldConfig(train=20_000, validation=2000, test=4000, shadowing_correlation_m=5000.0),
    model=ModelConfig(name="radio_map"),
    radio_map=RadioMapConfig(
        shadowing_db=6.0, correlation_m=5000.0, noise_db=2.0, spacing_m=1000.0, margin_m=0.0, offset_db=4.9
    ),
)
"""Received powers alone in a known terrain: a radio map, its spreads those that the world states."""

POWDER_MAP = Config(
    data=POWDER.data,
    model=ModelConfig(name="radio_map"),
    radio_map=RadioMapConfig(cross_validate=True, offset_db=1.5, fingerprints=4000, missed=0.3),
)
"""A radio map of real measurements, its spreads cross-validated, and the recordings themselves."""

NAMED: dict[str, Config] = {
    "simulation": SIMULATION,
    "simulation_long": SIMULATION_LONG,
    "spectrogram": Config(),
    "power": POWER,
    "powder": POWDER,
    "powder_map": POWDER_MAP,
}
"""Configs that `--config NAME` knows."""


def load(name_or_path: str) -> Config:
    """A named config, or one read from a YAML file whose missing keys keep their defaults.

    Raises:
        ConfigError: The name is unknown, or the file holds an unknown key or a value of the wrong type.
        StorageError: The file cannot be read.
    """
    if name_or_path in NAMED:
        return NAMED[name_or_path]
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        near = difflib.get_close_matches(name_or_path, NAMED, 1)
        cure = f"Did you mean {near[0]!r}?" if near else "Give a name or a .yaml file."
        raise ConfigError(explain("config", got=repr(name_or_path), allowed=sorted(NAMED), cure=cure))
    try:
        tree = parse_yaml(read_file(path, MAX_YAML_BYTES, what=f"config file {path}"))
    except UnicodeDecodeError as error:
        raise StorageError(
            explain(f"config file {path}", got=error, allowed="a readable YAML file", cure="Check the path.")
        ) from error
    except DataError:
        raise
    except ValueError as error:
        raise ConfigError(
            explain(f"config file {path}", got=error, allowed="plain YAML", cure="Fix the syntax.")
        ) from error
    return from_tree({} if tree is None else tree)


def from_tree(tree: Any) -> Config:
    """The config of nested dicts, as YAML and JSON give them; missing keys keep their defaults.

    Raises:
        ConfigError: A key is unknown (the nearest is suggested), or a value has the wrong type or is outside its range.
    """
    return build(Config, tree)


def save(config: Config, path: Path) -> None:
    """Write the whole tree as YAML that `load` reads back to an equal config.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), encoding="utf-8")
    except OSError as error:
        cure = "Free space, or choose another folder."
        raise StorageError(explain("config file", got=error, allowed="a writable folder", cure=cure)) from error
