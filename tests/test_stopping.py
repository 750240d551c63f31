"""A stop waits for who heeds it, but not for long, and never twice."""

import signal
import time

import pytest

from heimdall_jax import stopping
from heimdall_jax.stopping import Stop


def test_without_heed_a_signal_interrupts_at_once():
    stop = Stop()
    with stop.listening():
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt) as caught:
                signal.raise_signal(number)
            assert caught.value.args == (number,)
        assert stop.asked() is None


def test_who_heeds_is_not_interrupted_and_has_time_once_it_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stopping, "HEED_SECONDS", 0.05)
    stop, done = Stop(), []

    def heed() -> None:
        with stop.listening(), stop.heeded():
            assert stop.asked() is None
            signal.raise_signal(signal.SIGTERM)
            assert stop.asked() == signal.SIGTERM
            time.sleep(0.2)  # a checkpoint that takes long
            done.append(True)

    with pytest.raises(KeyboardInterrupt) as caught:
        heed()
    assert done
    assert caught.value.args == (signal.SIGTERM,)


def test_who_does_not_ask_is_interrupted_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stopping, "HEED_SECONDS", 0.2)
    began = time.monotonic()
    stop = Stop()

    def sleep() -> None:
        with stop.listening(), stop.heeded():
            signal.raise_signal(signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt) as caught:
        sleep()
    assert caught.value.args == (signal.SIGTERM,)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stopping, "ONE_STOP_SECONDS", 0.0)
    stop, reached = Stop(), []

    def insist() -> None:
        with stop.listening(), stop.heeded():
            signal.raise_signal(signal.SIGTERM)
            reached.append("first")
            signal.raise_signal(signal.SIGTERM)
            reached.append("second")

    with pytest.raises(KeyboardInterrupt):
        insist()
    assert reached == ["first"]


def test_a_signal_that_comes_twice_at_once_is_one():
    stop, reached = Stop(), []

    def work() -> None:
        with stop.listening(), stop.heeded():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert not stop.heard
            reached.append(stop.asked())
            assert stop.heard

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [stop.number] == [signal.SIGTERM]


def test_handlers_are_as_before_and_an_ignored_interrupt_stays_ignored():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with Stop().listening():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop().listening():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before[0])
