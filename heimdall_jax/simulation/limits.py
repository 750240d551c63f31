"""Which worlds can be built."""

from __future__ import annotations

import math

from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.types import Station
from heimdall_jax.worlds import WorldConfig

POSITIVE = ("shadowing_correlation_m", "duration_s", "frequencies_hz")
NOT_NEGATIVE = ("shadowing_db", "fading_db", "echoes", "gain_bias_db", "offset_max_hz", "rate_error_ppm")
FINITE = ("echo_db", "exponent", "power_min_dbm", "power_max_dbm", "noise_figure_db", "detection_snr_db")
NOT_EMPTY = ("kinds", "frequencies_hz", "clock_sigma_s")
CLOCK_MAX_S = 0.01
"""Beyond, a clock tells nothing of this size of network, and waveforms would grow by its errors."""
FARTHEST_SIGMAS = 6.0
"""No normal draw in float32 is farther from its mean."""
DRIFT_MAX_S = 4e-6
"""How far samples may slip from true time within half a recording: `channel.propagate` is good to there."""


def check_world(config: WorldConfig, sample_rate_hz: float, stations: tuple[Station, ...]) -> None:
    """Raise ConfigError where no world can be built."""
    for names, least, allowed in (
        (POSITIVE, math.nextafter(0.0, 1.0), "a finite number above zero"),
        (NOT_NEGATIVE, 0.0, "a finite number, zero or above"),
        (FINITE, -math.inf, "a finite number"),
    ):
        for name in names:
            value = getattr(config, name)
            _check_numbers(f"world.{name}", value if isinstance(value, tuple) else (value,), least, allowed)
    _check_numbers("sample_rate_hz", (sample_rate_hz,), math.nextafter(0.0, 1.0), "a finite number above zero")
    for name in NOT_EMPTY:
        if not getattr(config, name):
            raise ConfigError(explain(f"world.{name}", got="none", allowed="one or more", cure="Name what to draw."))
    for sigma in config.clock_sigma_s:
        if not 0 <= sigma <= CLOCK_MAX_S:
            allowed = f"0 to {CLOCK_MAX_S:g} s"
            raise ConfigError(explain("world.clock_sigma_s", got=sigma, allowed=allowed, cure="Correct it."))
    if not 0 <= config.same_clock <= 1:
        raise ConfigError(explain("world.same_clock", got=config.same_clock, allowed="0 to 1", cure="Correct it."))
    if config.power_max_dbm < config.power_min_dbm:
        got = f"{config.power_min_dbm} to {config.power_max_dbm} dBm"
        raise ConfigError(explain("world power", got=got, allowed="min <= max", cure="Swap them."))
    if farthest_drift_s(config) > DRIFT_MAX_S:
        got, allowed = f"{farthest_drift_s(config):.2g} s", f"{DRIFT_MAX_S:g} s"
        cure = "Lower world.rate_error_ppm, world.offset_max_hz or world.duration_s."
        raise ConfigError(explain("world, drift of the samples", got=got, allowed=allowed, cure=cure))
    if len({s.latitude_deg for s in stations}) < 2 or len({s.longitude_deg for s in stations}) < 2:
        got = f"{len(stations)} stations"
        cure = "The box they span is where transmitters are drawn."
        raise ConfigError(explain("stations", got=got, allowed="two or more latitudes and longitudes", cure=cure))


def farthest_drift_s(config: WorldConfig) -> float:
    """How far a receiver's first or last sample can be from where a true sample rate would have it."""
    rate_error = config.offset_max_hz / min(config.frequencies_hz) + FARTHEST_SIGMAS * config.rate_error_ppm * 1e-6
    return rate_error * config.duration_s / 2


def _check_numbers(name: str, values: tuple[float | int, ...], least: float, allowed: str) -> None:
    for value in values:
        if not (math.isfinite(value) and value >= least):
            raise ConfigError(explain(name, got=value, allowed=allowed, cure="Correct it."))
