"""Prove that a run's model.onnx is its checkpoint's export and agrees with JAX: `validate_export.py --help`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from heimdall_jax.command import leave, run_script


@dataclass(frozen=True)
class Arguments:
    """Check a run's exported model: manifest, every weight to the bit, ONNX Runtime against JAX, and smaller files.

    Exit code 0 and a table of errors, or 1 and the reason. With --publish the model is published if all is well.

    Examples: validate_export.py RUN/model.onnx · validate_export.py RUN --publish s3://heimdall-models
    """

    model: tyro.conf.Positional[Path]
    """model.onnx in the run folder that train.py left, or that folder."""
    publish: str | None = None
    """Then publish the model in this store: s3://heimdall-models or a folder."""
    name: str | None = None
    """To publish under; by default the run's tracking.registered_name."""
    version: str | None = None
    """To publish as; by default the number in the registry at the run's tracking.uri, else one made of the content."""
    debug: bool = False
    """Show tracebacks."""


def main(arguments: list[str]) -> None:
    """Parse and validate."""
    parsed = tyro.cli(Arguments, args=arguments)
    from rich.console import Console

    from heimdall_jax.delivery import validate_export
    from heimdall_jax.export.table import parity_table, smaller_table
    from heimdall_jax.publishing import in_words, publish_run

    console = Console()
    validated = validate_export(parsed.model)
    console.print(parity_table(validated.parity))
    if validated.smaller:
        console.print(smaller_table(validated.smaller))
    console.print(
        f"{parsed.model}: model.onnx is its run's checkpoint, weight by weight.", highlight=False, soft_wrap=True
    )
    if parsed.publish is not None:
        folder = parsed.model if parsed.model.is_dir() else parsed.model.parent
        published = publish_run(folder, parsed.publish, name=parsed.name, version=parsed.version)
        console.print(in_words(published, parsed.publish), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    leave(run_script(main))
