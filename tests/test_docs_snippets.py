"""The documentation's snippets: Python runs and says what its comments say, YAML and JSON are what readers take."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_ins
import yaml
from onnx import TensorProto, helper, numpy_helper

from heimdall_jax.config import Config, from_tree
from heimdall_jax.export.bundle import write_bundle
from heimdall_jax.export.onnx import OPSET, graph_metadata
from heimdall_jax.export.signature import COVARIANCE_M2, POSITION_DEG, POSITION_M, SIGMA_M, describe_inputs
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.locate.found import Fix, Found
from tests.documentation import DOCS, FENCE, PAGES, TRAINING, name_of, section, snippets
from tests.laws import ROOT

HOW_TO = DOCS / "how-to"
ELSEWHERE = {
    "tests/test_bad_batches.py": ["heimdall_jax.bad_batches"],
    "tests/test_deployment.py": ["s3://heimdall-models", "heimdall_jax.jobs"],
}
"""Snippets that are run where what they need is made, by words in them."""
HERE = ["compute_mfcc", "receiver_inputs", "extract(features)", "class Centroid", "receivers.json"]
CHECKED = {"", "python", "sh", "bash", "yaml", "json", "text", "csv"}
"""Kinds of blocks; a kind that is none of them would be checked by nobody. Text and tables hold nothing to run."""


def run(page: Path, word: str) -> dict[str, Any]:
    """The names that the page's only snippet with this word leaves."""
    (body,) = [body for body in snippets(page, "python") if word in body]
    names: dict[str, Any] = {}
    exec(compile(body, page.name, "exec"), names)
    return names


def test_every_python_snippet_is_run():
    words = [*HERE, *(word for group in ELSEWHERE.values() for word in group)]
    found = dict.fromkeys(words, 0)
    for page in PAGES:
        for body in snippets(page, "python"):
            (word,) = [word for word in words if word in body]
            found[word] += 1
    assert set(found.values()) == {1}
    assert all((ROOT / path).exists() for path in ELSEWHERE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_kinds_that_are_checked(page):
    text = page.read_text(encoding="utf-8")
    assert {kind for kind, _ in FENCE.findall(text)} <= CHECKED
    assert text.count("```") == 2 * len(FENCE.findall(text)), "a fence that no reader closes"
    for body in snippets(page, "json"):
        json.loads(body)
    for body in [*snippets(page, "sh"), *snippets(page, "bash")]:
        subprocess.run(["bash", "-n"], input=body, text=True, check=True)
    for body in snippets(page, "yaml"):
        from_tree(yaml.safe_load(body))


def test_the_feature_snippet_is_right():
    """A tone below the carrier is strongest in the lower half of the bands: rows 0 to 63 are negative frequencies."""
    names = run(TRAINING, "compute_mfcc")
    (told,) = re.findall(r"strongest in row (\d+)", TRAINING.read_text(encoding="utf-8"))
    assert names["mel_db"].shape == (128, 32)
    assert names["mfcc_db"].shape == (13, 32)
    np.testing.assert_array_equal(np.argmax(names["mel_db"], axis=0), int(told))
    assert int(told) < 64


def write_graph(folder: Path, inputs: Any, outputs: Any, nodes: list[Any], constants: list[Any]) -> None:
    """A bundle of a graph written by hand: no tracing."""
    infos = [
        [
            helper.make_tensor_value_info(it.name, helper.np_dtype_to_tensor_dtype(np.dtype(it.dtype)), it.shape)
            for it in tensors
        ]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "by_hand", infos[0], infos[1], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, graph_metadata(inputs, outputs, stand_ins.DOMAIN))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    options = {"opset": OPSET, "domain": stand_ins.DOMAIN, "config": Config(), "parity": {}}
    write_bundle(folder / "model.onnx", inputs=inputs, outputs=outputs, **options)


def write_centroid_bundle(folder: Path) -> None:
    """It gives the receivers' mean place and a sigma of 100 m."""
    inputs = describe_inputs(stand_ins.SET_NAMES, stand_ins.set_samples(), dynamic_receivers=True)
    one, both = (numpy_helper.from_array(np.array(axes), f"axes{len(axes)}") for axes in ([1], [1, 2]))
    variance = numpy_helper.from_array(np.eye(2, dtype=np.float32) * 100**2, "variance")
    nodes = [
        helper.make_node("ReduceMean", ["receiver_m", one.name], ["position_m"], keepdims=0),
        helper.make_node("Cast", ["position_m"], ["position_deg"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceMean", ["present", one.name], ["share"], keepdims=0),
        helper.make_node("Unsqueeze", ["share", both.name], ["shares"]),
        helper.make_node("Mul", ["shares", variance.name], ["covariance_m2"]),
    ]
    write_graph(folder, inputs, (POSITION_M, POSITION_DEG, COVARIANCE_M2), nodes, [one, both, variance])


def write_spectrogram_bundle(folder: Path) -> None:
    """It takes spectrograms of seven receivers, and gives their means of the first two and a sigma of 1 m."""
    samples = {"mel_spectrogram": np.zeros((1, 7, 128, 32), np.float32), "heard": np.ones((1, 7), bool)}
    inputs = describe_inputs(stand_ins.CHANNEL_NAMES, samples, dynamic_receivers=False)
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    bounds = [
        numpy_helper.from_array(np.array([value]), name) for value, name in ((0, "low"), (2, "high"), (1, "axis"))
    ]
    one = numpy_helper.from_array(np.float32(1.0), "one")
    nodes = [
        helper.make_node("ReduceMean", ["mel_spectrogram", "axes"], ["means"], keepdims=0),
        helper.make_node("Slice", ["means", "low", "high", "axis"], ["position_m"]),
        helper.make_node("Cast", ["position_m"], ["position_deg"], to=TensorProto.DOUBLE),
        helper.make_node("Slice", ["heard", "low", "high", "axis"], ["some"]),
        helper.make_node("Max", ["some", "one"], ["sigma_m"]),
    ]
    write_graph(folder, inputs, (POSITION_M, POSITION_DEG, SIGMA_M), nodes, [axes, *bounds, one])


def test_the_serving_snippets_run(tmp_path, monkeypatch, capsys):
    write_centroid_bundle(tmp_path / "runs" / "RUN")
    write_spectrogram_bundle(tmp_path / "runs" / "SIMULATED")
    monkeypatch.chdir(tmp_path)
    names = run(TRAINING, "receiver_inputs")
    places_m = degrees_to_local(names["session"].receiver_deg_RE, stand_ins.DOMAIN.origin_deg)
    np.testing.assert_allclose(names["fixes"].position_m[0], places_m.mean(axis=0), rtol=1e-6)
    said = capsys.readouterr().out
    assert "latitude, longitude: [" in said
    assert "sigma east, north in metres: [100. 100.]" in said
    names = run(TRAINING, "extract(features)")
    np.testing.assert_allclose(names["fixes"].position_m, [[-140.0, -140.0]], rtol=1e-6)  # silence is at the floor


def test_the_network_of_ones_own_says_what_the_guide_says():
    names = run(HOW_TO / "own-model.md", "class Centroid")
    assert names["fix"].position_m.shape == names["fix"].scale_m.shape == (4, 2)
    assert names["nll_nats"].shape == (4,)
    np.testing.assert_allclose(names["fix"].scale_m, np.exp(9.0), rtol=1e-6)


def test_the_snippet_writes_what_the_samples_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run(HOW_TO / "serve-onnx.md", "receivers.json")
    written = json.loads((tmp_path / "transmission" / "receivers.json").read_text())
    (shown,) = [json.loads(body) for body in snippets(HOW_TO / "serve-onnx.md", "json")]
    assert {frozenset(one) for one in written} == {frozenset(one) for one in shown}
    iq_T = np.load(tmp_path / "transmission" / written[0]["recording"])
    assert (iq_T.dtype, iq_T.shape) == (np.complex64, (12_000,))
    assert f"{names['session'].truth_deg}" in capsys.readouterr().out


def test_every_field_of_a_fix_is_explained():
    fix = Fix((45.0, 8.0), np.eye(2))
    told = set(re.findall(r"`(\w+)`", section(HOW_TO / "own-recordings.md", "Locate one transmission")))
    for reasons in ((), ("a reason",)):
        tree = Found("tdoa", fix, reasons, (), (), (), {"length_s": 1.0, "in_common": 1, "used": 1}, ()).to_tree()
        assert {*tree, *tree["windows"], *fix.to_tree()["ellipse_68"]} <= told


def test_the_contents_are_the_sections():
    text = TRAINING.read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. \[(.+)\]\(#", text, re.M) == re.findall(r"^## (.+)$", text, re.M)
