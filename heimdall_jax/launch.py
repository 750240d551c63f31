"""How one process of several was started: what JAX cannot find out by itself. Imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """Arguments of `jax.distributed.initialize`, by its names; what is None JAX finds by itself, or not.

    Attributes:
        coordinator_address: Host and port of process 0; else `JAX_COORDINATOR_ADDRESS`.
        num_processes: Of the training.
        process_id: Of this one, from 0.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
