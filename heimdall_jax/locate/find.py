"""Recordings and flags to what a method finds."""

from __future__ import annotations

import contextlib

from heimdall_jax.errors import HeimdallError
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.found import Found
from heimdall_jax.sources.kinds import Supplied, common_rate_hz, read_receptions
from heimdall_jax.sources.moments import moment_ns
from heimdall_jax.sources.places import known_places, place_of
from heimdall_jax.types import Station


def find(arguments: LocateArguments) -> Found:
    """Read the recordings and ask the method.

    Raises:
        HeimdallError: One of its children, with the cure.
    """
    supplied = Supplied(
        stations=arguments.stations,
        clock_sigma_s=arguments.clock_us * 1e-6,
        start_ns=None if arguments.start is None else moment_ns(arguments.start, "--start"),
        frequency_hz=arguments.frequency_hz,
    )
    timed = arguments.model is not None or arguments.method == "tdoa"
    receptions, refused = read_receptions(arguments.recordings, supplied, timed=timed)
    spare = _spare(arguments, {one.station.name for one in receptions}, [entry["name"] for entry in refused])
    if arguments.model is not None:
        from heimdall_jax.locate.by_model import find_by_model  # ONNX Runtime takes a while to load

        return find_by_model(receptions, refused, arguments.model, spare=spare)
    rate_hz, window_s = common_rate_hz(receptions), arguments.window
    if arguments.method == "rss":
        from heimdall_jax.locate.by_powers import find_by_powers

        return find_by_powers(receptions, refused, sample_rate_hz=rate_hz, window_s=window_s, spare=spare)
    from heimdall_jax.locate.by_times import find_by_times

    return find_by_times(
        receptions,
        refused,
        sample_rate_hz=rate_hz,
        window_s=window_s,
        sigma_us=arguments.sigma_us,
        spare=spare,
    )


def _spare(arguments: LocateArguments, recorded: set[str], refused: list[str]) -> list[Station]:
    """Stations whose places are known and whose recordings are not, or were refused."""
    if arguments.stations is None:
        return []
    found = {}
    for name in refused:
        with contextlib.suppress(HeimdallError):
            found[name.replace("-", "_")] = place_of(name, arguments.stations)
    taken = {name.replace("-", "_") for name in recorded}
    return [s for key, s in (known_places(arguments.stations) | found).items() if key not in taken]
