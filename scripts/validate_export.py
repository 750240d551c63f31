"""Prove that a run's model.onnx is its checkpoint's export and agrees with JAX: `validate_export.py --help`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from heimdall_jax.command import leave, run_script


@dataclass(frozen=True)
class Arguments:
    """Check a run's exported model: manifest, every weight to the bit, ONNX Runtime against JAX, and smaller files.

    Exit code 0 and a table of errors, or 1 and the reason. Example: validate_export.py RUN/model.onnx
    """

    model: tyro.conf.Positional[Path]
    """model.onnx in the run folder that train.py left, or that folder."""
    debug: bool = False
    """Show tracebacks."""


def main(arguments: list[str]) -> None:
    """Parse and validate."""
    parsed = tyro.cli(Arguments, args=arguments)
    from rich.console import Console

    from heimdall_jax.delivery import validate_export
    from heimdall_jax.export.table import parity_table, smaller_table

    console = Console()
    validated = validate_export(parsed.model)
    console.print(parity_table(validated.parity))
    if validated.smaller:
        console.print(smaller_table(validated.smaller))
    console.print(
        f"{parsed.model}: model.onnx is its run's checkpoint, weight by weight.", highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    leave(run_script(main))
