"""Where a training's arrays are: batches split over all devices of all processes, states copied or cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = "data"
SHARDED_FROM = 4096
"""Numbers in an array from which on `fsdp` cuts it: smaller ones cost more to gather than to keep."""

Sharding = Literal["replicated", "fsdp"]


class Placement:
    """A mesh of one axis, and what lies on it how.

    Args:
        sharding: `replicated` keeps parameters and moments whole on each device; `fsdp` cuts each large one among them
            along its longest axis that the device count divides, and gathers it where it is used.
        devices: Those of the mesh; all of all processes if None.
    """

    def __init__(self, sharding: Sharding = "replicated", devices: Sequence[Any] | None = None) -> None:
        chosen = jax.devices() if devices is None else list(devices)
        self.mesh = jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self.platform: str = chosen[0].platform
        self.fsdp = sharding == "fsdp" and len(chosen) > 1
        self.processes = len({device.process_index for device in chosen})

    @property
    def size(self) -> int:
        """How many devices there are."""
        return self.mesh.size

    def rows(self, batch_size: int) -> np.ndarray | None:
        """Which rows of a global batch this process holds, in order; None for all of them."""
        if self.processes == 1:
            return None
        held = self.split.addressable_devices_indices_map((batch_size,)).values()
        numbers = np.arange(batch_size)
        return np.unique(np.concatenate([numbers[where] for where in held]))

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """A batch, of which this process has its `rows`, split along its first axis."""
        if self.processes == 1:
            return jax.device_put(batch, self.split)
        return {name: jax.make_array_from_process_local_data(self.split, value) for name, value in batch.items()}

    def of_state(self, state: Any) -> Any:
        """The sharding of each leaf of a state, given as arrays or shapes; one for all of them where none is cut."""
        return jax.tree.map(self._of_leaf, state) if self.fsdp else self.everywhere

    def put(self, state: Any) -> Any:
        """A state that each process has whole, where it belongs; no process hears from another."""
        shardings = self.of_state(state)
        if self.processes == 1:
            return jax.device_put(state, shardings)
        each = shardings if self.fsdp else jax.tree.map(lambda _: self.everywhere, state)
        return jax.tree.map(_of_whole, state, each)

    def _of_leaf(self, leaf: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % self.size == 0]
        if leaf.size < SHARDED_FROM or not axes:
            return self.everywhere
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, AXIS))


def _of_whole(leaf: jax.Array, where: NamedSharding) -> jax.Array:
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, where, lambda part: whole[part])
