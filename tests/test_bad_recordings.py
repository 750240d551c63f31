"""IQ that is real, empty, too short or holds NaN, a wrong sample rate, a station at (0, 0): refused or counted."""

import json
from pathlib import Path

import numpy as np
import pytest

from heimdall_jax import config as configs
from heimdall_jax.config import Config, DataConfig, FeatureConfig, ModelConfig, TrackingConfig, TrainingConfig
from heimdall_jax.sources.catalogue import embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.recordings import RecordingMetadata
from heimdall_jax.sources.rows import Recording
from heimdall_jax.types import Station
from tests.command_line import CommandLine
from tests.sources.catalogues import STATIONS, add

FEATURES = FeatureConfig(n_fft=256, hop_length=128, n_mels=16, n_frames=16)
SAMPLES = 256 + 15 * 128  # the fewest that give 16 frames, by hand


def noise(seed: int, samples: int = SAMPLES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * (rng.standard_normal(samples) + 1j * rng.standard_normal(samples))).astype(np.complex64)


def write_catalogue(
    folder: Path,
    spoil: dict[tuple[int, int], np.ndarray],
    rates: dict[int, float],
    damaged: tuple[np.ndarray, ...] = (),
) -> Config:
    """Sixteen sessions of four stations and one at (0, 0); `spoil` replaces the recording of (session, station).

    `damaged`, arrays that no catalogue would take, come into the place of the first sessions' first recordings.
    """
    url, store = embedded(folder)
    create_catalogue(url)
    stations = [*STATIONS, Station("Null Island", 0.0, 0.0, 0.0)]
    for index in range(16):
        recordings = [
            Recording(station, -60.0 - i, 10.0, spoil.get((index, i), noise(10 * index + i)), RecordingMetadata())
            for i, station in enumerate(stations)
        ]
        before = set(store.list("sessions/"))
        add(url, store, index, recordings=recordings, sample_rate_hz=rates.get(index, 12_000.0))
        first = min(key for key in store.list("sessions/") if key not in before and key.endswith(".npy"))
        if index < len(damaged):
            np.save(folder / "objects" / first, damaged[index])
    return Config(
        data=DataConfig(source="catalogue", path=str(folder)),
        features=FEATURES,
        model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2, spectrogram=True),
        training=TrainingConfig(epochs=1, batch_size=16),
        tracking=TrackingConfig(enabled=False),
    )


def test_recordings_that_hold_no_iq_are_counted_and_the_others_train(tmp_path: Path, command_line: CommandLine) -> None:
    nan = noise(1)
    nan[77] = np.nan
    spoil = {(2, 0): noise(2, SAMPLES - 1), (3, 1): nan, (4, 1): nan * 0 + np.inf}
    config = write_catalogue(tmp_path / "catalogue", spoil, {5: 8_000.0}, (noise(0).real, noise(0)[:0]))
    configs.save(config, tmp_path / "mine.yaml")
    assert command_line.run("train", "--config", tmp_path / "mine.yaml", "--out", tmp_path / "runs" / "a") == (0, "")
    metrics = json.loads((tmp_path / "runs" / "a" / "metrics.json").read_text())
    assert {reason: n for reason, n in metrics["skipped"].items() if n} == {
        "station at (0, 0), masked": 1,
        "measurement of a station at (0, 0), masked": 16,
        "recording that is not complete, one-dimensional complex64": 2,
        f"recording shorter than {SAMPLES} samples": 1,
        "recording refused: IQ not finite": 1,
        "recording of one value for most of its time (a dead receiver)": 1,
        "recording refused: sample rate": 4,
        "recording without timing metadata, timing masked": 64 - 4,
        "fewer than min_receivers heard": 1,
    }


@pytest.mark.parametrize(
    ("rate", "recording", "message"),
    [
        (8_000.0, noise(0), "64 recording refused: sample rate, .*got 8000 Hz.*Resample to 12000 Hz"),
        (12_000.0, np.full(SAMPLES, np.nan, np.complex64), "64 recording refused: IQ not finite, .*NaN or Inf in row"),
        (12_000.0, noise(0, 900), f"64 recording shorter than {SAMPLES} samples"),
    ],
    ids=["wrong rate", "NaN", "too short"],
)
def test_a_catalogue_without_a_usable_recording_says_why(
    tmp_path: Path, command_line: CommandLine, rate: float, recording: np.ndarray, message: str
) -> None:
    everything = {(session, station): recording for session in range(16) for station in range(4)}
    config = write_catalogue(tmp_path / "catalogue", everything, dict.fromkeys(range(16), rate))
    configs.save(config, tmp_path / "mine.yaml")
    out = tmp_path / "runs" / "a"
    flags = ("--config", tmp_path / "mine.yaml", "--out", out)
    command_line.refuses("train", *flags, match=f"no usable session.*{message}")
    assert not (out / "config.yaml").exists()


@pytest.mark.parametrize(
    ("iq", "changes", "message"),
    [
        (noise(0).real, {}, r"roof\.npy: got dtype float32; .*Real samples hold no IQ"),
        (noise(0)[:0], {}, r"roof\.npy: got no samples"),
        (np.full(600, np.nan, np.complex64), {}, r"roof\.npy: got mean power nan; allowed: finite samples"),
        (noise(0), {"45.1,7.1": "0,0"}, r"station 'roof': got \(0, 0\); .*Correct stations.csv"),
        (noise(0), {"sample_rate_hz": "rate"}, r"recordings\.csv: got no column 'sample_rate_hz'"),
        (noise(0), {",12000": ",-5"}, r"sample_rate_hz: got -5; allowed: 1 to 1e\+09"),
    ],
    ids=["real", "empty", "NaN", "station at (0, 0)", "no column", "wrong rate"],
)
def test_ones_own_recordings_are_checked_before_anything_is_written(
    tmp_path: Path, command_line: CommandLine, iq: np.ndarray, changes: dict[str, str], message: str
) -> None:
    header = "session,start,latitude,longitude,frequency_hz,station,file,sample_rate_hz"
    stations = "name,latitude,longitude\nhill,45.0,7.0\nroof,45.1,7.1\n"
    rows = [f"a,2026-03-01T12:00:00Z,45.05,7.05,145e6,{name},{name}.npy,12000" for name in ("hill", "roof")]
    files = {"stations.csv": stations, "recordings.csv": "\n".join([header, *rows]) + "\n"}
    np.save(tmp_path / "hill.npy", noise(0))
    np.save(tmp_path / "roof.npy", iq)
    for name, text in files.items():
        for old, new in changes.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    command_line.refuses("prepare_data", "--recordings", tmp_path, "--out", tmp_path / "out", match=message)
    assert not (tmp_path / "out").exists()
