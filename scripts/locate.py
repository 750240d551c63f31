"""Locate a transmitter from several receivers' recordings: `locate.py --help`."""

import tyro

from heimdall_jax.command import leave, run_script


def main(arguments: list[str]) -> None:
    """Parse, locate and say where."""
    from heimdall_jax.locating import LocateArguments, locate

    print(locate(tyro.cli(LocateArguments, args=arguments)))


if __name__ == "__main__":
    leave(run_script(main))
