#!/usr/bin/env python3
"""Measure a trained model, or compare several: `evaluate.py --help`."""

import json

from heimdall_jax.command import EvaluateArguments, leave, run_script
from heimdall_jax.flags import parse


def main(arguments: list[str]) -> None:
    """Parse and evaluate."""
    parsed = parse(EvaluateArguments, arguments)
    from rich.console import Console

    from heimdall_jax.seeds import evaluate_runs

    told = evaluate_runs(
        (parsed.run, *parsed.others),
        data_path=parsed.data,
        objects=parsed.objects,
        split=parsed.split,
        out=parsed.out,
        conditions=parsed.conditions,
        faults=parsed.faults,
        report=parsed.report,
        console=Console(stderr=True) if parsed.json else None,
    )
    if parsed.json:
        print(json.dumps(told))


if __name__ == "__main__":
    leave(run_script(main))
