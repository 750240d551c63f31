"""Write data once for many runs: `prepare_data.py --help`."""

from heimdall_jax.command import leave, run_script


def main(arguments: list[str]) -> None:
    """Parse and prepare."""
    from heimdall_jax.preparation import parse_prepare, prepare_data

    print(prepare_data(parse_prepare(arguments)))


if __name__ == "__main__":
    leave(run_script(main))
