from pathlib import Path

import pytest
import stand_ins


@pytest.fixture(scope="session")
def set_folder(tmp_path_factory) -> Path:
    """A read-only bundle of a receiver-set model."""
    return stand_ins.set_bundle(tmp_path_factory.mktemp("set")).parent


@pytest.fixture(scope="session")
def channel_folder(tmp_path_factory) -> Path:
    """A read-only bundle of a model with fixed receivers."""
    return stand_ins.channel_bundle(tmp_path_factory.mktemp("channel")).parent


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory) -> Path:
    """A read-only bundle of another model, with what a run keeps beside it."""
    folder = tmp_path_factory.mktemp("other")
    stand_ins.channel_bundle(folder)
    (folder / "metrics.json").write_text('{"n": 1}')
    (folder / "config.yaml").write_text("seed: 1\n")
    (folder / "model_card.md").write_text("# A model\n")
    return folder
