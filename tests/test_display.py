"""What is seen of long work: rate and time left, plain lines where there is no terminal, quiet in CI."""

import io
import threading

import pytest
from rich.console import Console

from heimdall_jax import progress
from heimdall_jax.display import Display, beside


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("heimdall_jax.display.time.monotonic", clock)
    return clock


def shown(*, terminal: bool = False) -> tuple[io.StringIO, Display]:
    out = io.StringIO()
    return out, Display(Console(file=out, width=160, force_terminal=terminal))


def test_nobody_need_watch():
    progress.tell("writing sessions", 1, 2, "sessions")
    assert list(progress.counted("abc", 3, "writing", "letters")) == ["a", "b", "c"]


def test_plain_lines_have_rate_and_time_left_and_come_every_ten_seconds(clock):
    out, display = shown()
    with display:
        for second in range(41):
            progress.tell("writing sessions", 2 * second, 80, "sessions")
            clock.now += 1
    assert out.getvalue().splitlines() == [
        "writing sessions 0/80 sessions",
        "writing sessions 20/80 sessions  2 sessions/s  30 s left",
        "writing sessions 40/80 sessions  2 sessions/s  20 s left",
        "writing sessions 60/80 sessions  2 sessions/s  10 s left",
        "writing sessions 80/80 sessions  2 sessions/s",
    ]


def test_work_of_unknown_length_is_named_once_and_transfers_only_when_they_last(clock):
    out, display = shown()
    with display:
        progress.tell("compiling")
        for done in (0, 1_000_000, 12_000_000):
            progress.tell("downloading model.onnx", done, 48_000_000, progress.BYTES)
            clock.now += 6
    assert out.getvalue().splitlines() == [
        "compiling",
        "downloading model.onnx 12.0 MB/48.0 MB  1.0 MB/s  36 s left",
    ]


def test_long_times_are_told_as_people_do(clock):
    out, display = shown()
    with display:
        for left, said in ((1000, "17 min left"), (10_000, "2 h 47 min left")):
            progress.tell(said, 0, left + 10, "rows")
            clock.now += 10
            progress.tell(said, 10, left + 10, "rows")
            assert out.getvalue().endswith(f"1 rows/s  {said}\n")


@pytest.mark.parametrize(("value", "lines"), [("true", 1), ("1", 1), ("", 13), ("false", 13)])
def test_ci_is_told_a_line_a_minute_and_nothing_of_short_work(clock, monkeypatch, value, lines):
    monkeypatch.setenv("CI", value)
    out, display = shown()
    with display:
        for second in range(119):
            progress.tell("writing sessions", second, 1000, "sessions")
            clock.now += 1
        progress.tell("exporting")
    assert len(out.getvalue().splitlines()) == lines


def test_a_terminal_shows_a_bar_that_leaves_nothing(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")  # a dumb one shows no bar
    out, display = shown(terminal=True)
    with display:
        progress.tell("writing sessions", 1, 4, "sessions")
        clock.now += 2
        progress.tell("writing sessions", 2, 4, "sessions")
        progress.tell("downloading model.onnx", 10, 20, progress.BYTES)
        progress.tell("predicting test rows", 3, 4, "rows")
        progress.tell("predicting test rows", 4, 4, "rows")
    text = out.getvalue()
    assert "writing sessions" in text
    assert "2/4 sessions  0.5 sessions/s  4 s left" in text
    assert "predicting test rows" in text
    assert text.rstrip("\x1b[?25h\r\n").endswith("\x1b[2K")  # the last line is erased, the cursor shown


def test_threads_are_heard_and_the_inner_watcher_takes_over(clock):
    (outer_out, outer), (inner_out, inner) = shown(), shown()
    with outer:
        progress.tell("preparing")
        with inner:
            thread = threading.Thread(target=progress.tell, args=("reading", 0, 2, "sessions"))
            thread.start()
            thread.join()
        progress.tell("writing")
    progress.tell("nobody hears this")
    assert outer_out.getvalue() == "preparing\nwriting\n"
    assert inner_out.getvalue() == "reading 0/2 sessions\n"


def test_a_listener_hears_the_same(clock):
    heard = []
    display = Display(Console(quiet=True), 8, heard.append)
    display.epochs(2)
    with display:
        progress.tell("compiling")
        display.reading(1, 4)
        display.update(1, 10, {"train/loss": 1.5, "train/error_m": 20.0})
        clock.now += 3
        display.update(4, 10, {"train/loss": 1.0, "train/error_m": 10.0})
    assert heard == [
        {"work": "compiling", "step": 0, "total": 0},
        {"work": "reading recordings", "step": 1, "total": 4},
        {"work": "training", "step": 1, "total": 10, "epoch": 0.5, "loss": 1.5, "error_m": 20.0, "seconds_left": None},
        {"work": "training", "step": 4, "total": 10, "epoch": 2.0, "loss": 1.0, "error_m": 10.0, "seconds_left": 6.0},
    ]


def test_progress_leaves_standard_output_to_results(capsys):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert beside(terminal) is terminal
    beside(Console()).print("progress")
    assert capsys.readouterr() == ("", "progress\n")


def test_counted_items_are_told_in_batches(clock, monkeypatch):
    monkeypatch.setattr("heimdall_jax.progress.PERIOD_S", -1.0)
    heard = []
    with Display(Console(quiet=True), listener=heard.append):
        assert list(progress.counted("abc", 8, "predicting", "rows", each=3)) == ["a", "b", "c"]
    assert [told["step"] for told in heard] == [0, 3, 6, 8, 8]
