"""A fused model at every clock: the same fresh transmissions received with other clocks, or with echoes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from heimdall_jax.assessment import batches_of
from heimdall_jax.config import Config
from heimdall_jax.datasets import Data, simulated_side
from heimdall_jax.errors import ConfigError, explain
from heimdall_jax.evaluation.baselines import predict
from heimdall_jax.evaluation.conditions import Condition, judge, strong
from heimdall_jax.evaluation.world_bound import fused_covariances
from heimdall_jax.features.extract import extract
from heimdall_jax.progress import tell, told_as
from heimdall_jax.run import Run
from heimdall_jax.simulation.sessions import SimulatedSessions, receive, split_key
from heimdall_jax.simulation.transmission import Transmission, transmit
from heimdall_jax.simulation.waveforms import WAVEFORMS
from heimdall_jax.simulation.world import World
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.worlds import MODULATED

SPLIT = "conditions"
"""Name of the split: transmissions that no training, validation or test has seen."""
CLOCKS_S = (15e-9, 50e-9, 200e-9, 1e-6, 5e-6, 20e-6, 100e-6, 1e-3)
ECHOES, MAIN_CLOCKS_S = 2, (50e-9, 1e-6)
"""Echoes are measured at these clocks; at the others, which only draw the curve, a quarter of the transmissions do."""
ECHO_DRAWS, ECHO_CHUNK = 10_000, 16
"""Noise-free arrivals on which the spread that echoes add is measured, and sessions made at once."""
WITHIN_SIGMA = math.erf(math.sqrt(0.5))
"""Share of a Gaussian's draws that are within one standard deviation."""


def measure_conditions(run: Run, own: Data, count: int, *, cache: Path) -> list[dict[str, Any]]:
    """A row for every clock of `CLOCKS_S`, then with echoes for those of `MAIN_CLOCKS_S`.

    Args:
        run: A simulated run whose model reads arrival times.
        own: What it was trained on.
        count: Transmissions of a row of `MAIN_CLOCKS_S`, a quarter for the others; those that too few receive well, or
            whose bandwidth carries no timing, are counted and left out.
        cache: Folder for features.

    Raises:
        ConfigError: The run is not simulated, or reads no times.
    """
    if run.config.data.source != "simulation" or not run.config.model.timing:
        cure = "Give a run of a simulated world whose model reads arrival times (config simulation)."
        raise ConfigError(explain("--conditions", got=run.folder, allowed="a simulated timing run", cure=cure))
    rows, wanted = [], [*((clock, 0) for clock in CLOCKS_S), *((clock, ECHOES) for clock in MAIN_CLOCKS_S)]
    for number, (clock_s, echoes) in enumerate(wanted, 1):
        work = f"condition {number} of {len(wanted)}"
        tell(work)
        world = dataclasses.replace(run.config.world, clock_sigma_s=(clock_s,), same_clock=0.0, echoes=echoes)
        config = dataclasses.replace(run.config, world=world)
        spread = echo_spread(config, ECHO_DRAWS) if echoes else EchoSpread(0.0, 0.0)
        made = count if clock_s in MAIN_CLOCKS_S else -(-count // 4)
        row = {"clock_sigma_s": clock_s, "echoes": echoes, "echo_sigma_s": spread.sigma_s, "echo_rms_s": spread.rms_s}
        side = simulated_side(config, SPLIT, made, cache, told_as(f"{work}: receiving", "sessions"))
        tell(f"{work}: judging")
        rows.append(row | _row(run, own, side, config, spread.sigma_s**2))
    return rows


def _row(
    run: Run, own: Data, side: tuple[HeimdallDataset, SimulatedSessions], config: Config, echo_variance: float
) -> dict[str, Any]:
    """What became of the transmissions of one condition, and the fixes of those that count."""
    dataset, sessions = side
    columns, sent = dataset.columns(), sessions.transmissions(dataset.source_indices.tolist())
    well_received = strong(np.asarray(sent.snr_db_R, np.float64), columns["heard"])
    modulated = np.isin(np.asarray(sent.kind), [list(WAVEFORMS).index(kind) for kind in MODULATED])
    usable = np.asarray(columns["timing_valid"].any(axis=(1, 2)))
    if max(config.world.clock_sigma_s) > config.timing.max_clock_s:
        usable = modulated  # with clocks too poor to be timed, powers answer for the same transmissions
    counts = {
        "transmissions": sessions.count,
        "well_received": int(well_received.sum()),
        "refused_by_bandwidth": int((well_received & ~usable).sum()),
        "modulated_that_pass": float(usable[well_received & modulated].mean()),
    }
    condition = _condition(run, own, dataset, sent, config, echo_variance)
    return counts | judge(condition.at(well_received & usable))


def _condition(
    run: Run, own: Data, dataset: HeimdallDataset, sent: Transmission, config: Config, echo_variance: float
) -> Condition:
    """Every fix of a condition."""
    assert own.train is not None
    columns, origin = dataset.columns(), run.domain.origin_deg
    bound_m2 = fused_covariances(
        config.world,
        columns,
        sent,
        origin_deg=origin,
        sample_rate_hz=config.features.sample_rate_hz,
        echo_variance_s2=echo_variance,
    )
    others = {
        "power_only": run.trainer.predict(run.state, batches_of(run.config, dataset), part=1)[0],
        "timing_only": predict("tdoa", own.train.columns(), columns),
    }
    answer = run.trainer.predict(run.state, batches_of(run.config, dataset))
    return Condition.of(columns, answer, bound_m2, origin, others)


class EchoSpread(NamedTuple):
    """What echoes add to an arrival time, in seconds.

    Attributes:
        sigma_s: 68.27 % of additions are within it: a Gaussian's standard deviation.
        rms_s: Their root mean square, which rare fades decide, where echoes nearly cancel the direct path.
    """

    sigma_s: float
    rms_s: float


def echo_spread(config: Config, draws: int) -> EchoSpread:
    """What a world's echoes add, without noise, clocks and oscillators.

    Measured by the features themselves, on so many arrivals: the errors of their pairs' delays over the root of 2.
    """
    clear = dataclasses.replace(config.world, clock_sigma_s=(0.0,), offset_max_hz=0.0, rate_error_ppm=0.0)
    world = World.build(clear, sample_rate_hz=config.features.sample_rate_hz)
    key, make = split_key(world, "echoes"), extract(config.features, timing=config.timing, spectrogram=False)

    def draw(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        own_key = jax.random.fold_in(key, index)
        transmission = transmit(world, own_key)
        return receive(world, transmission, own_key, noise=False), transmission.delay_s_R

    draw_all = jax.jit(lambda indices: jax.lax.map(draw, indices))  # unjitted, every call of it compiles anew

    added, chunks = [], -(-draws // (ECHO_CHUNK * len(world.stations)))
    for chunk in range(chunks):
        iq_BRT, delay_s_BR = draw_all(chunk * ECHO_CHUNK + jnp.arange(ECHO_CHUNK))
        found = {name: np.asarray(value, np.float64) for name, value in make(iq_BRT).items()}
        delay_s = np.asarray(delay_s_BR, np.float64)
        wrong_s = found["tdoa_s"] - (delay_s[:, :, None] - delay_s[:, None, :])
        added.append(wrong_s[found["timing_valid"] > 0] / math.sqrt(2))
    added_s = np.abs(np.concatenate(added))
    return EchoSpread(float(np.quantile(added_s, WITHIN_SIGMA)), float(np.sqrt(np.mean(added_s**2))))
