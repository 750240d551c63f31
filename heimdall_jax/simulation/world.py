"""The simulated network: where stations and transmitters are, and what power arrives.

    P_r = P_0 - loss(d_r) + shadowing_r(place) + fading_r        (dBm, physics of one transmission)

The shadowing is the world's own and the same for every transmission; power, fading and all else are drawn anew.
Randomness is by name: fold_in(key, crc32(name)), so a new nuisance leaves the old draws as they were.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.geodesy import (
    SPEED_OF_LIGHT_M_PER_S,
    degrees_to_enu,
    degrees_to_local,
    ground_height_m,
    offset_to_local,
)
from heimdall_jax.simulation.channel import noise_floor_dbm, path_loss_db
from heimdall_jax.simulation.shadowing import ShadowField, draw_field, field_at
from heimdall_jax.simulation.stations import SEVEN_STATIONS
from heimdall_jax.simulation.waveforms import WAVEFORMS
from heimdall_jax.types import Station

Box = tuple[tuple[float, float], tuple[float, float]]
"""South-west and north-east corner, latitude and longitude in degrees."""


def fold_in_name(key: Array, name: str) -> Array:
    """The key's own stream for `name`."""
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


class Transmission(NamedTuple):
    """One transmission and every nuisance that shaped it, before noise. Arrays of a batch have a leading B."""

    position_m_E: Float[Array, "*B 2"]
    """Truth: east, north."""
    power_dbm: Float[Array, "*B"]
    """Transmitted."""
    kind: Int[Array, "*B"]
    """Index into `waveforms.WAVEFORMS`."""
    distance_m_R: Float[Array, "*B R"]
    """In space, antenna height included."""
    delay_s_R: Float[Array, "*B R"]
    shadowing_db_R: Float[Array, "*B R"]
    fading_db_R: Float[Array, "*B R"]
    received_power_dbm_R: Float[Array, "*B R"]
    """Of the signal alone."""
    carrier_phase_rad_R: Float[Array, "*B R"]
    heard_R: Bool[Array, "*B R"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class World:
    """A network and its surroundings; a pytree, so that functions of it are compiled once for all seeds.

    Attributes:
        key: Root of all randomness of this world and its transmissions.
        station_m_RX: Stations' east, north, up (R, 3) in metres.
        shadowing: The fixed field, unit variance.
        config: What it was built from; replace `key` and `shadowing` together for another seed.
        stations: The R receivers.
        sample_rate_hz: Of the IQ, and the bandwidth of its noise.
    """

    key: Array
    station_m_RX: Array
    shadowing: ShadowField
    config: WorldConfig = field(metadata={"static": True})
    stations: tuple[Station, ...] = field(metadata={"static": True})
    sample_rate_hz: float = field(metadata={"static": True})

    @classmethod
    def build(
        cls,
        config: WorldConfig,
        *,
        sample_rate_hz: float = 12_000.0,
        stations: tuple[Station, ...] = SEVEN_STATIONS,
    ) -> World:
        """The world of a config and its `field_seed`.

        Raises:
            ConfigError: A value that no world can have, or fewer than two distinct latitudes and longitudes.
        """
        _check(config, sample_rate_hz, stations)
        key = jax.random.key(config.field_seed, impl="threefry2x32")
        shadowing = draw_field(
            fold_in_name(key, "shadowing"), stations=len(stations), correlation_m=config.shadowing_correlation_m
        )
        places_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in stations])
        altitudes_m = np.array([s.altitude_m for s in stations])
        station_m = degrees_to_enu(places_deg, altitudes_m, _centre(_box(stations)))
        return cls(key, jnp.asarray(station_m, jnp.float32), shadowing, config, stations, sample_rate_hz)

    @property
    def box_deg(self) -> Box:
        """South-west and north-east corner of the stations' bounding box, latitude and longitude in degrees."""
        return _box(self.stations)

    @property
    def origin_deg(self) -> tuple[float, float]:
        """Centre of the box: origin of the local frame."""
        return _centre(self.box_deg)

    @property
    def noise_dbm(self) -> float:
        """Noise power of a receiver in the IQ's bandwidth."""
        return noise_floor_dbm(self.sample_rate_hz, self.config.noise_figure_db)

    @property
    def threshold_dbm(self) -> float:
        """Least power that is heard."""
        return self.noise_dbm + self.config.detection_snr_db

    @property
    def samples(self) -> int:
        """IQ samples of a recording."""
        return round(self.config.duration_s * self.sample_rate_hz)

    @property
    def max_delay_s(self) -> float:
        """Longest delay within the box, with 1 % and 10 km for antenna heights."""
        south_west, north_east = self.box_deg
        corners = degrees_to_local(np.array([south_west, north_east]), self.origin_deg)
        return float(1.01 * np.linalg.norm(corners[1] - corners[0]) + 10_000) / SPEED_OF_LIGHT_M_PER_S


def place(world: World, unit_E: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """East, north in metres of a point of the prior: fractions of the box in longitude and latitude, from 0 to 1.

    Uniform fractions are uniform in latitude and longitude, the prior of the transmitters.
    """
    (south, west), (north, east) = world.box_deg
    offset_deg = (jnp.stack([unit_E[1], unit_E[0]]) - 0.5) * jnp.asarray([north - south, east - west], jnp.float32)
    return offset_to_local(offset_deg, world.origin_deg, jnp)


def distance_m(world: World, position_m: Float[Array, " 2"]) -> Float[Array, " R"]:
    """Distance in space (R,) from the ground at east, north to every station's antenna."""
    up_m = ground_height_m(position_m, world.origin_deg, jnp)
    point = jnp.concatenate([position_m, up_m[None]])
    return jnp.linalg.norm(world.station_m_RX - point[None], axis=-1)


def gain_db(world: World, position_m: Float[Array, " 2"]) -> Float[Array, " R"]:
    """Power arriving (R,) at each station over the power sent from a place: path and shadowing, no fading."""
    config = world.config
    loss = path_loss_db(distance_m(world, position_m), frequency_hz=config.frequency_hz, exponent=config.exponent)
    return config.shadowing_db * field_at(world.shadowing, position_m) - loss


def transmit(world: World, key: Array) -> Transmission:
    """Draw one transmission from the prior and what its channel does to it."""
    config, count = world.config, len(world.stations)
    position_m = place(world, jax.random.uniform(fold_in_name(key, "position"), (2,)))
    power_dbm = jax.random.uniform(fold_in_name(key, "power"), minval=config.power_min_dbm, maxval=config.power_max_dbm)
    distance = distance_m(world, position_m)
    fading_db = config.fading_db * jax.random.normal(fold_in_name(key, "fading"), (count,))
    received_dbm = power_dbm + gain_db(world, position_m) + fading_db
    return Transmission(
        position_m_E=position_m,
        power_dbm=power_dbm,
        kind=jax.random.randint(fold_in_name(key, "kind"), (), 0, len(WAVEFORMS)),
        distance_m_R=distance,
        delay_s_R=distance / SPEED_OF_LIGHT_M_PER_S,
        shadowing_db_R=config.shadowing_db * field_at(world.shadowing, position_m),
        fading_db_R=fading_db,
        received_power_dbm_R=received_dbm,
        carrier_phase_rad_R=jax.random.uniform(fold_in_name(key, "phase"), (count,), maxval=2 * math.pi),
        heard_R=received_dbm >= world.threshold_dbm,
    )


def _box(stations: tuple[Station, ...]) -> Box:
    latitudes = [s.latitude_deg for s in stations]
    longitudes = [s.longitude_deg for s in stations]
    return (min(latitudes), min(longitudes)), (max(latitudes), max(longitudes))


def _centre(box: Box) -> tuple[float, float]:
    (south, west), (north, east) = box
    return (south + north) / 2, (west + east) / 2


def _check(config: WorldConfig, sample_rate_hz: float, stations: tuple[Station, ...]) -> None:
    """Raise ConfigError where no world can be built."""
    positive = {
        "world.shadowing_correlation_m": config.shadowing_correlation_m,
        "world.frequency_hz": config.frequency_hz,
        "world.duration_s": config.duration_s,
        "sample_rate_hz": sample_rate_hz,
    }
    not_negative = {"world.shadowing_db": config.shadowing_db, "world.fading_db": config.fading_db}
    for name, value in {**positive, **not_negative}.items():
        if not math.isfinite(value) or value < 0 or (value == 0 and name in positive):
            allowed = "a finite number above zero" if name in positive else "a finite number, zero or above"
            raise ConfigError(explain(name, got=value, allowed=allowed, cure="Correct it."))
    if config.power_max_dbm < config.power_min_dbm:
        got = f"{config.power_min_dbm} to {config.power_max_dbm} dBm"
        raise ConfigError(explain("world power", got=got, allowed="min <= max", cure="Swap them."))
    if len({s.latitude_deg for s in stations}) < 2 or len({s.longitude_deg for s in stations}) < 2:
        got = f"{len(stations)} stations"
        cure = "The box they span is where transmitters are drawn."
        raise ConfigError(explain("stations", got=got, allowed="two or more latitudes and longitudes", cure=cure))
