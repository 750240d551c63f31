"""The data's scale, carried inside the model so that it is saved, exported and served with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from heimdall_jax.errors import DataError, explain
from heimdall_jax.types import Domain


class Fixed(nnx.Variable):
    """A number known before training: saved with the model, never trained."""


class Tables(nnx.Module):
    """A module of `Fixed` arrays that are learned without gradients, and set once they are known."""

    def fill(self, values: Mapping[str, Any]) -> None:
        """Set the arrays of these names, shapes as they are."""
        for name, value in values.items():
            variable = getattr(self, name)
            variable[...] = jnp.asarray(value, jnp.float32).reshape(variable.shape)


class Normaliser(nnx.Module):
    """Metres and dB to numbers near one, and back.

    Raises:
        DataError: A standard deviation of the domain is zero, negative or not finite.
    """

    def __init__(self, domain: Domain) -> None:
        for name in ("position_std_m", "feature_std"):
            if not 0.0 < getattr(domain, name) < float("inf"):
                raise DataError(
                    explain(
                        f"domain {name}",
                        got=getattr(domain, name),
                        allowed="a positive, finite number",
                        cure="Fit the domain on training rows that differ from one another.",
                    )
                )
        self.position_mean_m = Fixed(jnp.asarray(domain.position_mean_m, jnp.float32))
        self.position_std_m = Fixed(jnp.asarray(domain.position_std_m, jnp.float32))
        self.feature_mean = Fixed(jnp.asarray(domain.feature_mean, jnp.float32))
        self.feature_std = Fixed(jnp.asarray(domain.feature_std, jnp.float32))

    def feature(self, value_db: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """Features in dB to zero mean and unit spread."""
        return (value_db - self.feature_mean[...]) / self.feature_std[...]

    def place(self, position_m: Float[Array, "*S 2"]) -> Float[Array, "*S 2"]:
        """Local metres to units of the domain's spread about its mean."""
        return (position_m - self._mean(position_m.ndim)) / self.position_std_m[...]

    def metres(self, place: Float[Array, "*S 2"]) -> Float[Array, "*S 2"]:
        """Inverse of `place`."""
        return self._mean(place.ndim) + self.position_std_m[...] * place

    def _mean(self, ndim: int) -> Float[Array, "*S 2"]:
        return self.position_mean_m[...].reshape((1,) * (ndim - 1) + (2,))
