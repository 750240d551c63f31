"""The simulated network's settings (`simulation/`), and the worlds that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fm", "packet", "fm_tone", "ssb", "dmr", "morse", "carrier"]
"""What can be transmitted: `simulation/waveforms.py` has one function for each."""


@dataclass(frozen=True)
class WorldConfig:
    """The simulated network (`simulation/`). A tuple with several entries is drawn from uniformly."""

    train: int = 3000
    endless: bool = False
    """Train on transmissions that are made as training goes on, never the same twice: `train` of them are an epoch."""
    validation: int = 500
    test: int = 2000
    stations_file: str = ""
    """JSON or CSV of the receivers (name, latitude, longitude, altitude_m); empty: the seven."""
    fixed: bool = True
    """One shadowing field and gain bias per station for all transmissions; else every transmission has its own."""
    kinds: tuple[Kind, ...] = ("fm", "packet")
    """What is transmitted; a kind named twice is sent twice as often."""
    frequencies_hz: tuple[float, ...] = (145_000_000.0,)
    """Carriers."""
    exponent: float = 3.0
    """Path-loss exponent."""
    shadowing_db: float = 6.0
    shadowing_correlation_m: float = 20_000.0
    """Distance at which the shadowing field's correlation falls to 1/e."""
    fading_db: float = 2.0
    echoes: int = 0
    """Unresolved paths per receiver, 0.5 to 5 us behind the direct one."""
    echo_db: float = -10.0
    """Mean power of each echo relative to the direct path; its amplitude is Rayleigh."""
    power_min_dbm: float = 30.0
    power_max_dbm: float = 47.0
    gain_bias_db: float = 0.0
    """Standard deviation of a receiver's unknown gain, in its samples and in the power it reports."""
    noise_figure_db: float = 5.0
    detection_snr_db: float = 3.0
    """A receiver hears a transmission whose power over its noise is at least this."""
    full_scale_dbm: float = -30.0
    """Received power that fills the receiver's full scale."""
    clock_sigma_s: tuple[float, ...] = (0.0,)
    """Standard deviation of a receiver's clock error, drawn for each receiver and recording."""
    same_clock: float = 0.0
    """Share of the recordings for which one standard deviation is drawn for all receivers."""
    offset_max_hz: float = 0.0
    """Oscillators shift the received signal by up to this, either way, and the sample rate in proportion."""
    rate_error_ppm: float = 0.0
    """Standard deviation of a sample-rate error beyond the oscillator's."""
    duration_s: float = 1.0
    field_seed: int = 0
    """Seeds the world itself (shadowing); transmissions use their own index."""


MODULATED: tuple[Kind, ...] = ("fm", "fm_tone", "ssb", "packet", "dmr")
"""Kinds whose bandwidth carries timing, pauses apart."""

POWER_WORLD = WorldConfig()
"""A known world with perfect clocks, for what received power can tell."""

TIMING_WORLD = WorldConfig(
    fixed=False,
    kinds=(*MODULATED, *MODULATED, "morse", "carrier"),
    frequencies_hz=(145_000_000.0, 433_000_000.0),
    gain_bias_db=2.0,
    clock_sigma_s=(50e-9, 1e-6, 20e-6, 1e-3),
    same_clock=0.5,
    offset_max_hz=15.0,
)
"""A fresh world for every transmission, with receivers as they are: for what arrival times can tell, too."""
