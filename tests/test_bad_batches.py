"""Batches of steps that went wrong: kept whole, whose they are and what was not finite told, and made again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from heimdall_jax.bad_batches import MOST, BadBatches, leaf_names, load, replay
from heimdall_jax.config import Config
from heimdall_jax.errors import NonFiniteError, StorageError
from heimdall_jax.models.build import build, input_names
from heimdall_jax.run import CHECKPOINTS, record
from heimdall_jax.tracking.trackers import MemoryTracker
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.spikes import BadStep
from heimdall_jax.training.step import Trainer
from heimdall_jax.types import Domain, Sample
from tests.documentation import TRAINING as TRAINING_GUIDE
from tests.documentation import snippets
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions
from tests.training.small_loop import MODEL, STEPS, TRAINING, make_loop

BAD, ROW = 10, 3


@pytest.fixture(scope="module")
def data() -> HeimdallDataset:
    return HeimdallDataset(Sessions(60), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


@pytest.fixture(scope="module")
def domain(data: HeimdallDataset) -> Domain:
    return fit_domain(data, ORIGIN, RECEIVERS)


@pytest.fixture(scope="module")
def trainer(domain: Domain) -> Trainer:
    """As `make_trainer` of a run makes it: the seed of the step is the config's."""
    model = build(MODEL, domain, nnx.Rngs(0))
    return Trainer(model, TRAINING, total_steps=STEPS, seed=0, inputs=input_names(MODEL))


@pytest.fixture(scope="module")
def stopped(trainer: Trainer, domain: Domain, data: HeimdallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended at its tenth batch, whose row 3 had one reading of Inf."""
    run = tmp_path_factory.mktemp("runs") / "first"

    def spoil(number: int, batch: Sample) -> Sample:
        if number != BAD:
            return batch
        rss_db, heard = batch["rss_db"].copy(), batch["heard"].copy()
        rss_db[ROW, 1], heard[ROW, 1] = np.inf, True
        return batch | {"rss_db": rss_db, "heard": heard}

    tracker = MemoryTracker()
    tracker.start("run", {})
    config = Config(model=MODEL, training=TRAINING)
    with Checkpoints(run / CHECKPOINTS) as checkpoints:
        loop = make_loop(
            trainer,
            data,
            checkpoints,
            tracker,
            spoil=spoil,
            keep_bad=BadBatches(run, data, trainer).keep,
            record=record(config, domain),
        )
        with pytest.raises(NonFiniteError) as caught:
            loop.run(trainer.start())
    (run / "message").write_text(str(caught.value))
    return run


def test_the_error_names_the_file_and_the_sessions(stopped: Path) -> None:
    message = (stopped / "message").read_text()
    kept, about = load(stopped, BAD)
    assert f"training step {BAD}: got NaN or Inf from samples" in message
    assert f"kept in {stopped / 'bad_batches' / '10.npz'}" in message
    assert about["sessions"] == [f"s{index}" for index in kept["index"]]
    assert f"sessions {', '.join(about['sessions'][:12])} and 4 more;" in message
    assert sorted(file.name for file in (stopped / "bad_batches").iterdir()) == ["10.json", "10.npz"]


def test_what_was_not_finite_is_told(stopped: Path, trainer: Trainer) -> None:
    about = json.loads((stopped / "bad_batches" / "10.json").read_text())
    assert about["inputs_not_finite"] == {"rss_db": [about["sessions"][ROW]]}
    assert (about["step"], about["batch"], about["why"]) == (BAD, BAD, "NaN or Inf")
    assert about["loss"] == about["gradient_norm"] == "nan"
    assert about["gradients_not_finite"]
    assert set(about["gradients_not_finite"]) <= set(leaf_names(trainer))


def test_the_step_is_made_again_and_is_finite_without_the_bad_row(stopped: Path) -> None:
    again = replay(stopped, BAD)
    kept, about = load(stopped, BAD)
    assert not again.finite
    assert again.checkpoint == 8
    assert list(again.gradients_not_finite) == about["gradients_not_finite"]
    rss_db = kept["rss_db"].copy()
    rss_db[ROW, 1] = 0.0
    mended = replay(stopped, BAD, kept | {"rss_db": rss_db})
    assert mended.finite
    assert mended.gradients_not_finite == ()
    assert np.isfinite(mended.loss)


def test_a_number_that_is_not_there_is_told_with_those_that_are(stopped: Path) -> None:
    with pytest.raises(StorageError, match=r"allowed: \['10'\]"):
        load(stopped, 11)


def test_only_the_newest_are_kept(trainer: Trainer, data: HeimdallDataset, tmp_path: Path) -> None:
    keeper, batch = BadBatches(tmp_path, data, trainer), data.gather(np.arange(16))
    leaves = [True] * len(leaf_names(trainer))
    for number in range(MOST + 3):
        keeper.keep(BadStep(0, number, batch, "a loss of 9", 9.0, 1.0, leaves))
        os.utime(tmp_path / "bad_batches" / f"{number}.npz", ns=(number, number))
    files = sorted(file.name for file in (tmp_path / "bad_batches").iterdir())
    assert files == sorted(f"{number}.{kind}" for number in range(3, MOST + 3) for kind in ("json", "npz"))


def test_the_guides_snippet_runs(stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (body,) = [body for body in snippets(TRAINING_GUIDE, "python") if "replay" in body]
    (stopped.parent / "runs").symlink_to(stopped.parent, target_is_directory=True)
    monkeypatch.chdir(stopped.parent)
    exec(compile(body, TRAINING_GUIDE.name, "exec"), {})
    said = capsys.readouterr().out
    assert "NaN or Inf {'rss_db': ['s" in said
    assert said.endswith("True\n")
