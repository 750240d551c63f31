"""What the tasks do around their processes: wait, give way, come again, never twice at an end."""

import datetime as dt
import json
from typing import Any

import celery
import pytest
from celery import states

from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.jobs import tasks
from heimdall_jax.jobs.devices import free_slot
from heimdall_jax.jobs.settings import jobs_folder
from heimdall_jax.jobs.supervision import StoppedError
from heimdall_jax.run_lock import BusyRunError
from tests.jobs.workers import queued


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the stand-in of a process is given; what it does is appended first: a result or an error."""
    given: list[Any] = []

    def work(name: str, request: Any, *, environment: Any, tell: Any, descriptors: Any = ()) -> Any:
        outcome = given[0]
        given.append((name, request, dict(environment)))
        tell({"work": "training", "step": 1, "total": 2})
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(tasks, "work", work)
    return given


def perform(task: Any, task_id: str, tries: int = 0, **arguments: Any) -> Any:
    """As a worker does it."""
    task.push_request(id=task_id, kwargs=arguments, args=[], retries=tries, delivery_info={})
    try:
        return task.run(**arguments)
    finally:
        task.pop_request()


def state(task_id: str) -> tuple[str, Any]:
    meta = tasks.app.backend.get_task_meta(task_id)
    return meta["status"], meta["result"]


def test_progress_is_a_state_and_the_result_is_the_processes(doing: list[Any], tmp_path) -> None:
    doing.append({"error_m": 1.0})
    assert perform(tasks.export, "one", run=str(tmp_path)) == {"error_m": 1.0}
    assert state("one") == ("PROGRESS", {"work": "training", "step": 1, "total": 2})
    assert doing[1][0] == "export"
    with free_slot(jobs_folder() / "devices") as slot:
        assert slot is not None, "the device is still taken"


def test_a_store_of_results_that_is_away_fails_no_work(doing: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(tasks.Job, "update_state", away)
    doing.append({"n": 7})
    assert perform(tasks.export, "two", run="runs/a") == {"n": 7}


def test_an_error_of_the_process_is_the_tasks(doing: list[Any]) -> None:
    doing.append(DataError("a: got b"))
    with pytest.raises(DataError, match="a: got b"):
        perform(tasks.export, "three", run="runs/a")


def test_without_a_device_it_comes_again_and_says_so(doing: list[Any]) -> None:
    doing.append({"n": 7})
    before = len(queued())
    with free_slot(jobs_folder() / "devices"), pytest.raises(celery.exceptions.Ignore):
        perform(tasks.export, "four", run="runs/a")
    assert state("four") == ("WAITING", {"for": "a device"})
    assert len(queued()) == before + 1
    assert doing == [{"n": 7}]
    with free_slot(jobs_folder() / "devices"):
        assert perform(tasks.publish, "five", run="runs/a", store="s", name="n") == {"n": 7}  # needs none


def test_a_busy_run_is_waited_for_without_a_word_over_the_one_at_work(doing: list[Any]) -> None:
    doing.append(BusyRunError("busy"))
    before = len(queued())
    with pytest.raises(celery.exceptions.Ignore):
        perform(tasks.train, "six", out="runs/a")
    assert state("six")[0] == "PROGRESS"
    assert len(queued()) == before + 1


@pytest.mark.parametrize(("visibility", "tries", "longest"), [("3600", 0, 1), ("3600", 9, 30), ("8", 9, 2)])
def test_waits_grow_and_stay_short_of_what_redis_takes_for_a_loss(
    doing: list[Any], monkeypatch: pytest.MonkeyPatch, visibility: str, tries: int, longest: float
) -> None:
    monkeypatch.setenv("HEIMDALL_VISIBILITY_SECONDS", visibility)
    doing.append(BusyRunError("busy"))
    before, now = set(queued()), dt.datetime.now(dt.UTC)
    with pytest.raises(celery.exceptions.Ignore):
        perform(tasks.train, "patient", tries, out="runs/a")
    (new,) = set(queued()) - before
    headers = json.loads((jobs_folder() / "queue" / new).read_text())["headers"]
    assert (headers["id"], headers["retries"]) == ("patient", tries + 1)
    wait_s = (dt.datetime.fromisoformat(headers["eta"]) - now).total_seconds()
    assert longest / 2 <= wait_s < longest + 10


def test_a_process_that_somebody_else_stopped_goes_back_to_the_queue(doing: list[Any]) -> None:
    doing.append(StoppedError("stopped by signal 15"))
    with pytest.raises(celery.exceptions.Reject) as caught:
        perform(tasks.train, "seven", out="runs/a")
    assert caught.value.requeue


@pytest.mark.parametrize("ended", [states.SUCCESS, states.FAILURE, states.REVOKED])
def test_what_ended_is_not_done_again(doing: list[Any], ended: str) -> None:
    result = 3 if ended == states.SUCCESS else DataError("a")
    tasks.app.backend.store_result(f"ended {ended}", result, ended)
    with pytest.raises(celery.exceptions.Ignore):
        perform(tasks.train, f"ended {ended}", out="runs/a")
    assert state(f"ended {ended}")[0] == ended
    assert doing == []


def test_cancel_before_a_worker_is_there_holds(doing: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    revoked: list[Any] = []
    monkeypatch.setattr(tasks.app.control, "revoke", lambda *args, **options: revoked.append((args, options)))
    doing.append({})
    tasks.cancel("eight")
    assert revoked == [(("eight",), {"terminate": True})]
    with pytest.raises(celery.exceptions.Ignore):
        perform(tasks.train, "eight", out="runs/a")
    assert doing == [{}]
    tasks.app.backend.store_result("nine", 3, states.SUCCESS)
    tasks.cancel("nine")
    assert state("nine") == ("SUCCESS", 3)


def test_the_worker_takes_arguments_that_were_never_checked(doing: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"export\.runn"):
        perform(tasks.export, "ten", run="a", runn="b")
