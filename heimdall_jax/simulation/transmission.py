"""One transmission: the draw of everything that shapes what the receivers record of it, and its truth.

    P_r = P_0 - loss(d_r) + shadowing_r(place) + fading_r + echoes_r        (dBm)

What a receiver reports, and its samples, carry its gain bias on top, which its noise shares.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_jax.simulation.channel import path_loss_db, reference_loss_db
from heimdall_jax.simulation.shadowing import field_at
from heimdall_jax.simulation.waveforms import WAVEFORMS
from heimdall_jax.simulation.world import World, distance_m, fold_in_name, place, surroundings

ECHO_DELAY_S = (0.5e-6, 5e-6)
"""Least and greatest delay of an echo behind the direct path."""


class Transmission(NamedTuple):
    """One transmission and every nuisance that shaped it, before noise. Arrays of a batch have a leading B."""

    position_m_E: Float[Array, "*B 2"]
    """Truth: east, north."""
    power_dbm: Float[Array, "*B"]
    """Transmitted."""
    kind: Int[Array, "*B"]
    """Place in `waveforms.WAVEFORMS`."""
    frequency_hz: Float[Array, "*B"]
    """Carrier."""
    distance_m_R: Float[Array, "*B R"]
    """In space, antenna height included."""
    delay_s_R: Float[Array, "*B R"]
    """Of the direct path."""
    path_loss_db_R: Float[Array, "*B R"]
    shadowing_db_R: Float[Array, "*B R"]
    fading_db_R: Float[Array, "*B R"]
    echo_delay_s_RQ: Float[Array, "*B R Q"]
    """Of each of Q echoes behind the direct path."""
    echo_gain_RQ: Complex[Array, "*B R Q"]
    """Of each echo over the direct path, at the carrier."""
    direct_power_dbm_R: Float[Array, "*B R"]
    """Of the direct path alone."""
    received_power_dbm_R: Float[Array, "*B R"]
    """Of the signal alone at the antenna, echoes included."""
    gain_bias_db_R: Float[Array, "*B R"]
    """Of the receiver: on its signal, its noise, and what it reports."""
    reported_power_dbm_R: Float[Array, "*B R"]
    """What the receiver says of the signal's power: its gain bias included."""
    snr_db_R: Float[Array, "*B R"]
    """Received power over the noise in the IQ's bandwidth."""
    heard_R: Bool[Array, "*B R"]
    carrier_phase_rad_R: Float[Array, "*B R"]
    offset_hz_R: Float[Array, "*B R"]
    """By which the receiver sees the signal too high: above zero where its oscillator is low."""
    rate_error_R: Float[Array, "*B R"]
    """By which the receiver's samples are farther apart than they should be: above zero where its clock is slow."""
    clock_sigma_s_R: Float[Array, "*B R"]
    clock_error_s_R: Float[Array, "*B R"]
    """By which the receiver has the middle of its recording too late in its samples."""

    @property
    def arrival_s_R(self) -> Float[Array, "*B R"]:
        """What correlation measures: the direct path's delay and the clock's error, at the middle of the recording."""
        return self.delay_s_R + self.clock_error_s_R


def transmit(world: World, key: Array) -> Transmission:
    """Draw one transmission from the prior and what its channel and receivers do to it."""
    config, count = world.config, len(world.stations)
    position_m = place(world, jax.random.uniform(fold_in_name(key, "position"), (2,)))
    power_dbm = jax.random.uniform(fold_in_name(key, "power"), minval=config.power_min_dbm, maxval=config.power_max_dbm)
    distance = distance_m(world, position_m)
    frequency_hz, reference_db = _carrier(world, key)
    loss_db = path_loss_db(distance, reference_db=reference_db, exponent=config.exponent)
    field, bias_db = _surroundings(world, key)
    shadowing_db = config.shadowing_db * field_at(field, position_m)
    fading_db = config.fading_db * jax.random.normal(fold_in_name(key, "fading"), (count,))
    direct_dbm = power_dbm + (shadowing_db - loss_db) + fading_db
    echo_delay_s, echo_gain = _echoes(world, key)
    received_dbm = direct_dbm + 20 * jnp.log10(jnp.abs(1 + jnp.sum(echo_gain, axis=-1)))
    offset_hz, rate_error = _oscillators(world, key, frequency_hz)
    clock_sigma_s, clock_error_s = _clocks(world, key)
    return Transmission(
        position_m_E=position_m,
        power_dbm=power_dbm,
        kind=_kind(world, key),
        frequency_hz=frequency_hz,
        distance_m_R=distance,
        delay_s_R=distance / SPEED_OF_LIGHT_M_PER_S,
        path_loss_db_R=loss_db,
        shadowing_db_R=shadowing_db,
        fading_db_R=fading_db,
        echo_delay_s_RQ=echo_delay_s,
        echo_gain_RQ=echo_gain,
        direct_power_dbm_R=direct_dbm,
        received_power_dbm_R=received_dbm,
        gain_bias_db_R=bias_db,
        reported_power_dbm_R=received_dbm + bias_db,
        snr_db_R=received_dbm - world.noise_dbm,
        heard_R=received_dbm >= world.threshold_dbm,
        carrier_phase_rad_R=jax.random.uniform(fold_in_name(key, "phase"), (count,), maxval=2 * math.pi),
        offset_hz_R=offset_hz,
        rate_error_R=rate_error,
        clock_sigma_s_R=clock_sigma_s,
        clock_error_s_R=clock_error_s,
    )


def _surroundings(world: World, key: Array) -> tuple:
    """The world's shadowing field and gain biases, or this transmission's own."""
    if world.shadowing is None or world.gain_bias_db_R is None:
        return surroundings(key, world.config, len(world.stations))
    return world.shadowing, world.gain_bias_db_R


def _kind(world: World, key: Array) -> Array:
    names = list(WAVEFORMS)
    numbers = jnp.asarray([names.index(name) for name in world.config.kinds], jnp.int32)
    return numbers[jax.random.randint(fold_in_name(key, "kind"), (), 0, len(numbers))]


def _carrier(world: World, key: Array) -> tuple[Array, Array]:
    """Its frequency, and the loss to 1 km there, which is computed in float64."""
    frequencies = world.config.frequencies_hz
    choice = jax.random.randint(fold_in_name(key, "frequency"), (), 0, len(frequencies))
    losses_db = jnp.asarray([reference_loss_db(frequency) for frequency in frequencies], jnp.float32)
    return jnp.asarray(frequencies, jnp.float32)[choice], losses_db[choice]


def _echoes(world: World, key: Array) -> tuple[Array, Array]:
    """Delays behind the direct path (R, Q), uniform, and gains over it, complex normal: Rayleigh in amplitude."""
    shape = (len(world.stations), world.config.echoes)
    shortest, longest = ECHO_DELAY_S
    delay_s = jax.random.uniform(fold_in_name(key, "echo delay"), shape, minval=shortest, maxval=longest)
    parts = jax.random.normal(fold_in_name(key, "echo gain"), (2, *shape)) * math.sqrt(0.5)
    return delay_s, 10 ** (world.config.echo_db / 20) * jax.lax.complex(parts[0], parts[1])


def _oscillators(world: World, key: Array, frequency_hz: Array) -> tuple[Array, Array]:
    """Offsets of the received signal (R,), and sample-rate errors: one oscillator sets both, and rates err besides."""
    config, shape = world.config, (len(world.stations),)
    unit = jax.random.uniform(fold_in_name(key, "offset"), shape, minval=-1.0, maxval=1.0)
    offset_hz = config.offset_max_hz * unit
    own = config.rate_error_ppm * 1e-6 * jax.random.normal(fold_in_name(key, "rate"), shape)
    return offset_hz, offset_hz / frequency_hz + own


def _clocks(world: World, key: Array) -> tuple[Array, Array]:
    """Each receiver's sigma (R,) and its clock's error."""
    shape = (len(world.stations),)
    sigmas_s = jnp.asarray(world.config.clock_sigma_s, jnp.float32)
    choice = jax.random.randint(fold_in_name(key, "clock sigma"), shape, 0, len(sigmas_s))
    alike = jax.random.bernoulli(fold_in_name(key, "same clock"), world.config.same_clock)
    sigma_s = sigmas_s[jnp.where(alike, choice[0], choice)]
    return sigma_s, sigma_s * jax.random.normal(fold_in_name(key, "clock error"), shape)
