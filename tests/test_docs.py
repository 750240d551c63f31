"""The documentation is true: settings, defaults, links, commands, snippets, messages and fields are the code's."""

import dataclasses
import importlib.util
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_ins
import yaml
from onnx import TensorProto, helper, numpy_helper

from heimdall_jax.command import EvaluateArguments, TrainArguments, parse_train
from heimdall_jax.config import NAMED, Config
from heimdall_jax.evaluation.summary import bound_of_errors, summarize
from heimdall_jax.export.bundle import write_bundle
from heimdall_jax.export.onnx import OPSET, graph_metadata
from heimdall_jax.export.parity import LIMITS
from heimdall_jax.export.signature import COVARIANCE_M2, POSITION_DEG, POSITION_M, describe_inputs
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.launch import Launch
from heimdall_jax.locating import LocateArguments
from heimdall_jax.preparation import PrepareArguments
from heimdall_jax.stopping import LOST, STOPPED

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ROOT / "docs" / "TRAINING.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FLAG = re.compile(r"--[a-z][\w.-]*")
FOREIGN = {"--backend-store-uri", "--pool", "--concurrency", "--loglevel", "--flink-master"}
"""Flags of other programs that the pages name."""


def snippets(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def section(page: Path, title: str) -> str:
    """The text under a `##` heading, up to the next."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{page.name} has no section {title!r}"
    return found.group(1)


def rows(text: str) -> list[list[str]]:
    """Cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


def unknown_flags(command: str) -> list[str]:
    """Flags of one shell command line that its script does not take; other programs' commands are left alone."""
    words = shlex.split(command, comments=True)
    script = next((Path(word).name for word in words if word.startswith("scripts/")), None)
    if script is None:
        return []
    flags = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    return [flag for flag in flags if flag not in FLAGS[script]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_scripts_and_flags_that_exist(page):
    commands = [part for body in snippets(page, "sh") for line in body.splitlines() for part in line.split("&&")]
    assert [(command, bad) for command in commands if (bad := unknown_flags(command))] == []
    text = page.read_text(encoding="utf-8")
    gone = {path for path in re.findall(r"\b(?:scripts|tests|docs)/[\w/]+\.\w+", text) if not (ROOT / path).exists()}
    assert gone == set()
    known = set().union(*FLAGS.values(), FOREIGN)
    inline = {flag for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) for flag in FLAG.findall(code)}
    sections = {f"--{name.partition('.')[0]}.name" for name, _ in leaves(Config())}
    assert {f for f in inline if f.replace("_", "-") not in known} - sections - {"--section.name"} == set()


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


def test_an_unknown_flag_is_found():
    assert unknown_flags("python scripts/train.py --training.batch_size 8 --training.epoch=3") == ["--training.epoch"]
    assert unknown_flags("python scripts/evaluate.py RUN --resume") == ["--resume"]
    assert unknown_flags("pip install --anything") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_compile(page):
    for body in snippets(page, "python"):
        compile(body, page.name, "exec")


def snippet(word: str) -> str:
    (body,) = [body for body in snippets(TRAINING, "python") if word in body]
    return body


def test_the_feature_snippet_is_right():
    """A tone below the carrier is strongest in the lower half of the bands: rows 0 to 63 are negative frequencies."""
    body = snippet("compute_mfcc")
    told = int(re.findall(r"strongest in row (\d+)", body)[0])
    names: dict[str, Any] = {}
    exec(compile(body, TRAINING.name, "exec"), names)
    assert names["mel_db"].shape == (128, 32)
    assert names["mfcc_db"].shape == (13, 32)
    np.testing.assert_array_equal(np.argmax(names["mel_db"], axis=0), told)
    assert told < 64


def write_centroid_bundle(folder: Path) -> None:
    """A bundle whose graph, written by hand, gives the receivers' mean place and a sigma of 100 m: no tracing."""
    samples = stand_ins.set_samples()
    inputs = describe_inputs(stand_ins.SET_NAMES, samples, dynamic_receivers=True)
    outputs = (POSITION_M, POSITION_DEG, COVARIANCE_M2)
    one, both = (numpy_helper.from_array(np.array(axes), f"axes{len(axes)}") for axes in ([1], [1, 2]))
    variance = numpy_helper.from_array(np.eye(2, dtype=np.float32) * 100**2, "variance")
    nodes = [
        helper.make_node("ReduceMean", ["receiver_m", one.name], ["position_m"], keepdims=0),
        helper.make_node("Cast", ["position_m"], ["position_deg"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceMean", ["present", one.name], ["share"], keepdims=0),
        helper.make_node("Unsqueeze", ["share", both.name], ["shares"]),
        helper.make_node("Mul", ["shares", variance.name], ["covariance_m2"]),
    ]
    infos = [
        [
            helper.make_tensor_value_info(it.name, helper.np_dtype_to_tensor_dtype(np.dtype(it.dtype)), it.shape)
            for it in tensors
        ]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "centroid", infos[0], infos[1], [one, both, variance])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, graph_metadata(inputs, outputs, stand_ins.DOMAIN))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    options = {"opset": OPSET, "domain": stand_ins.DOMAIN, "config": Config(), "parity": {}}
    write_bundle(folder / "model.onnx", inputs=inputs, outputs=outputs, **options)


def test_the_serving_snippet_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs" / "RUN").mkdir(parents=True)
    write_centroid_bundle(tmp_path / "runs" / "RUN")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(snippet("receiver_inputs"), TRAINING.name, "exec"), names)
    places_m = degrees_to_local(names["session"].receiver_deg_RE, stand_ins.DOMAIN.origin_deg)
    np.testing.assert_allclose(names["fixes"].position_m[0], places_m.mean(axis=0), rtol=1e-6)
    said = capsys.readouterr().out
    assert "latitude, longitude: [" in said
    assert "sigma east, north in metres: [100. 100.]" in said


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
