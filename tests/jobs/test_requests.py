"""What a task may be asked for, told where it is sent."""

import dataclasses
import json

import pytest

from heimdall_jax import config as configs
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.jobs.requests import EvaluateRequest, PublishRequest, TrainRequest, checked
from heimdall_jax.jobs.tasks import evaluate, publish, train
from tests.jobs.workers import queued

SECRET = "hunter2-secret"


def test_a_training_carries_its_whole_config_as_plain_json():
    request = checked("train", {"out": "runs/a", "config": "powder", "changes": {"training.epochs": 3, "seed": 7}})
    assert isinstance(request, TrainRequest)
    wanted = dataclasses.replace(configs.POWDER, seed=7)
    wanted = dataclasses.replace(wanted, training=dataclasses.replace(wanted.training, epochs=3))
    travelled = checked("train", json.loads(json.dumps(vars(request))))
    assert travelled == request
    assert request.settings() == wanted
    assert request.folder == "runs/a"


def test_a_config_may_be_a_tree_or_a_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("training: {epochs: 4}")
    tree = {"training": {"epochs": 4}, "export": {"precisions": ["float16"]}}
    of_file, of_tree = (checked("train", {"out": "a", "config": given}) for given in (str(file), tree))
    assert isinstance(of_file, TrainRequest)
    assert isinstance(of_tree, TrainRequest)
    assert of_file.settings().training.epochs == of_tree.settings().training.epochs == 4
    assert of_tree.settings().export.precisions == ("float16",)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("train", {}, "task train: got no out; allowed: at least out"),
        ("publish", {"run": "a"}, "task publish: got no store; allowed: at least run, store"),
        ("train", {"out": "a", "epochs": 3}, "got train.epochs"),
        ("train", {"out": "a", "config": "powdr"}, "Did you mean 'powder'"),
        ("train", {"out": "a", "changes": {"training.epoch": 3}}, "Did you mean training.epochs"),
        ("train", {"out": "a", "changes": {"training.epochs": 0}}, "training.epochs: got 0"),
        ("train", {"out": "a", "changes": {"training.epochs.x": 3}}, "changes: got training.epochs.x"),
        ("train", {"out": "a", "config": 3}, "train.config: got 3"),
        ("evaluate", {"run": "a", "conditions": "many"}, "evaluate.conditions: got 'many'"),
        ("export", {"run": 1}, "export.run: got 1"),
    ],
)
def test_a_wrong_argument_is_told(name, arguments, says):
    with pytest.raises(ConfigError) as caught:
        checked(name, arguments)
    assert says in str(caught.value)


def test_a_config_file_that_is_not_there_is_told():
    with pytest.raises(StorageError, match="config file"):
        checked("train", {"out": "a", "config": "none.yaml"})


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (train, {"out": "a", "changes": {"data.path": f"postgresql://me:{SECRET}@db/x"}}),
        (train, {"out": "a", "config": {"tracking": {"uri": f"http://me:{SECRET}@mlflow"}}}),
        (train, {"out": "a", "config": f"postgresql://me:{SECRET}@db/x"}),
        (evaluate, {"run": "a", "data": f"postgresql://me:{SECRET}@db/x"}),
        (publish, {"run": "a", "store": f"s3://key:{SECRET}@bucket", "name": "net"}),
    ],
)
def test_a_secret_is_refused_before_anything_is_sent(task, arguments):
    before = queued()
    with pytest.raises(ConfigError) as caught:
        task.delay(**arguments)
    assert SECRET not in str(caught.value)
    assert queued() == before


def test_arguments_are_named_and_wrong_ones_are_not_sent():
    before = queued()
    with pytest.raises(ConfigError, match=r"task evaluate: got 1 arguments without a name"):
        evaluate.delay("runs/a")
    with pytest.raises(ConfigError, match=r"Did you mean evaluate\.split"):
        evaluate.delay(run="runs/a", splitt="none")
    assert queued() == before


def test_defaults_are_those_of_the_scripts():
    assert checked("evaluate", {"run": "a"}) == EvaluateRequest("a")
    assert checked("publish", {"run": "a", "store": "s3://b", "name": "n"}) == PublishRequest("a", "s3://b", "n")
