"""Beam's workers write what this process would, record for record."""

import os
import sys

import catalogues
import pytest
from growing import assert_holds, files, grow

from heimdall_jax.errors import ConfigError, HeimdallError, StorageError
from heimdall_jax.sources import approved, approved_records
from heimdall_jax.sources.approved import prepare_approved
from heimdall_jax.sources.beam import beam_settings, workers_errors
from heimdall_jax.sources.catalogue import embedded, open_catalogue
from heimdall_jax.sources.prepared import open_prepared
from heimdall_jax.store import MissingObjectError

pytestmark = pytest.mark.usefixtures("known_sides")


def test_without_beam(catalogue, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(ConfigError, match=r"--runner: got direct, but .*pip install 'heimdall-jax\[beam\]'"):
        prepare_approved(catalogue, tmp_path / "set", runner="direct")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "Trace\nheimdall_jax.store_s3.MissingObjectError: object 'a': got b. [while running 'c']",
            None,
            "object",
        ),
        ("heimdall_jax.errors.ConfigError: x: got y\n\n", ConfigError, "x: got y"),
        (
            "Trace\nOSError: [Errno 28] No space left [while running 'c']",
            None,
            r"No space left.*space on its disk",
        ),
        ("RuntimeError: write() failed: No space left [while running 'c']", None, r"No space left.*space on its disk"),
        ("one\nthe job was lost\n", None, r"Beam's FlinkRunner: got the job was lost.*Check the runner"),
        ("", None, "got RuntimeError"),
    ],
)
def test_what_a_worker_said(text, kind, message):
    """Runners of other machines give back a text."""
    with pytest.raises(kind or StorageError, match=message) as caught, workers_errors("FlinkRunner"):
        raise RuntimeError(text)
    assert "while running" not in str(caught.value)
    with pytest.raises(RuntimeError), workers_errors(None):
        raise RuntimeError(text)


def test_runners_that_are_none():
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install 'heimdall-jax[beam]')")
    with pytest.raises(ConfigError, match=r"got Nix; .*Beam says: Unexpected pipeline runner: Nix"):
        beam_settings("Nix")
    with pytest.raises(ConfigError, match=r"--direct_num_workers=x.*invalid int value: 'x'"):
        beam_settings("direct", "--direct_num_workers=x")
    with pytest.raises(ConfigError, match="No closing quotation"):
        beam_settings("direct", "--job_name='x")


@pytest.fixture
def small_files(monkeypatch):
    """Of one session, or two short ones."""
    monkeypatch.setattr(approved_records, "SHARD_BYTES", 2 * 3 * 300 * 8)
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install 'heimdall-jax[beam]')")


@pytest.mark.usefixtures("small_files")
def test_the_same_set(catalogue, tmp_path, monkeypatch):
    """Twelve files to train on, of which 10 and 11, with two sessions each, come before 2 by name."""
    monkeypatch.setattr(approved.Rule, "sides", lambda self, rows: ["test"] + ["train"] * (len(rows) - 1))
    for index in range(8, 15):
        grow(catalogue, index, recordings=catalogues.recordings(index, samples=600 if index < 11 else 300))
    written = prepare_approved(catalogue, tmp_path / "beam", runner="direct")
    alone = prepare_approved(catalogue, tmp_path / "alone")
    assert (written.read, alone.read) == (15, 15)
    assert len(list(written.folder.glob("*train*"))) == 12
    assert files(written.folder) == files(alone.folder)
    assert_holds(tmp_path / "beam", catalogue)
    monkeypatch.setattr(approved_records, "SHARD_BYTES", 1 << 20)
    grow(catalogue, 15)
    again = prepare_approved(catalogue, tmp_path / "beam", runner="direct")
    assert (again.read, again.kept) == (1, 15)
    assert files(again.folder) == files(prepare_approved(catalogue, tmp_path / "alone").folder)
    assert_holds(tmp_path / "beam", catalogue)
    assert not list((tmp_path / "beam").rglob("incomplete.*"))


@pytest.mark.slow
@pytest.mark.usefixtures("small_files")
def test_workers_of_their_own_processes(catalogue, tmp_path):
    options = "--direct_running_mode=multi_processing --direct_num_workers=2"
    written = prepare_approved(catalogue, tmp_path / "beam", runner="direct", runner_options=options)
    assert written.read == 8
    assert_holds(tmp_path / "beam", catalogue)


@pytest.mark.usefixtures("small_files")
def test_a_worker_that_fails_leaves_the_set_before(catalogue, tmp_path, monkeypatch):
    out = tmp_path / "set"
    prepare_approved(catalogue, out, runner="direct")
    grow(catalogue, 8)
    objects = open_catalogue(catalogue).transmissions[8].measurements[0].key
    error = MissingObjectError(f"object {objects!r}: got nothing")

    def away(self, numbers):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(approved_records.CatalogueSource, "__getitems__", away)
        with pytest.raises(HeimdallError, match="got nothing") as caught:
            prepare_approved(catalogue, out, runner="direct")
    assert "while running" not in str(caught.value)
    assert len(open_prepared(out)) == 8
    assert not [name for name in os.listdir(out) if name.startswith("incomplete.")]
    assert embedded(catalogue)[1].exists(objects)
