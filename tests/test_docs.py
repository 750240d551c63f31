"""The documentation is true: settings, defaults, links, commands, snippets, messages and fields are the code's."""

import dataclasses
import importlib.util
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
import yaml

from heimdall_jax.command import EvaluateArguments, TrainArguments, parse_train
from heimdall_jax.config import NAMED, POWDER, Config, save
from heimdall_jax.evaluation.summary import bound_of_errors, summarize
from heimdall_jax.export.parity import LIMITS
from heimdall_jax.launch import Launch
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.preparation import PrepareArguments, parse_prepare
from heimdall_jax.stopping import LOST, STOPPED
from tests.documentation import FENCE, PAGES, TRAINING, commands, name_of, rows, section, snippets
from tests.laws import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FLAG = re.compile(r"--[a-z][\w.-]*")
FOREIGN = {"--backend-store-uri", "--pool", "--concurrency", "--loglevel", "--flink-master", "--cov"}
"""Flags of other programs that the pages name."""


def leaves(config: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{where}{field.name}"
        value = list(value) if isinstance(value, tuple) else value  # as YAML has it
        yield from leaves(value, f"{name}.") if dataclasses.is_dataclass(value) else [(name, value)]


def test_every_setting_is_in_the_table_with_its_values():
    """Its default, and where a named config has another: `name: value` of each, as one YAML mapping."""
    table = [row for row in rows(section(TRAINING, "Hyper-parameters")) if row[0].startswith("`")]
    told = {row[0].strip("`"): tuple(yaml.safe_load(cell.strip("`") or "{}") for cell in row[1:3]) for row in table}
    named = {name: dict(leaves(config)) for name, config in NAMED.items()}
    true = {
        name: (value, {config: values[name] for config, values in named.items() if values[name] != value})
        for name, value in leaves(Config())
    }
    assert len(table) == len(told), "a setting is told twice"
    assert told.keys() == true.keys()
    assert {name: (told[name], true[name]) for name in true if told[name] != true[name]} == {}, "told, true"


def slug(heading: str) -> str:
    """As the forges make anchors of headings."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(line.lstrip("#")) for line in prose.splitlines() if re.match(r"#+ ", line)}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](#a-b-c) [x](#gone) [x](gone.md) [x](page.md#a-b-c) [x](https://example.org/gone)\n")
    assert broken_links(page) == ["#gone", "gone.md"]


def flags_of(arguments: type) -> set[str]:
    """What a script's dataclass takes, spelled with hyphens, as tyro takes both."""
    hyphens = {"--help"}
    for field in dataclasses.fields(arguments):
        names = [name for name, _ in leaves(Config())] if field.name == "settings" else [field.name]
        hyphens |= {f"--{name.replace('_', '-')}" for name in names}
    return hyphens


def script_arguments(name: str) -> type:
    """A script's own dataclass."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where tyro looks for the docstrings of its fields
    spec.loader.exec_module(module)
    return module.Arguments


FLAGS = {
    "train.py": flags_of(TrainArguments),
    "evaluate.py": flags_of(EvaluateArguments),
    "prepare_data.py": flags_of(PrepareArguments),
    "locate.py": flags_of(LocateArguments),
    "validate_export.py": flags_of(script_arguments("validate_export")),
    "bench.py": flags_of(script_arguments("bench")),
}


def test_every_script_is_known_here():
    assert FLAGS.keys() == {path.name for path in (ROOT / "scripts").glob("*.py")}


PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "train.py": parse_train,
    "evaluate.py": lambda words: tyro.cli(EvaluateArguments, args=words),
    "prepare_data.py": parse_prepare,
    "locate.py": lambda words: tyro.cli(LocateArguments, args=words),
    "validate_export.py": lambda words: tyro.cli(script_arguments("validate_export"), args=words),
    "bench.py": lambda words: tyro.cli(script_arguments("bench"), args=words),
}


def parse(words: list[str]) -> str | None:
    """Let its script's own parser read a command; gives the script's name, None for other programs' commands."""
    if words[0] != "python" or not words[1].startswith("scripts/"):
        return None
    script = Path(words[1]).name
    PARSERS[script](words[2:])
    return script


@pytest.fixture
def in_a_users_folder(tmp_path, monkeypatch):
    """Where the files are that a parser reads: the guide's own YAML, and a run's config."""
    (tmp_path / "RUN").mkdir()
    save(POWDER, tmp_path / "RUN" / "config.yaml")
    (tmp_path / "my.yaml").write_text(snippets(ROOT / "docs" / "how-to" / "own-model.md", "yaml")[0])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_what_the_scripts_take(page, in_a_users_folder):
    for words in commands(page):
        parse(["1" if word == "I" else word for word in words])  # I: the number of a process
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/])(?:scripts|tests|docs)/[\w/]+\.\w+", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    known = set().union(*FLAGS.values(), FOREIGN)
    inline = {flag for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) for flag in FLAG.findall(code)}
    sections = {f"--{name.partition('.')[0]}.name" for name, _ in leaves(Config())}
    assert {f for f in inline if f.replace("_", "-") not in known} - sections - {"--section.name"} == set()


def test_a_wrong_command_is_found(capsys):
    assert parse(["python", "scripts/train.py", "--training.batch_size", "8", "--training.epochs=3"]) == "train.py"
    assert parse(["pip", "install", "--anything"]) is None
    for wrong in ("train.py --training.epoch=3", "evaluate.py RUN --resume", "validate_export.py"):
        with pytest.raises(SystemExit):
            parse(f"python scripts/{wrong}".split())
    assert "--training.epoch" in capsys.readouterr().err


def test_the_jobset_starts_what_train_py_takes_and_ends_only_for_errors():
    manifest = yaml.safe_load((ROOT / "docs" / "jobset.yaml").read_text(encoding="utf-8"))
    (job,) = manifest["spec"]["replicatedJobs"]
    hosts = job["template"]["spec"]
    (container,) = hosts["template"]["spec"]["containers"]
    parsed = parse_train([word.replace("$(JOB_COMPLETION_INDEX)", "3") for word in container["args"]])
    first = f"{manifest['metadata']['name']}-{job['name']}-0-0.{manifest['spec']['network']['subdomain']}:55527"
    assert parsed.launch == Launch(first, hosts["parallelism"], 3)
    assert parsed.auto_resume
    assert hosts["completions"] == hosts["parallelism"]
    (rule,) = hosts["podFailurePolicy"]["rules"]
    assert not {LOST, STOPPED + signal.SIGTERM, STOPPED + signal.SIGKILL} & set(rule["onExitCodes"]["values"])
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_messages_in_troubleshooting_are_the_codes():
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "heimdall_jax").rglob("*.py")))
    symptoms = re.findall(r"^\| (?:warning )?`([^`]+)` \|", section(TRAINING, "Troubleshooting"), re.M)
    assert len(symptoms) >= 10
    parts = {part for symptom in symptoms for part in re.split(r"…|: got (?:no )?|; allowed: |: ", symptom)}
    elsewhere = {"No space left on device"}  # the operating system's
    spoken = {part.strip(" ;:()") for part in parts} - elsewhere
    assert sorted(part for part in spoken if len(part) > 5 and part not in source) == []


def test_every_field_of_metrics_is_explained():
    spread = np.tile(np.eye(2), (3, 1, 1))
    place = np.zeros((3, 2))
    metrics = summarize(
        place,
        spread,
        place + 1.0,
        origin_deg=(45.0, 8.0),
        dataset="d",
        split="s",
        bound=bound_of_errors("posterior mean", np.ones(3)),
    )
    told = set(re.findall(r"`([\w.]+)`", section(TRAINING, "metrics.json")))
    assert {*metrics, *metrics["error_m"], *metrics["coverage"], *metrics["bound"]} - {"kind"} <= told


def test_parity_limits_are_the_codes():
    table = rows(section(TRAINING, "Export and validation"))
    told = {row[0].split("`")[1]: row[1] for row in table if len(row) == 2 and row[0].startswith("`")}
    assert told == {name: f"{limit}" for name, limit in LIMITS.items()}
