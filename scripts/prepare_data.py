#!/usr/bin/env python3
"""Write data once for many runs: `prepare_data.py --help`."""

import json

from heimdall_jax.command import leave, run_script


def main(arguments: list[str]) -> None:
    """Parse and prepare."""
    from heimdall_jax.preparation import parse_prepare, prepare_data

    parsed = parse_prepare(arguments)
    said = prepare_data(parsed)
    print(json.dumps({"out": str(parsed.out), "written": said}) if parsed.json else said)


if __name__ == "__main__":
    leave(run_script(main))
