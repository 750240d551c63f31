"""Smaller files beside a run's model: made, measured beside it, kept or refused. Joins the rooms."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from heimdall_jax.assessment import batches_of, measured_rows
from heimdall_jax.datasets import Data
from heimdall_jax.errors import HeimdallError
from heimdall_jax.evaluation.calibration import coverage, squared_mahalanobis
from heimdall_jax.evaluation.summary import error_summary, ground_error_m
from heimdall_jax.export.bundle import Bundle, read_bundle, write_atomically, write_manifest
from heimdall_jax.export.manifest import Manifest, Smaller
from heimdall_jax.export.release import read_samples
from heimdall_jax.export.session import ask, open_session
from heimdall_jax.export.shrink import to_float16, to_int8
from heimdall_jax.export.signature import Tensor, to_graph_dtype
from heimdall_jax.export.smaller import check_again, check_growth, check_size, differences, file_of
from heimdall_jax.export_settings import PRECISIONS
from heimdall_jax.progress import counted
from heimdall_jax.run import Run
from heimdall_jax.run_folder import MODEL
from heimdall_jax.training.dataset import HeimdallDataset

CALIBRATION = 512
"""Training rows, spread over all of them, that tell how large values inside the network become."""


def shrink(run: Run, data: Data, precisions: Sequence[str]) -> Manifest:
    """Write the run's model in other precisions beside its validated `model.onnx`, and what they are worth.

    Ranges for int8 come from training rows. What a file is worth is measured on the test rows, or validation's where
    the split has no test: mean and median error, share of truths in the 68 % region, and the growth of the mean error
    over the float32 graph's. A file is refused, and none left, where that exceeds `smaller.MAX_GROWTH`, where it is no
    smaller, or where its answers are no fixes; the run is not lost by that.

    Returns:
        The manifest, which holds a `Smaller` for each precision.

    Raises:
        ExportError: `model.onnx` is not the one of its manifest.
        StorageError: The folder cannot be written.
    """
    for precision in PRECISIONS:
        (run.folder / file_of(precision)).unlink(missing_ok=True)  # of an export before this one
    single = read_bundle(run.folder / MODEL)
    entries = []
    if precisions:
        expected = {"size_bytes": single.manifest.size_bytes}
        expected |= _accuracy(single.model, single.manifest.inputs, run, measured_rows(data))
        each = counted(precisions, len(precisions), "making smaller files", "files")
        entries = [_made(precision, single, run, data, expected) for precision in each]
    manifest = dataclasses.replace(single.manifest, smaller=tuple(entries))
    write_manifest(run.folder, manifest)
    return manifest


def validate_smaller(run: Run) -> tuple[Smaller, ...]:
    """Compare a run's smaller files with their manifest, and their answers with the float32 graph's, once more.

    Returns:
        The manifest's entries, of accepted files with the differences found now.

    Raises:
        ExportError: A file is missing or altered, or its answers are further off than the manifest says.
    """
    single, samples = read_bundle(run.folder / MODEL), read_samples(run.folder)
    entries = []
    for entry in single.manifest.smaller:
        if entry.accepted and entry.differences is not None:
            smaller = read_bundle(run.folder / entry.file)
            found = differences(single.model, smaller.model, samples, single.manifest.inputs)
            check_again(entry.file, found, entry.differences)
            entry = dataclasses.replace(entry, differences=found)
        entries.append(entry)
    return tuple(entries)


def _made(precision: str, single: Bundle, run: Run, data: Data, expected: dict[str, Any]) -> Smaller:
    """One smaller file, written if it is accepted."""
    inputs, file = single.manifest.inputs, file_of(precision)
    entry = Smaller(precision, file, accepted=False)
    try:
        if precision == "int8":
            model = to_int8(single.model, _feeds(run, _calibration_rows(data), inputs))
        else:
            model = to_float16(single.model)
        entry = dataclasses.replace(entry, sha256=hashlib.sha256(model).hexdigest(), size_bytes=len(model))
        check_size(precision, len(model), len(single.model))
        apart = differences(single.model, model, read_samples(run.folder), inputs)
        found = _accuracy(model, inputs, run, measured_rows(data))
        side = "test" if data.test is not None else "validation"
        where = {"dataset": data.name, "split": data.split, "side": side}
        growth = found["error_m"]["mean"] / expected["error_m"]["mean"] - 1.0
        accuracy = where | found | {"float32": expected, "growth": growth}
        entry = dataclasses.replace(entry, accuracy=accuracy, differences=apart)
        told = f"the {side} side of {data.name}, split {data.split}"
        check_growth(precision, found["error_m"]["mean"], expected["error_m"]["mean"], where=told)
    except HeimdallError as error:
        return dataclasses.replace(entry, reason=str(error))
    write_atomically(run.folder / file, model)
    return dataclasses.replace(entry, accepted=True)


def _calibration_rows(data: Data) -> HeimdallDataset:
    assert data.train is not None
    return data.train.subset(np.unique(np.linspace(0, len(data.train) - 1, CALIBRATION).astype(np.int64)))


def _feeds(run: Run, side: HeimdallDataset, inputs: Sequence[Tensor]) -> Iterator[dict[str, np.ndarray]]:
    """Every row of a side as a graph takes it; the last batch is filled up."""
    for batch in batches_of(run.config, side):
        yield {tensor.name: to_graph_dtype(tensor, batch[tensor.name]) for tensor in inputs}


def _accuracy(model: bytes, inputs: Sequence[Tensor], run: Run, rows: HeimdallDataset) -> dict[str, Any]:
    """What a graph is worth on rows with a known truth."""
    session = open_session(model)
    answers = [ask(session, feed) for feed in _feeds(run, rows, inputs)]
    position_m, _, covariance_m2 = (np.concatenate(values)[: len(rows)] for values in zip(*answers, strict=True))
    position_m, truth_m = (np.asarray(place, np.float64) for place in (position_m, rows.columns()["position_m"]))
    error_m = error_summary(ground_error_m(position_m, truth_m, run.domain.origin_deg))
    inside = coverage(squared_mahalanobis(truth_m - position_m, covariance_m2))
    summary = {name: error_m[name] for name in ("mean", "median")}
    return {"n": len(rows), "error_m": summary, "coverage_68": inside["0.68"]}
