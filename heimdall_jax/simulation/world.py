"""The simulated network: where its stations are, where transmitters can be, and what never changes between them.

Randomness is by name: fold_in(key, crc32(name)), so a new nuisance leaves the old draws as they were.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.geodesy import (
    SPEED_OF_LIGHT_M_PER_S,
    degrees_to_enu,
    degrees_to_local,
    ground_height_m,
    offset_to_local,
)
from heimdall_jax.simulation.channel import noise_floor_dbm, path_loss_db, reference_loss_db
from heimdall_jax.simulation.limits import FARTHEST_SIGMAS, check_world
from heimdall_jax.simulation.shadowing import ShadowField, draw_field, field_at
from heimdall_jax.simulation.stations import SEVEN_STATIONS, read_stations
from heimdall_jax.types import Station

Box = tuple[tuple[float, float], tuple[float, float]]
"""South-west and north-east corner, latitude and longitude in degrees."""


def fold_in_name(key: Array, name: str) -> Array:
    """The key's own stream for `name`."""
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class World:
    """A network and its surroundings; a pytree, so that functions of it are compiled once for all seeds.

    Attributes:
        key: Root of all randomness of this world and its transmissions.
        station_m_RX: Stations' east, north, up (R, 3) in metres.
        shadowing: The fixed field, unit variance; None where every transmission has its own.
        gain_bias_db_R: The receivers' fixed biases (R,); None likewise.
        config: What it was built from; build another world for another seed.
        stations: The R receivers.
        sample_rate_hz: Of the IQ, and the bandwidth of its noise.
    """

    key: Array
    station_m_RX: Array
    shadowing: ShadowField | None
    gain_bias_db_R: Array | None
    config: WorldConfig = field(metadata={"static": True})
    stations: tuple[Station, ...] = field(metadata={"static": True})
    sample_rate_hz: float = field(metadata={"static": True})

    @classmethod
    def build(
        cls,
        config: WorldConfig,
        *,
        sample_rate_hz: float = 12_000.0,
        stations: tuple[Station, ...] | None = None,
    ) -> World:
        """The world of a config and its `field_seed`; without stations, those of its file, or else the seven.

        Raises:
            ConfigError: A value that no world can have, or fewer than two distinct latitudes and longitudes.
            StorageError: The stations' file cannot be read.
            DataError: It holds no stations.
        """
        if stations is None:
            stations = read_stations(config.stations_file) if config.stations_file else SEVEN_STATIONS
        check_world(config, sample_rate_hz, stations)
        key = jax.random.key(config.field_seed, impl="threefry2x32")
        shadowing, bias_db_R = surroundings(key, config, len(stations)) if config.fixed else (None, None)
        places_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in stations])
        altitudes_m = np.array([s.altitude_m for s in stations])
        station_m = degrees_to_enu(places_deg, altitudes_m, _centre(_box(stations)))
        return cls(key, jnp.asarray(station_m, jnp.float32), shadowing, bias_db_R, config, stations, sample_rate_hz)

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

    @property
    def max_shift_s(self) -> float:
        """Farthest that a receiver's clock and the geometry can move a signal in its samples, either way."""
        return self.max_delay_s + FARTHEST_SIGMAS * max(self.config.clock_sigma_s)

    @property
    def stretches(self) -> bool:
        """Whether receivers' sample rates differ at all."""
        return self.config.offset_max_hz > 0 or self.config.rate_error_ppm > 0


def surroundings(key: Array, config: WorldConfig, stations: int) -> tuple[ShadowField, Float[Array, " R"]]:
    """The shadowing field and the receivers' gain biases that belong to a key: the world's, or a transmission's."""
    field = draw_field(fold_in_name(key, "shadowing"), stations=stations, correlation_m=config.shadowing_correlation_m)
    return field, config.gain_bias_db * jax.random.normal(fold_in_name(key, "gain bias"), (stations,))


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
    """Power arriving (R,) at each station over the power sent from a place: path and shadowing, no fading.

    Raises:
        ConfigError: It is no property of the world, which has several carriers or a field for every transmission.
    """
    config = world.config
    if world.shadowing is None or len(config.frequencies_hz) != 1:
        got = "a field for every transmission" if world.shadowing is None else "several carriers"
        cure = "Set world.fixed, and one of world.frequencies_hz."
        raise ConfigError(explain("gain of a world", got=got, allowed="one field and one carrier", cure=cure))
    loss = path_loss_db(
        distance_m(world, position_m),
        reference_db=reference_loss_db(config.frequencies_hz[0]),
        exponent=config.exponent,
    )
    return config.shadowing_db * field_at(world.shadowing, position_m) - loss


def _box(stations: tuple[Station, ...]) -> Box:
    latitudes = [s.latitude_deg for s in stations]
    longitudes = [s.longitude_deg for s in stations]
    return (min(latitudes), min(longitudes)), (max(latitudes), max(longitudes))


def _centre(box: Box) -> tuple[float, float]:
    (south, west), (north, east) = box
    return (south + north) / 2, (west + east) / 2
