"""The page of several runs: their numbers, verdicts in words, and what a reader must not take a difference for."""

import numpy as np
from evaluation.some_fixes import metrics_of, some_fixes
from pages.test_run_page import HOSTILE, Reader

from heimdall_jax.evaluation.comparison import UNTOLD, compare_all, comparison_cells
from heimdall_jax.evaluation.fixes import Fixes
from heimdall_jax.evaluation.spread import spreads
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.pages.compare_page import compare_page

FIXES = some_fixes(60)


def some_runs(**changes) -> dict[str, Fixes]:
    return {"seed-0": FIXES, "seed-1": FIXES, "other": some_fixes(60, error_m_N=FIXES.error_m_N / 2, **changes)}


def a_page(fixes: dict[str, Fixes], differing: tuple[str, ...] = (), **changes) -> str:
    results = [metrics_of(its, **changes) for its in fixes.values()]
    told = {"dataset": "made up", "split": "time", "n": 60, "differing": list(differing)}
    return compare_page(told | {"metrics": spreads(results), "compared": compare_all(fixes)}, results, fixes)


def test_it_tells_differences_errors_and_spread_of_each_run():
    fixes = some_runs()
    found = Reader(a_page(fixes))
    told = compare_all(fixes)["others"]
    for name in ("seed-1", "other"):
        assert " ".join((name, *comparison_cells(told[name]))) in found.text
    assert f"seed-1 beside seed-0 {UNTOLD}" in found.text
    assert "other beside seed-0 better" in found.text
    assert f"seed-0 {spoken_m(float(FIXES.error_m_N.mean()))}" in found.text
    assert "3 runs compared: made up, split time" in found.text
    assert "bootstrap over the fixes." in found.text
    images = found.all("img")
    assert len(images) == len(found.all("details")) == 3
    assert all(image["alt"] and len(image["alt"]) > 40 for image in images)


def test_real_recordings_are_drawn_in_chunks_and_it_is_said():
    fixes = {name: some_fixes(60, start_time_s_N=np.arange(60.0) * 100) for name in ("a", "b")}
    assert "bootstrap over five-minute chunks of the fixes" in Reader(a_page(fixes)).text


def test_a_single_run_has_nothing_to_be_compared_with():
    found = Reader(a_page({"seed-0": FIXES}))
    assert "Compared" not in found.text
    assert len(found.all("img")) == 1


def test_what_would_mislead_is_said_first():
    text = Reader(a_page(some_runs(), ("training.learning_rate",), n_trained_on=3)).text
    assert "differ by more than their seed: training.learning_rate" in text
    assert "Some of these rows were trained on: this is no test" in text
    plain = Reader(a_page(some_runs())).text
    assert "this is no test" not in plain
    assert "more than their seed" not in plain


def test_names_of_runs_are_text_and_never_markup():
    found = Reader(a_page({HOSTILE: FIXES, "b": FIXES}))
    assert found.all("script") == []
    assert HOSTILE in found.text
