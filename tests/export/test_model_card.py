"""The model card: every number is the manifest's, nothing from outside is markup, and what is missing is told."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from heimdall_jax.config import Config
from heimdall_jax.errors import ExportError
from heimdall_jax.evaluation.summary import error_summary, summarize
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.manifest import Manifest, Smaller
from heimdall_jax.export.model_card import CARD, check_card, escaped, render_card, write_card
from heimdall_jax.types import Domain
from tests.fuzz.models import write_model

HOSTILE = (
    "a|b `c` <script>x</script> ![i](http://e.example/) [l](javascript:x) *b* _i_ # h"
    "\n\n# heading\n---\nwww.e.example &lt;"
)
CONSTANTS = {"0.5", "0.68", "0.9", "0.95", "1", "68", "90", "95"}
"""Of what the sentences say of themselves: probabilities, and 1 sigma."""


def metrics(**more):
    rng = np.random.default_rng(0)
    truth_m = rng.normal(0, 500, (40, 2)).astype(np.float32)
    covariance_m2 = np.tile(np.eye(2) * 90.0**2, (40, 1, 1))
    errors = {name: error_summary(rng.lognormal(5, 1, 40)) for name in ("knn5", "prior_mean", "no_radio")}
    told = summarize(
        truth_m + rng.normal(0, 100, (40, 2)).astype(np.float32),
        covariance_m2,
        truth_m,
        origin_deg=(45.0, 8.0),
        dataset="powder",
        split="random",
        start_time_s=np.arange(40) * 100.0,
        baselines={name: errors[name] for name in ("knn5", "prior_mean")},
        controls={"no_radio": errors["no_radio"]},
        bound={"kind": "Cramér-Rao", "binds": False, "median_m": 71.3, "p68_m": 83.7, "rmse_m": 99.1},
    )
    doubt = {"above_m": 412.25, "share": 0.175, "doubted_m": 533.5, "kept_m": 98.75}
    rows = {"train": 811, "validation": 143, "test": 47}
    told |= {
        "fingerprint": "00ff00ff00ff00ff",
        "rows": rows,
        "doubt": doubt,
        "notes": ["file a"],
        "skipped": {"late": 17},
    }
    return told | more


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_model(tmp_path)
    made = read_bundle(tmp_path).manifest
    row = {"position_m": 1.25e-3, "position_deg": None}
    worth = {"growth": 0.0123}
    smaller = (
        Smaller("float16", "model_float16.onnx", True, sha256="b" * 64, size_bytes=4321, accuracy=worth),
        Smaller("int8", "model_int8.onnx", False, reason="too far off"),
    )
    return dataclasses.replace(
        made,
        domain=Domain((45.0, 8.0), ("a", "b"), position_box_m=(-1000.0, -2000.0, 1000.0, 2000.0)),
        config=made.config | {"data": made.config["data"] | {"source": "powder"}},
        parity={"limits": {"position_m": 1.0, "position_deg": 1e-9}, "rows": [row, row | {"position_m": 3.75e-3}]},
        metrics=metrics(),
        smaller=smaller,
    )


def card(manifest, revision="abc-dirty"):
    return render_card(manifest, [("model.onnx", manifest.size_bytes, manifest.sha256)], revision)


def body(text):
    return text.split("---\n", 2)[2]


def written_as(tree):
    """Every way in which a card may write a number of a tree, and every number inside its texts."""
    if isinstance(tree, dict):
        return set().union(*map(written_as, tree.values())) | set().union(*map(written_as, tree))
    if isinstance(tree, (list, tuple)):
        return set().union(*map(written_as, tree))
    if isinstance(tree, str):
        return set(NUMBER.findall(tree))
    if tree is None or isinstance(tree, bool):
        return set()
    texts = (
        f"{tree:,.1f}",
        f"{100 * tree:.1f}",
        f"{100 * tree:.2f}",
        f"{tree:.3f}",
        f"{tree:.3g}",
        f"{tree:.2g}",
        f"{tree:g}",
    )
    return {text.lstrip("-") for text in (*texts, str(tree))}


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?(?!\w)")


def test_every_number_is_the_manifests(manifest):
    text = body(card(manifest))
    region = next(line for line in text.splitlines() if line.startswith("- Region"))
    # pymap3d 3.2.0, enu2geodetic of (-1000, -2000, 0) and (1000, 2000, 0) at 45, 8.
    assert "44.9820, 7.9873 (south-west) to 45.0180, 8.0127 (north-east)" in region
    allowed = written_as(manifest.to_tree()) | CONSTANTS | {str(len(manifest.domain.receivers)), "2"}
    found = NUMBER.findall(text.replace(region, ""))
    assert len(found) > 60
    assert [number for number in found if number not in allowed] == []


def test_the_results_stand_in_their_rows(manifest):
    told, text = manifest.metrics, body(card(manifest))
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (x.split("|") for x in text.splitlines())
        if len(cells) > 3
    }
    for name, errors in (
        ("this model", told["error_m"]),
        (r"baseline prior\_mean", told["baselines"]["prior_mean"]),
        (r"control no\_radio", told["controls"]["no_radio"]),
    ):
        assert rows[name] == [f"{errors[key]:,.1f}" for key in ("mean", "median", "p68", "p90", "rmse")]
    low, high = told["coverage_interval"]
    assert rows["0.68"] == [
        f"{told['coverage']['0.68']:.1%}".replace("%", " %"),
        f"{100 * low:.1f} % to {100 * high:.1f} %",
    ]
    assert rows["powder"] == ["random", "811", "143", "47", "40", "00ff00ff00ff00ff"]
    for name, key in (("mean", "error_interval_m"), ("median", "error_median_interval_m")):
        low, high = told[key]
        assert f"- 95 % interval of the {name} error, by bootstrap: {low:,.1f} to {high:,.1f} m." in text
    assert "above 412.2 m is better not given; 17.5 % of those measured have such: their mean error is 533.5 m" in text
    assert rows[r"position\_m"] == ["0.0037", "1"]
    assert rows[r"position\_deg"] == ["not compared", "1e-09"]
    assert "- float16: model\\_float16.onnx, mean error +1.23 % from float32's" in text
    assert "- int8: refused (too far off)" in text


def test_the_header_is_what_hugging_face_reads(manifest, tmp_path):
    (tmp_path / CARD).write_text(card(manifest))
    data = ModelCard.load(tmp_path / CARD).data
    assert (data.license, data.model_name) == ("apache-2.0", "heimdall-net")
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found["mean_error_m"] == manifest.metrics["error_m"]["mean"]
    assert found["coverage_68"] == manifest.metrics["coverage"]["0.68"]
    assert {(r.dataset_name, r.dataset_split) for r in data.eval_results} == {("powder", "random")}


def test_names_from_outside_are_no_markup(manifest):
    config = manifest.config | {"tracking": manifest.config["tracking"] | {"registered_name": HOSTILE}}
    told = metrics(dataset=HOSTILE, split=HOSTILE, notes=[HOSTILE], skipped={HOSTILE: 1}, fingerprint=HOSTILE)
    told["baselines"] = {HOSTILE: told["error_m"]}
    told["bound"]["kind"] = HOSTILE
    manifest = dataclasses.replace(
        manifest,
        domain=dataclasses.replace(manifest.domain, receivers=(HOSTILE, "b")),
        config=config,
        metrics=told,
        producers={HOSTILE: HOSTILE},
        smaller=(Smaller("int8", HOSTILE, False, reason=HOSTILE),),
    )
    text = card(manifest, revision=HOSTILE)
    tree = yaml.safe_load(text.split("---\n")[1])
    seen = " ".join(HOSTILE.split())
    assert tree["model-index"][0]["name"] == tree["model-index"][0]["results"][0]["dataset"]["name"] == seen
    tokens = MarkdownIt("commonmark").enable("table").parse(body(text))
    inline = [token for parent in tokens for token in parent.children or ()]
    assert {token.type for token in inline} == {"text"}
    assert "html_block" not in {token.type for token in tokens}
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(headings) == 7  # the name and six sections
    for at, token in enumerate(tokens):
        if token.type == "table_open":
            end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
            kinds = [token.type for token in tokens[at:end]]
            assert kinds.count("td_open") == kinds.count("th_open") * (kinds.count("tr_open") - 1)
    shown = ["".join(token.content for token in parent.children or ()) for parent in tokens]
    assert shown.count(seen) == 7  # title, data set, split, fingerprint, revision, package and its version


def test_what_markdown_makes_of_an_escaped_text_is_the_text():
    plain = MarkdownIt("commonmark").enable("table").renderInline(escaped(HOSTILE))
    assert plain == MarkdownIt("zero").renderInline(" ".join(HOSTILE.split()))


def test_a_run_that_was_never_evaluated_says_so(manifest):
    bare = dataclasses.replace(manifest, metrics=None, parity={}, smaller=())
    text = card(bare)
    for said in ("Never evaluated", "rows were not counted", "ONNX Runtime was not compared with JAX."):
        assert said in text
    assert "model-index" not in text


def test_what_was_not_computed_is_told(manifest):
    told = metrics(baselines={}, controls={}, split="none (validation)", n_trained_on=3)
    for name in ("bound", "doubt", "rows", "coverage_interval", "error_interval_m", "error_median_interval_m"):
        del told[name]
    text = card(dataclasses.replace(manifest, metrics=told))
    for said in (
        "There is no bound to compare with.",
        "There is no threshold above which to answer that the place is unknown.",
        "No baseline was computed.",
        "No control was computed.",
        "| not counted | not counted | not counted |",
        "No rows were held out for a test.",
        "the errors are too small",
        "trained on 3 of the measured rows: the result is no test",
    ):
        assert said in text
    assert "interval of the" not in text


def test_a_simulated_run_says_what_its_world_was(manifest):
    simulated = dataclasses.replace(manifest, config=dataclasses.asdict(Config()))
    text = body(card(simulated))
    assert "in simulation alone" in text
    assert "Simulated signals: fm, packet, at 145 MHz; recordings of 1.0 s." in text
    assert "interpolation" not in text
    by_clock = {"name": "clocks 50 ns", "n": 9, "error_m": {"fused": {"p68": 26.31}}, "bound_p68_m": 25.94}
    by_clock |= {"ratio_p68": 1.0143, "coverage_68": 0.667}
    text = card(dataclasses.replace(simulated, metrics=metrics(by_clock=[by_clock])))
    assert "| clocks 50 ns | 9 | 26.3 | 25.9 | 1.01 | 66.7 % |" in text


def test_a_card_is_written_with_the_hashes_of_all_files_and_checked(manifest, tmp_path):
    assert not check_card(tmp_path, manifest.sha256)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    write_card(tmp_path, manifest, "abc")
    first = (tmp_path / CARD).read_bytes()
    for name, digest in (("model.onnx", manifest.sha256), ("model\\_float16.onnx", "b" * 64)):
        assert re.search(rf"\| {re.escape(name)} \| \d+ \| {digest} \|", first.decode())
    digest = hashlib.sha256(b"seed: 1\n").hexdigest()
    assert f"| config.yaml | 8 | {digest} |".encode() in first
    assert check_card(tmp_path, manifest.sha256)
    write_card(tmp_path, manifest, "abc")
    assert (tmp_path / CARD).read_bytes() == first
    with pytest.raises(ExportError, match=f"model_sha256: got {manifest.sha256}; allowed: model.onnx's, {'0' * 64}"):
        check_card(tmp_path, "0" * 64)


@pytest.mark.parametrize(
    "text", ["", "# no header\n", "---\n- a\n---\n", "x---\na: 1\n---\n", "---\na: [\n---\n", "---\n"]
)
def test_a_card_without_a_header_is_refused(tmp_path, text):
    (tmp_path / CARD).write_text(text)
    with pytest.raises(ExportError, match="a card with its YAML header"):
        check_card(tmp_path, "0" * 64)
