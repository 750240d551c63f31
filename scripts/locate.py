#!/usr/bin/env python3
"""Locate a transmitter from several receivers' recordings: `locate.py --help`."""

import sys

from heimdall_jax.command import leave, run_script
from heimdall_jax.flags import parse


def main(arguments: list[str]) -> None:
    """Parse, locate and say where, or end with code 3 where that is not known."""
    from heimdall_jax.locate.arguments import LocateArguments
    from heimdall_jax.locate.command import NOT_LOCATED, locate

    answer = locate(parse(LocateArguments, arguments))
    print(answer.text)
    if not answer.located:
        sys.exit(NOT_LOCATED)


if __name__ == "__main__":
    leave(run_script(main))
