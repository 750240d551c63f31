"""A run folder's note of its tracked run, and which code it was."""

import subprocess

import pytest

from heimdall_jax.config import Config
from heimdall_jax.errors import StorageError
from heimdall_jax.revision import code_revision
from heimdall_jax.run import start_tracking, tracked_id
from heimdall_jax.run_folder import CONFIG, TRACKED, TrackedNote, read_note, write_note
from heimdall_jax.tracking.trackers import MemoryTracker


def test_the_note_comes_back_and_an_absent_one_is_empty(tmp_path):
    assert read_note(tmp_path) == TrackedNote()
    write_note(tmp_path, TrackedNote("a", "b", "c"))
    assert read_note(tmp_path) == TrackedNote("a", "b", "c")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3"])
def test_a_spoilt_note_is_named(tmp_path, text):
    (tmp_path / TRACKED).write_text(text)
    with pytest.raises(StorageError, match=r"tracked\.json: got .*Remove it"):
        read_note(tmp_path)


class Dies(MemoryTracker):
    """Begins a run, and the answer never comes."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error

    def start(self, *arguments, **options):
        run_id = super().start(*arguments, **options)
        if self.error is not None:
            raise self.error
        return run_id


def test_a_start_that_fails_leaves_nothing(tmp_path):
    tracker = Dies(StorageError("away"))
    with pytest.raises(StorageError, match="away"):
        start_tracking(tracker, Config(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_was_killed_is_continued_as_the_same_run(tmp_path, monkeypatch):
    tracker = Dies(SystemExit(9))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *arguments, **options: None)  # a kill tidies nothing
        with pytest.raises(SystemExit):
            start_tracking(tracker, Config(), tmp_path)
    assert (tmp_path / CONFIG).exists()
    assert tracked_id(tmp_path) is None
    tracker.error = None
    start_tracking(tracker, Config(), tmp_path)
    assert list(tracker.runs) == [tracked_id(tmp_path)]
    assert read_note(tmp_path).revision


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_revision_is_the_commit_and_says_whether_files_were_changed(tmp_path):
    git(tmp_path, "init")
    file = tmp_path / "revision.py"
    file.write_text("one")
    assert "." in code_revision(tmp_path)  # somebody else's checkout: the package's version
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    commit = code_revision(tmp_path)
    assert len(commit) == 40
    (tmp_path / "new.txt").write_text("untracked")
    assert code_revision(tmp_path) == commit
    file.write_text("two")
    assert code_revision(tmp_path) == f"{commit}-dirty"


def test_without_git_there_is_a_version(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "." in code_revision(tmp_path)
