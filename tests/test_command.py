"""Command lines: what they parse to, what a wrong one says, and the exit codes."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from heimdall_jax import config as configs
from heimdall_jax.command import EvaluateArguments, TrainArguments, leave, parse_train, run_script
from heimdall_jax.config import POWDER, SIMULATION, Config
from heimdall_jax.errors import ConfigError, DataError, NonFiniteError, StorageError
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.preparation import PrepareArguments
from tests.command_line import QUIETENED
from tests.laws import ROOT

SCRIPTS = ("bench", "train", "evaluate", "prepare_data", "validate_export", "locate")


def run_by(code: str, number: int) -> tuple[int, str]:
    """Exit code and standard error of a process that runs `action`, once it has said so and got a signal."""
    program = f"""
import signal, sys, time
from heimdall_jax.command import leave, run_script
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background starts with it ignored
def action(arguments):
    try:
        print("ready", flush=True)
        {code}
    finally:
        print("closed", flush=True)
leave(run_script(action, after_stop="go on with --resume"))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == "closed\n"
    return process.returncode, err


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """`run_script` reads the command line and quietens loggers: both are as before afterwards."""
    levels = {name: logging.getLogger(name).level for name in QUIETENED}
    monkeypatch.setattr(sys, "argv", ["script.py"])
    yield monkeypatch
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def raising(error: BaseException):
    def action(arguments: list[str]) -> None:
        raise error

    return action


def test_without_arguments_the_simulation_is_trained():
    assert parse_train([]) == TrainArguments(settings=SIMULATION)


@pytest.mark.parametrize("flag", [["--config", "powder"], ["--config=powder"]])
def test_a_named_config_gives_the_defaults_and_flags_change_them(flag):
    assert parse_train(flag).settings == POWDER
    parsed = parse_train(["--training.epochs", "5", *flag, "--data.limit", "100", "--model.heads=2"])
    assert parsed.settings == dataclasses.replace(
        POWDER,
        training=dataclasses.replace(POWDER.training, epochs=5),
        data=dataclasses.replace(POWDER.data, limit=100),
        model=dataclasses.replace(POWDER.model, heads=2),
    )


def test_a_yaml_gives_the_defaults_and_flags_change_them(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 4\ntraining: {epochs: 7, learning_rate: 2e-3}\n")
    settings = parse_train(["--config", str(file), "--training.epochs", "9"]).settings
    assert (settings.seed, settings.training.epochs, settings.training.learning_rate) == (4, 9, 0.002)
    assert settings.model == Config().model


def test_the_short_flags_are_the_long_ones():
    short = parse_train(["--config", "powder", "--data", "folder", "--split", "block", "--out", "runs/a", "--debug"])
    long = parse_train(["--config", "powder", "--data.path", "folder", "--data.split", "block"])
    assert short.settings == long.settings
    assert (short.settings.data.path, short.settings.data.split) == ("folder", "block")
    assert (str(short.out), short.debug, short.resume) == ("runs/a", True, False)


def test_a_catalogue_has_short_flags():
    url, objects = "postgresql://me@host/heimdall", "s3://heimdall-raw-iq"
    data = parse_train(["--catalogue", url, "--objects", objects]).settings.data
    assert (data.source, data.path, data.objects) == ("catalogue", url, objects)
    long = ["--data.source", "catalogue", "--data.path", url, "--data.objects", objects]
    assert parse_train(long).settings.data == data
    assert parse_train([*long[:4], "--objects", objects]).settings.data == data


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--objects", "s3://b"],
            r"--objects: got 's3://b'; allowed: with --catalogue\. Give the catalogue's database",
        ),
        (["--catalogue", "c", "--data", "d"], r"--data: got 'd'; allowed: nothing with --catalogue"),
        (["--catalogue", "postgresql://me:hunter2@host/db"], r"data\.path: got a postgresql URL with a secret.*PGPASS"),
        (["--catalogue", "c", "--objects", "s3://k:hunter2@b"], r"data\.objects: got a s3 URL with a secret.*AWS_"),
    ],
)
def test_a_catalogue_that_cannot_be_meant_is_refused(flags, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_train(flags)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--tracking.enabled", "False"], "tracking.enabled", False),
        (["--training.ema-decay", "0.9"], "training.ema_decay", 0.9),
        (["--training.ema_decay", "None"], "training.ema_decay", None),
        (["--data.source", "catalogue"], "data.source", "catalogue"),
        (["--world.shadowing-db", "3"], "world.shadowing_db", 3.0),
        (["--seed", "11"], "seed", 11),
    ],
)
def test_any_field_can_be_set(flags, field, value):
    found = parse_train(flags).settings
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--training.epoch", "5"], "--training.epochs"),
        (["--slit", "time"], "--split"),
        (["--training.epochs", "five"], "--training.epochs INT"),
        (["--data.source", "radio"], "powder"),
        (["--out"], "--out"),
        (["--tracking.enabled", "maybe"], "'True', 'False'"),
        (["stray"], "stray"),
    ],
)
def test_wrong_flags_exit_with_2_and_suggest_the_nearest(flags, said, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_train(flags)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 3}", r"got training\.epoch; .*Did you mean training\.epochs\?"),
        ("trainin: {epochs: 3}", r"got trainin; .*Did you mean training\?"),
    ],
)
def test_an_unknown_key_of_a_yaml_suggests_the_nearest(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse_train(["--config", str(tmp_path / "a.yaml")])


def test_values_out_of_range_and_unknown_configs_are_config_errors():
    with pytest.raises(ConfigError, match="Did you mean 'powder'"):
        parse_train(["--config", "powdr"])
    with pytest.raises(ConfigError, match=r"training\.epochs: got 0; allowed: above 0"):
        parse_train(["--training.epochs", "0"])


def test_resuming_takes_the_runs_own_config(tmp_path):
    own = dataclasses.replace(POWDER, seed=5, data=dataclasses.replace(POWDER.data, path="folder"))
    configs.save(own, tmp_path / "config.yaml")
    for out in (["--out", str(tmp_path)], [f"--out={tmp_path}"]):
        parsed = parse_train([*out, "--resume"])
        assert parsed.settings == own
        assert parsed.resume
    assert parse_train(["--out", str(tmp_path), "--resume", "--seed", "6"]).settings.seed == 6  # refused by `begin`
    assert parse_train(["--out", str(tmp_path)]).settings == SIMULATION
    assert parse_train(["--out", str(tmp_path / "none"), "--resume"]).settings == SIMULATION


def test_sync_takes_the_runs_own_config_and_another_address(tmp_path):
    configs.save(dataclasses.replace(POWDER, seed=5), tmp_path / "config.yaml")
    parsed = parse_train(["--out", str(tmp_path), "--sync", "--tracking.uri", "http://there"])
    assert (parsed.sync, parsed.settings.seed, parsed.settings.tracking.uri) == (True, 5, "http://there")


@pytest.mark.parametrize(
    ("flags", "got"),
    [
        (["--sync"], "no --out"),
        (["--sync", "--out", "a", "--resume"], "--resume"),
        (["--sync", "--out", "a", "--seeds", "2"], "--seeds"),
    ],
)
def test_sync_is_for_one_thing(flags, got):
    with pytest.raises(ConfigError, match=f"--sync: got .*{got}"):
        parse_train(flags)


def test_success_is_0_and_the_action_gets_the_arguments(script, capsys):
    seen = []
    script.setattr(sys, "argv", ["script.py", "RUN", "--out", "x"])
    assert run_script(seen.append) == 0
    assert seen == [["RUN", "--out", "x"]]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [ConfigError, DataError, StorageError, NonFiniteError])
def test_an_error_of_the_house_is_one_line_and_1(script, capsys, kind):
    assert run_script(raising(kind("a: got b; allowed: c. Do d."))) == 1
    assert capsys.readouterr() == ("", "error: a: got b; allowed: c. Do d.\n")


def test_debug_shows_where_an_error_arose(script, capsys):
    script.setattr(sys, "argv", ["script.py", "--debug"])
    with pytest.raises(DataError, match="a: got b"):
        run_script(raising(DataError("a: got b")))
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_the_program_is_not_hidden(script):
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()))


def test_wrong_flags_keep_their_exit_code_and_sigterm_its_handler(script):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        run_script(raising(SystemExit(2)))
    assert caught.value.code == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_is_128_and_the_signals_number(script, capsys):
    assert run_script(raising(KeyboardInterrupt())) == 130
    assert run_script(lambda arguments: os.kill(os.getpid(), signal.SIGTERM), after_stop="go on") == 143
    assert capsys.readouterr().err == "stopped; run it again\nstopped; go on\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_process_closes_what_is_open_and_says_how_to_go_on(number, code):
    assert run_by("time.sleep(60)", number) == (code, "stopped; go on with --resume\n")


def test_a_stopped_process_does_not_wait_for_threads_that_go_on():
    """What XLA compiles at a stop cannot be ended; here a thread that would keep Python alive for a minute."""
    thread = "import threading; threading.Thread(target=time.sleep, args=(60,)).start(); time.sleep(60)"
    assert run_by(thread, signal.SIGTERM) == (143, "stopped; go on with --resume\n")


def test_leaving_is_pythons_own_exit_unless_it_failed_or_was_stopped(monkeypatch):
    with pytest.raises(SystemExit) as caught:
        leave(0)
    assert caught.value.code == 0
    monkeypatch.setattr(os, "_exit", lambda code: (_ for _ in ()).throw(RuntimeError(f"left with {code}")))
    for code in (1, 143):
        with pytest.raises(RuntimeError, match=f"left with {code}"):
            leave(code)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_answers_help_and_refuses_wrong_flags(name):
    runs = {
        flag: subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / f"{name}.py"), flag],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for flag in ("--help", "--hepl")
    }
    (help_out, help_err), (_, wrong_err) = (run.communicate(timeout=120) for run in runs.values())
    assert [run.returncode for run in runs.values()] == [0, 2]
    assert help_err == ""
    assert "--debug" in help_out
    assert "--help" in wrong_err  # the script's path before it may be broken over lines
    assert "Traceback" not in wrong_err


def test_every_script_has_a_debug_flag_and_is_tested_here():
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == set(SCRIPTS)
    for kind in (TrainArguments, EvaluateArguments, PrepareArguments, LocateArguments):
        assert "debug" in {field.name for field in dataclasses.fields(kind)}
