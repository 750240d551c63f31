"""`model_card.md` beside a model: what it was learned from, how well it did, where it ends, and its hashes.

Markdown below the YAML header that Hugging Face's hub reads. It is made of the manifest alone, so that equal runs have
equal cards; names from outside are escaped and can neither end a table's cell nor make a link. Imports no JAX.
"""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path
from typing import Any

import yaml

from heimdall_jax.errors import DataError, ExportError, StorageError, explain, shown
from heimdall_jax.export.bundle import write_atomically
from heimdall_jax.export.card_sections import sections
from heimdall_jax.export.manifest import Manifest
from heimdall_jax.outside import parse_yaml, read_file

CARD = "model_card.md"
MAX_CARD_BYTES = 1 << 20
"""A card has 8 kB."""
SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$^@])")
"""What Markdown, its tables or links begin with."""
FENCE = "---\n"


def write_card(folder: Path, manifest: Manifest, revision: str) -> None:
    """Write the card of a folder's bundle, over the one there.

    Args:
        folder: Of the run.
        manifest: Of the bundle, its smaller files included.
        revision: Of the code that trained.

    Raises:
        StorageError: It cannot be written, or the run's config not be read.
    """
    files = [("model.onnx", manifest.size_bytes, manifest.sha256)]
    files += [(entry.file, entry.size_bytes or 0, entry.sha256 or "") for entry in manifest.smaller if entry.accepted]
    config = folder / "config.yaml"
    if config.exists():
        data = read_file(config, MAX_CARD_BYTES)
        files.append((config.name, len(data), hashlib.sha256(data).hexdigest()))
    write_atomically(folder / CARD, render_card(manifest, files, revision).encode())


def render_card(manifest: Manifest, files: list[tuple[str, int, str]], revision: str) -> str:
    """A card's text; arguments as `card_sections.sections` has them."""
    import jinja2  # with what needs it: only cards and pages do

    loader = jinja2.PackageLoader("heimdall_jax", "export")
    # Markdown has no autoescape: every value passes `escaped` on its way into the template.
    environment = jinja2.Environment(
        loader=loader, autoescape=False, finalize=escaped, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    any_number = any(tensor.shape[1:2] == ("R",) for tensor in manifest.inputs)
    many = "any number of receivers" if any_number else f"{len(manifest.domain.receivers)} receivers"
    body = environment.get_template("model_card.md.jinja").render(
        name=_name(manifest),
        summary=f"Gives the place of a radio transmitter, and a covariance that says how sure it is, from what {many} "
        f"measured of one transmission. It is a {manifest.config['model']['name']} of heimdall_jax, as an ONNX graph "
        "that needs ONNX Runtime alone.",
        sections=sections(manifest, files, revision),
    )
    text = yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True, width=10_000)
    return f"{FENCE}{text}{FENCE}\n{body}"


def check_card(folder: Path, sha256: str) -> bool:
    """Whether a folder has a card; then it is of the model of this hash.

    Raises:
        ExportError: It is another model's, or unreadable.
    """
    path, cure = folder / CARD, "Export the run again."
    if not path.exists():
        return False
    try:
        text = read_file(path, MAX_CARD_BYTES).decode()
        start, header, _ = text.split(FENCE, 2)
        tree = parse_yaml(header.encode())
        if start or not isinstance(tree, dict):
            raise ValueError("no header")
    except (StorageError, DataError, ValueError) as error:
        raise ExportError(explain(CARD, got=error, allowed="a card with its YAML header", cure=cure)) from error
    if tree.get("model_sha256") != sha256:
        got = tree.get("model_sha256", "nothing")
        raise ExportError(explain(f"{CARD}, model_sha256", got=got, allowed=f"model.onnx's, {sha256}", cure=cure))
    return True


def escaped(value: Any) -> str:
    """Text as Markdown shows it, on one line: no markup, no HTML, no end of a cell, no link."""
    text = SPECIAL.sub(r"\\\1", html.escape(shown(value), quote=False))
    return text.replace("://", r":\//").replace("www.", r"www\.")


def _name(manifest: Manifest) -> str:
    return shown(manifest.config["tracking"]["registered_name"])


def _header(manifest: Manifest) -> dict[str, Any]:
    """Metadata as Hugging Face's hub reads it, and the model's hash."""
    header: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "onnx",
        "tags": ["onnx", "jax", "radio", "localization", "uncertainty"],
        "model_sha256": manifest.sha256,
    }
    metrics = manifest.metrics
    if metrics is None:
        return header
    values = {f"{name}_error_m": metrics["error_m"][name] for name in ("mean", "median", "p68", "p90")}
    values |= {"nll_nats_per_fix": metrics["nll_nats_per_fix"], "coverage_68": metrics["coverage"]["0.68"]}
    dataset = {"type": shown(metrics["dataset"]), "name": shown(metrics["dataset"]), "split": shown(metrics["split"])}
    result = {
        "task": {"type": "other", "name": "transmitter localization"},
        "dataset": dataset,
        "metrics": [{"type": name, "value": value} for name, value in values.items()],
    }
    header["metrics"] = list(values)
    header["model-index"] = [{"name": _name(manifest), "results": [result]}]
    return header
