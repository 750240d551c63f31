"""Sessions of a simulated world: each is a pure function of the world, the split's name and its index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex64

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.geodesy import local_to_degrees
from heimdall_jax.simulation.channel import complex_noise, detune, guarded_length, propagate
from heimdall_jax.simulation.transmission import Transmission, transmit
from heimdall_jax.simulation.waveforms import waveform
from heimdall_jax.simulation.world import World, fold_in_name
from heimdall_jax.types import Session

CHUNK = 8
"""Sessions with IQ per compiled call; a shorter request computes as many and drops the rest."""
TRANSMISSION_CHUNK = 512
"""The same for transmissions without IQ."""

ENDLESS = 2**31
"""Sessions of a split that is made for as long as training goes on, and the most that a split can have."""

Tree = TypeVar("Tree")


class Recording(NamedTuple):
    """What was transmitted, with every nuisance, and what the receivers recorded."""

    transmission: Transmission
    iq_RT: Complex64[Array, "*B R T"]


def split_key(world: World, split: str) -> Array:
    """Root of all randomness of a split, which is any name; sessions fold in their index."""
    return fold_in_name(world.key, f"split {split}")


def receive(world: World, transmission: Transmission, key: Array, *, noise: bool = True) -> Complex64[Array, "R T"]:
    """Samples (R, T) of the one transmitted waveform at each receiver, full scale 1.

    Sample n of a receiver, at t = n / rate, holds what was sent at

        (t - middle) (1 + rate error) + middle - delay - clock error        (seconds; middle = (T - 1) / 2 / rate)

    scaled to its power, turned by its carrier phase and its oscillator's offset, with the receiver's own noise, and
    all of it scaled by the receiver's gain bias.
    """
    config, rate = world.config, world.sample_rate_hz
    total, start = guarded_length(world.samples, world.max_shift_s * rate)
    sent = waveform(
        transmission.kind,
        fold_in_name(key, "waveform"),
        total,
        rate,
        kinds=config.kinds,
        start=start,
        stop=start + world.samples,
    )
    amplitude = 10 ** ((transmission.direct_power_dbm_R - config.full_scale_dbm) / 20)
    phase = transmission.carrier_phase_rad_R
    signal = propagate(
        sent,
        transmission.arrival_s_R,
        jax.lax.complex(amplitude * jnp.cos(phase), amplitude * jnp.sin(phase)),
        sample_rate_hz=rate,
        start=start,
        length=world.samples,
        echoes=(transmission.echo_delay_s_RQ, transmission.echo_gain_RQ) if config.echoes else None,
        rate_error_R=transmission.rate_error_R if world.stretches else None,
    )
    if config.offset_max_hz > 0:
        signal = detune(signal, transmission.offset_hz_R, rate)
    if noise:
        noise_power = 10 ** ((world.noise_dbm - config.full_scale_dbm) / 10)
        signal = signal + complex_noise(fold_in_name(key, "noise"), signal.shape, noise_power)
    return signal * (10 ** (transmission.gain_bias_db_R / 20)).astype(jnp.complex64)[:, None]


def record(world: World, key: Array) -> Recording:
    """One session from its own key: draw a transmission and receive it; pure, for jit and vmap."""
    transmission = transmit(world, key)
    return Recording(transmission, receive(world, transmission, key))


def simulate(world: World, split: str, index: Array | int) -> Recording:
    """Session `index` of a split: its transmission and the IQ (R, T) of all receivers, full scale 1.

    Receivers that did not hear still have their samples, with the signal under their noise.
    """
    return record(world, jax.random.fold_in(split_key(world, split), index))


@jax.jit
def _recordings(world: World, key: Array, indices: Array) -> Recording:
    # One session at a time: the samples of all receivers stay in cache, and only the waveform that is sent is made.
    return jax.lax.map(lambda index: record(world, jax.random.fold_in(key, index)), indices)


@jax.jit
def _transmissions(world: World, key: Array, indices: Array) -> Transmission:
    return jax.vmap(lambda index: transmit(world, jax.random.fold_in(key, index)))(indices)


class SimulatedSessions:
    """A `SessionSource` over the first `count` transmissions of a world's split, computed when asked for.

    Whichever way a session is read, alone or among others, it is the same to the bit. A count of `ENDLESS` costs as
    much as a count of one. `rss_db_R` is the received power of the signal alone in dBm, fading and gain bias included:
    what the receiver's meter without noise would read. Where not heard, it and the IQ hold what arrived all the same;
    consumers mask them. `start_time_s` is the index. Without `iq` sessions hold powers only.
    """

    def __init__(self, world: World, split: str, count: int, *, iq: bool = True) -> None:
        if not 0 <= count <= ENDLESS:
            allowed = f"0 to {ENDLESS}"
            raise ConfigError(explain("simulated sessions", got=count, allowed=allowed, cure="Correct the count."))
        self.world, self.split, self.count, self._iq = world, split, count, iq
        self.receivers = tuple(s.name for s in world.stations)
        self._receiver_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in world.stations])
        self._altitude_m = np.array([s.altitude_m for s in world.stations])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> Session:
        return self.__getitems__([index.__index__()])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Session]:
        if not len(indices):
            return []
        made = self.recordings(indices) if self._iq else (self.transmissions(indices), None)
        sent, iq_BRT = jax.tree.map(np.asarray, tuple(made))
        position_m = sent.position_m_E.astype(np.float64)
        truth_deg = local_to_degrees(position_m, self.world.origin_deg)
        numbers = self._checked(indices)
        pieces = [None] * len(numbers) if iq_BRT is None else iq_BRT
        each = map(Transmission._make, zip(*sent, strict=True))
        rows = zip(numbers, each, pieces, truth_deg, strict=True)
        return [self._session(int(number), one, iq_RT, place) for number, one, iq_RT, place in rows]

    def recordings(self, indices: Sequence[int]) -> Recording:
        """Transmissions and IQ (B, R, T) of the given sessions, as JAX arrays."""
        return self._in_chunks(_recordings, indices, CHUNK)

    def transmissions(self, indices: Sequence[int] | None = None) -> Transmission:
        """Transmissions alone, all by default: what the bounds need, without the cost of IQ.

        Equal to those of `recordings` to float32 rounding.
        """
        return self._in_chunks(_transmissions, range(self.count) if indices is None else indices, TRANSMISSION_CHUNK)

    def batch(self, indices: Sequence[int]) -> dict[str, Array]:
        """What a data set needs of the given sessions, without Session records, as JAX arrays.

        Keys: iq_BRT complex64, heard_BR bool, rss_dbm_BR (reported), snr_db_BR, clock_sigma_s_BR, arrival_s_BR (truth),
        position_m_BE (truth), power_dbm_B, frequency_hz_B float32, kind_B int32, and station_m_RX float32, once: east,
        north, up.
        """
        sent, iq_BRT = self.recordings(indices)
        return {
            "iq_BRT": iq_BRT,
            "heard_BR": sent.heard_R,
            "rss_dbm_BR": sent.reported_power_dbm_R,
            "snr_db_BR": sent.snr_db_R,
            "clock_sigma_s_BR": sent.clock_sigma_s_R,
            "arrival_s_BR": sent.arrival_s_R,
            "position_m_BE": sent.position_m_E,
            "power_dbm_B": sent.power_dbm,
            "frequency_hz_B": sent.frequency_hz,
            "kind_B": sent.kind,
            "station_m_RX": self.world.station_m_RX,
        }

    def _checked(self, indices: Sequence[int]) -> np.ndarray:
        """Indices as non-negative integers; Python's negative ones count from the end."""
        numbers = np.asarray(indices, np.int64).reshape(-1)
        bad = numbers[(numbers >= self.count) | (numbers < -self.count)]
        if bad.size:
            # An IndexError, so that iterating over the source ends.
            message = explain("session index", got=bad[0], allowed=f"below {self.count}", cure="Ask for fewer.")
            raise IndexError(message)
        return np.where(numbers < 0, numbers + self.count, numbers)

    def _in_chunks(self, function: Callable[[World, Array, Array], Tree], indices: Sequence[int], chunk: int) -> Tree:
        """Apply a compiled function to chunks of one size, so that it compiles once."""
        numbers = self._checked(indices)
        if not numbers.size:
            raise DataError(explain("sessions", got="no index", allowed="one or more", cure="Ask for at least one."))
        padded = np.resize(numbers, -(-numbers.size // chunk) * chunk).astype(np.uint32)
        key = split_key(self.world, self.split)
        parts = [function(self.world, key, jnp.asarray(some)) for some in padded.reshape(-1, chunk)]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: numbers.size], *parts)

    def _session(self, number: int, sent: Transmission, iq_RT: np.ndarray | None, truth_deg: np.ndarray) -> Session:
        config = self.world.config
        return Session(
            session_id=f"{self.split}-{number:06d}",
            start_time_s=float(number),
            receivers=self.receivers,
            receiver_deg_RE=self._receiver_deg,
            present_R=np.ones(len(self.receivers), bool),
            heard_R=np.asarray(sent.heard_R),
            rss_db_R=np.asarray(sent.reported_power_dbm_R),
            truth_deg=(float(truth_deg[0]), float(truth_deg[1])),
            truth_error_m=0.0,
            iq_RT=iq_RT,
            sample_rate_hz=self.world.sample_rate_hz,
            frequency_hz=float(_exact(sent.frequency_hz, config.frequencies_hz)),
            altitude_m_R=self._altitude_m,
            clock_sigma_s_R=_exact(sent.clock_sigma_s_R, config.clock_sigma_s),
            snr_db_R=np.asarray(sent.snr_db_R),
        )


def _exact(drawn: Any, choices: tuple[float, ...]) -> Any:
    """In float64 the choices that the float32 values were drawn from."""
    every = np.array(choices)
    return every[np.abs(np.asarray(drawn)[..., None] - every).argmin(axis=-1)]
