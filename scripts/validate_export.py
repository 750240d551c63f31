#!/usr/bin/env python3
"""Prove that a run's model.onnx is its checkpoint's export and agrees with JAX: `validate_export.py --help`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from heimdall_jax.command import leave, run_script
from heimdall_jax.flags import flag, parse


@dataclass(frozen=True)
class Arguments:
    """Check a run's exported model: manifest, weights to the bit, ONNX Runtime against JAX (metres), smaller files.

    Example: validate_export.py RUN/model.onnx --publish s3://heimdall-models
    """

    model: tyro.conf.Positional[Path]
    """model.onnx in the run folder that train.py left, or that folder."""
    publish: Annotated[str | None, flag("STORE")] = None
    """Then publish the model in this store: s3://heimdall-models or a folder."""
    name: Annotated[str | None, flag("NAME", "the run's tracking.registered_name")] = None
    """To publish under."""
    version: Annotated[str | None, flag("VERSION", "the registry's number, else made of the content")] = None
    """To publish as."""
    json: bool = False
    """Print one JSON object: model, parity, smaller files and what was published."""
    debug: bool = False
    """Show tracebacks."""


def main(arguments: list[str]) -> None:
    """Parse and validate."""
    parsed = parse(Arguments, arguments)
    from rich.console import Console

    from heimdall_jax import progress
    from heimdall_jax.delivery import validate_export
    from heimdall_jax.export.table import validation_tables
    from heimdall_jax.publishing import in_words, publish_run

    console, validated, told = Console(stderr=parsed.json), validate_export(parsed.model), {}
    words = f"{parsed.model}: model.onnx is its run's checkpoint, weight by weight."
    if parsed.publish is not None:
        folder = parsed.model if parsed.model.is_dir() else parsed.model.parent
        published = publish_run(folder, parsed.publish, name=parsed.name, version=parsed.version)
        told, words = {"published": asdict(published)}, f"{words}\n{in_words(published, parsed.publish)}"
    progress.pause()
    console.print(validation_tables(validated.parity, validated.smaller))
    console.print(words, highlight=False, soft_wrap=True)
    if parsed.json:
        print(json.dumps({"model": str(parsed.model), **validated.to_tree(), **told}))


if __name__ == "__main__":
    leave(run_script(main))
