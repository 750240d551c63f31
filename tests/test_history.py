"""What training leaves in its folder: each step once, whatever was killed, resumed or rolled back; rates by hand."""

import json
import math
from pathlib import Path

import pytest

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.history import HISTORY, ROWS, History, HistoryWriter, read_history


def writer(path: Path, begun: int = 0, total: int = 100, clock=lambda: 0.0) -> HistoryWriter:
    about = {"total_steps": total, "steps_per_epoch": 10, "samples_per_step": 16}
    return HistoryWriter(path, begun=begun, clock=clock, **about)


def train(history: HistoryWriter, first: int, end: int, loss: float = 1.0) -> None:
    for step in range(first, end):
        told = {"loss": loss + step, "error_m": 5.0, "gradient_norm": float(step), "learning_rate": 1e-3, "rmse_m": 7.0}
        history.log(step, {f"train/{name}": value for name, value in told.items()})


def validate(history: HistoryWriter, step: int, loss: float = 2.0) -> None:
    history.log(step, {"validation/loss": loss, "validation/error_m": 6.0})


def read(path: Path) -> History:
    found = read_history(path)
    assert found is not None
    return found


def told_steps(history: History) -> list[int]:
    return [step for row in history.steps for step in range(row.first, row.end)]


def test_what_is_told_is_read_back_and_nothing_is_written_before_a_flush(tmp_path: Path):
    path = tmp_path / HISTORY
    assert read_history(path) is None
    history = writer(path)
    validate(history, 0)
    train(history, 0, 5)
    assert not path.exists()
    history.flush()
    history.flush()
    found = read(path)
    assert told_steps(found) == [0, 1, 2, 3, 4]
    assert [row.loss for row in found.steps] == [1, 2, 3, 4, 5]
    assert [row.gradient_norm for row in found.steps] == [0, 1, 2, 3, 4]
    assert found.validated == [(0, 2.0, 6.0)]
    assert (found.steps_per_epoch, found.resumed, found.rolled_back) == (10, [], [])


def test_long_trainings_are_told_in_means_and_largest_norms(tmp_path: Path):
    """Three steps a row; the evaluation after step 7 ends its row early."""
    history = writer(tmp_path / HISTORY, total=3 * ROWS)
    train(history, 0, 7)
    validate(history, 7)
    train(history, 7, 12)
    history.flush()
    rows = read(tmp_path / HISTORY).steps
    assert [(row.first, row.end) for row in rows] == [(0, 3), (3, 6), (6, 7), (7, 9), (9, 12)]
    assert [row.loss for row in rows] == [2.0, 5.0, 7.0, 8.5, 11.0]
    assert [row.gradient_norm for row in rows] == [2, 5, 6, 8, 11]


def test_rates_leave_out_evaluations_and_come_from_the_costs(tmp_path: Path):
    """Steps 0.5 s apart, an evaluation of 100 s: 2 steps a second, 32 samples, 2 x 3 GFLOP, of 12 GFLOP/s a half."""
    now = [0.0]
    history = writer(tmp_path / HISTORY, total=4 * ROWS, clock=lambda: now[0])
    history.costs(3e9, 12e9)
    for step in (0, 1, 2, 3, 5, 6, 7, 8):
        now[0] += 0.5
        train(history, step, step + 1)
        if step == 3:
            train(history, 4, 5)  # at once, since an evaluation follows
            validate(history, 5)
            now[0] += 100.0
    history.flush()
    for row in read(tmp_path / HISTORY).steps:
        assert (row.samples_per_s, row.flops_per_s, row.share_of_peak) == (32.0, 6e9, 0.5)
    alone = writer(tmp_path / "alone")
    train(alone, 0, 1)
    alone.flush()
    (row,) = read(tmp_path / "alone").steps
    assert all(map(math.isnan, (row.samples_per_s, row.flops_per_s, row.share_of_peak)))


def test_a_killed_training_that_goes_on_tells_every_step_once(tmp_path: Path):
    path = tmp_path / HISTORY
    before = writer(path)
    train(before, 0, 8)
    validate(before, 8)
    before.flush()  # and killed before the checkpoint of step 8 was whole
    path.write_bytes(path.read_bytes()[:-5])
    after = writer(path, begun=4)
    train(after, 4, 10, loss=50.0)
    validate(after, 8)
    after.flush()
    found = read(path)
    assert told_steps(found) == list(range(10))
    assert [row.loss for row in found.steps] == [1, 2, 3, 4, *range(54, 60)]
    assert [row.step for row in found.validated] == [8]
    assert found.resumed == [4]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_torn_last_line_is_none(tmp_path: Path):
    history = writer(tmp_path / HISTORY)
    train(history, 0, 3)
    history.flush()
    whole = (tmp_path / HISTORY).read_bytes()
    (tmp_path / HISTORY).write_bytes(whole[:-10])
    assert told_steps(read(tmp_path / HISTORY)) == [0, 1]
    (tmp_path / HISTORY).write_bytes(b'{"begun": 0')
    assert told_steps(read(tmp_path / HISTORY)) == []


def test_a_rollback_is_told_and_what_it_undid_is_not(tmp_path: Path):
    history = writer(tmp_path / HISTORY)
    train(history, 0, 6)
    history.log(6, {"train/rolled_back_to": 2.0})
    train(history, 2, 4, loss=9.0)
    history.flush()
    found = read(tmp_path / HISTORY)
    assert found.rolled_back == [(6, 2)]
    assert [row.loss for row in found.steps] == [1.0, 2.0, 11.0, 12.0]


def test_numbers_that_are_none_are_read_as_such(tmp_path: Path):
    history = writer(tmp_path / HISTORY)
    validate(history, 0, loss=math.inf)
    history.flush()
    assert "Infinity" not in (tmp_path / HISTORY).read_text()
    assert math.isnan(read(tmp_path / HISTORY).validated[0].loss)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"steps": [0, 1]}',
        b'{"validated": 1e99, "loss": 1, "error_m": 1}',
        b'{"validated": -1, "loss": 1, "error_m": 1}',
        b'{"rolled_back": NaN, "to": 0}',
        b'{"begun": 0, "steps_per_epoch": 1, "samples_per_step": {}}',
        b'{"validated": 1, "x": "' + b"x" * 5000 + b'"}',
    ],
)
def test_a_line_that_training_did_not_write_is_refused_with_its_number(tmp_path: Path, line: bytes):
    history = writer(tmp_path / HISTORY)
    train(history, 0, 1)
    history.flush()
    with (tmp_path / HISTORY).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match=r"history\.jsonl, line 3: .*Remove the file"):
        read_history(tmp_path / HISTORY)


def test_a_peak_of_nothing_is_refused(tmp_path: Path):
    clock = iter(range(9))
    history = writer(tmp_path / HISTORY, clock=lambda: float(next(clock)))
    history.costs(1.0, 0.0)
    train(history, 0, 3)
    history.flush()
    with pytest.raises(DataError, match="ZeroDivisionError"):
        read_history(tmp_path / HISTORY)


def test_a_folder_that_is_gone_is_an_error_with_its_cure(tmp_path: Path):
    history = writer(tmp_path / "gone" / HISTORY)
    with pytest.raises(StorageError, match="resume"):
        history.flush()
