"""What a model card tells, section by section, of what a bundle's manifest holds. Imports no JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.export.manifest import Manifest
from heimdall_jax.geodesy import local_to_degrees

LONGEST_LIST = 40
"""Names that are listed; of more the number is told."""
SPLITS = {
    "random": "The test rows lie among the training rows: the errors are those of interpolation, not of another day, "
    "place or receiver.",
    "time": "The test rows are later ones of the same place and receivers: elsewhere errors are unknown.",
    "block": "The test rows are of an area that no training row is from, with the same receivers.",
    "none": "No rows were held out for a test.",
}
STATISTICS = ("mean", "median", "p68", "p90", "rmse")


class Table(NamedTuple):
    """Cells as text, below a caption."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """Paragraphs, then tables, then points; none of it is Markdown yet."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[str, ...] = ()


def sections(manifest: Manifest, files: Sequence[tuple[str, int, str]], revision: str) -> list[Section]:
    """All of a card below its summary.

    Args:
        manifest: Of the bundle.
        files: Name, bytes and SHA-256 of each file.
        revision: Of the code.
    """
    return [
        _use(manifest),
        Section("Limits", points=tuple(_limits(manifest))),
        _data(manifest),
        _results(manifest.metrics),
        _export(manifest, files),
        _made_with(manifest, revision),
    ]


def _use(manifest: Manifest) -> Section:
    header = ("name", "type", "axes", "unit", "meaning")
    tables = tuple(
        Table(
            caption,
            header,
            tuple((t.name, t.dtype, "; ".join(t.axes), t.unit, t.meaning + _optional(t.optional)) for t in tensors),
        )
        for caption, tensors in (("Inputs:", manifest.inputs), ("Outputs:", manifest.outputs))
    )
    use = (
        "To place one transmitter inside the region below, from the kind of signals and receivers it was trained on, "
        "for programs and people who use the covariance with the place.",
        "Not to prove where somebody was, and not where a wrong place would put somebody in danger.",
    )
    return Section("Intended use", use, tables)


def _optional(known: bool) -> str:
    """Said of an input that may be left out."""
    return " May be left out." if known else ""


def _limits(manifest: Manifest) -> list[str]:
    """What the run knows of where its answers end."""
    data, metrics = manifest.config["data"], manifest.metrics or {}
    west, south, east, north = manifest.domain.position_box_m
    corners = [
        local_to_degrees(np.array(corner), manifest.domain.origin_deg) for corner in ((west, south), (east, north))
    ]
    told = ["{:.4f}, {:.4f}".format(*corner) for corner in corners]
    said = ["One transmitter at a time: a place is given for every recording, also where two were on, or none."]
    if (west, south) != (east, north):
        said.append(
            f"Region of the training places: latitude, longitude {told[0]} (south-west) to {told[1]} (north-east)."
        )
    said += [_receivers(manifest.domain.receivers, str(manifest.config["model"]["name"]))]
    if data["source"] == "simulation":
        said += _world(manifest.config)
    else:
        said.append(f"Learned from recordings of {data['source']}; of other receivers and seasons nothing is known.")
    split = str(metrics.get("split", data["split"]))
    said += [text for name, text in SPLITS.items() if data["source"] != "simulation" and split.startswith(name)]
    if "(validation)" in split:
        said.append("Measured on the validation rows, by which the checkpoint was chosen: the errors are too small.")
    if metrics.get("n_trained_on"):
        said.append(f"The model was trained on {metrics['n_trained_on']} of the measured rows: the result is no test.")
    return said


def _receivers(names: Sequence[str], model: str) -> str:
    listed = ", ".join(names[:LONGEST_LIST]) + (", …" if len(names) > LONGEST_LIST else "")
    others = {
        "receiver_set": "others may be given as unknown ones",
        "radio_map": "others are not in its map",
        "localization_net": "in this order, and no others",
    }.get(model, "of others nothing is known")
    return f"Trained on {len(names)} receivers ({listed}); {others}."


def _world(config: Mapping[str, Any]) -> list[str]:
    """Of a simulated one."""
    world = config.get("world", {})
    clocks = ", ".join(f"{sigma_s:g}" for sigma_s in world.get("clock_sigma_s", ())) or "unknown"
    carriers = ", ".join(f"{hertz / 1e6:g}" for hertz in world.get("frequencies_hz", ())) or "unknown"
    kinds = ", ".join(dict.fromkeys(world.get("kinds", ()))) or "unknown"
    return [
        "Trained and measured in simulation alone: on real recordings errors are unknown.",
        f"Simulated signals: {kinds}, at {carriers} MHz; recordings of {world.get('duration_s', 'unknown')} s.",
        f"Simulated receivers: clocks of {clocks} s (1 sigma), {world.get('echoes', 'unknown')} echoes.",
    ]


def _data(manifest: Manifest) -> Section:
    metrics, data = manifest.metrics, manifest.config["data"]
    if metrics is None:
        return Section("Data", (f"Trained on {data['source']}, split {data['split']}; rows were not counted.",))
    rows = metrics.get("rows") or {}
    counts = tuple(str(rows.get(side, "not counted")) for side in ("train", "validation", "test"))
    cells = (
        str(metrics["dataset"]),
        str(metrics["split"]),
        *counts,
        str(metrics["n"]),
        str(metrics.get("fingerprint", "")),
    )
    header = ("data set", "split", "training rows", "validation rows", "test rows", "measured", "fingerprint")
    skipped = [f"Skipped or masked: {n} x {reason}" for reason, n in (metrics.get("skipped") or {}).items() if n]
    notes = [f"Note: {note}" for note in metrics.get("notes") or ()]
    caption = "The fingerprint is of the measured rows: results with equal ones can be compared."
    return Section("Data", tables=(Table(caption, header, (cells,)),), points=(*skipped, *notes))


def _results(metrics: Mapping[str, Any] | None) -> Section:
    if metrics is None:
        return Section("Results", ("Never evaluated: nothing is known of this model's errors.",))
    named = [("this model", metrics["error_m"])]
    named += [(f"baseline {name}", errors) for name, errors in metrics["baselines"].items()]
    named += [(f"control {name}", errors) for name, errors in metrics["controls"].items()]
    rows = tuple((name, *(_metres(errors[key]) for key in STATISTICS)) for name, errors in named)
    header = ("", "mean", "median", "68 %", "90 %", "rms")
    tables = (
        Table(f"Ground distances from the truth in metres, n = {metrics['n']}:", header, rows),
        _coverage(metrics),
        _by_clock(metrics.get("by_clock") or ()),
    )
    missing = [f"No {what} was computed." for what in ("baselines", "controls") if not metrics[what]]
    missing = [text.replace("baselines", "baseline").replace("controls", "control") for text in missing]
    return Section("Results", tables=tables, points=(*_sentences(metrics), *missing))


def _sentences(metrics: Mapping[str, Any]) -> list[str]:
    """Intervals, likelihood, bound and the threshold of doubt."""
    said = []
    for name, key in (("mean", "error_interval_m"), ("median", "error_median_interval_m")):
        if (interval := metrics.get(key)) is not None:
            said.append(
                f"95 % interval of the {name} error, by bootstrap: {_metres(interval[0])} to {_metres(interval[1])} m."
            )
    said.append(
        f"Negative log-likelihood: {metrics['nll_nats_per_fix']:.3f} nats per fix, of a density per square metre."
    )
    bound = metrics.get("bound")
    if bound is None:
        said.append("There is no bound to compare with.")
    else:
        kind, ratio = bound["kind"], f"{bound['ratio_p68']:.3g}"
        said.append(
            f"Bound ({kind}): 68 % of its errors within {_metres(bound['p68_m'])} m; the model's over it: {ratio}."
        )
        if not bound.get("binds", True):
            said.append("That bound is a reference, which a model that knows more of the place can be below.")
    doubt = metrics.get("doubt")
    if doubt is None:
        said.append("There is no threshold above which to answer that the place is unknown.")
    else:
        kept = f", {_metres(doubt['kept_m'])} m without them" if "kept_m" in doubt else ""
        doubted = f": their mean error is {_metres(doubt['doubted_m'])} m{kept}" if "doubted_m" in doubt else ""
        said.append(
            f"A fix whose 68 % region has a radius above {_metres(doubt['above_m'])} m is better not given; "
            f"{_percent(doubt['share'])} of those measured have such{doubted}."
        )
    return said


def _coverage(metrics: Mapping[str, Any]) -> Table:
    interval = metrics.get("coverage_interval")
    spread = {} if interval is None else {"0.68": f"{_percent(interval[0])} to {_percent(interval[1])}"}
    rows = ((name, _percent(share), spread.get(name, "")) for name, share in metrics["coverage"].items())
    caption = "Truths inside the predicted region of each probability:"
    return Table(caption, ("probability", "truths inside", "95 % interval"), tuple(rows))


def _by_clock(rows: Sequence[Mapping[str, Any]]) -> Table:
    header = ("", "n", "error, 68 %", "bound, 68 %", "ratio", "truths in the 68 % region")
    cells = tuple(
        (
            str(row["name"]),
            str(row["n"]),
            _metres(row["error_m"]["fused"]["p68"]),
            _metres(row["bound_p68_m"]),
            f"{row['ratio_p68']:.3g}",
            _percent(row["coverage_68"]),
        )
        for row in rows
    )
    return Table("By the receivers' clocks, metres:", header, cells)


def _export(manifest: Manifest, files: Sequence[tuple[str, int, str]]) -> Section:
    limits, compared = manifest.parity.get("limits") or {}, manifest.parity.get("rows") or ()
    rows = []
    for name, limit in limits.items():
        known = [row[name] for row in compared if row.get(name) is not None]
        rows.append((name, f"{max(known):.2g}" if known else "not compared", f"{limit:g}"))
    text = () if rows else ("ONNX Runtime was not compared with JAX.",)
    parity = Table(
        f"ONNX Runtime against JAX, the largest of {len(compared)} comparisons:", ("", "largest", "limit"), tuple(rows)
    )
    listed = tuple((name, str(size), digest) for name, size, digest in files)
    hashes = Table("Files:", ("file", "bytes", "SHA-256"), listed)
    return Section("Export", text, (parity, hashes), tuple(map(_smaller, manifest.smaller)))


def _smaller(entry: Any) -> str:
    if not entry.accepted:
        return f"{entry.precision}: refused ({entry.reason})"
    growth = "" if entry.accuracy is None else f", mean error {100 * entry.accuracy['growth']:+.2f} % from float32's"
    return f"{entry.precision}: {entry.file}{growth}"


def _made_with(manifest: Manifest, revision: str) -> Section:
    made = [("code", revision), ("ONNX operator set", str(manifest.opset)), *manifest.producers.items()]
    return Section("Made with", tables=(Table("Versions:", ("", "version"), tuple(made)),))


def _metres(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
