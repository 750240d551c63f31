#!/usr/bin/env python3
"""Locate a transmitter from several receivers' recordings: `locate.py --help`."""

from heimdall_jax.command import leave, run_script
from heimdall_jax.flags import parse


def main(arguments: list[str]) -> None:
    """Parse, locate and say where."""
    from heimdall_jax.locating import LocateArguments, locate

    print(locate(parse(LocateArguments, arguments)))


if __name__ == "__main__":
    leave(run_script(main))
