"""What a trained model says: in float32, or in float64 where it solves for the place.

In directions that arrival times fix weakly, float32's rounding moves a solution by metres. That is far below its sigma
there, but two runtimes that round differently would not agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from heimdall_jax.models.heads import Locator
from heimdall_jax.models.precision import widened


def predicts_in_double(model: nnx.Module) -> bool:
    """Whether a model says in float64 where a transmitter is."""
    return isinstance(model, Locator) and model.double


def precision_of(model: nnx.Module) -> AbstractContextManager[Any]:
    """Where JAX knows the numbers that a model predicts with; to be entered around a jitted function, never in it."""
    return jax.enable_x64(True) if predicts_in_double(model) else contextlib.nullcontext()


def predict(model: nnx.Module, inputs: Mapping[str, Array], part: int = 0) -> Any:
    """The answer to `inputs` by name in the model's own precision; pure, for jit within `precision_of`.

    `part` chooses among what a `Locator` says on the way to its answer (`fixes`), which is 0.
    """
    if part:
        return as_it_predicts(model, inputs, lambda net, named: net.fixes(**named)[part])
    return as_it_predicts(model, inputs, lambda net, named: net(**named))


def as_it_predicts(model: nnx.Module, inputs: Mapping[str, Array], say: Callable[[Any, dict[str, Array]], Any]) -> Any:
    """What `say` makes of a model and of inputs by name, both in the model's own precision."""
    if not predicts_in_double(model):
        return say(model, dict(inputs))
    with jax.numpy_dtype_promotion("standard"):  # Flax's norms ask for the wider of float64 and float32
        return say(_in_double(model), widened(dict(inputs)))


def _in_double(model: nnx.Module) -> Any:
    """A copy with float64 parameters, whose layers say so too: an exporter believes what they say."""
    graph, state = nnx.split(model)
    double = nnx.merge(graph, widened(state))
    for _, layer in nnx.iter_modules(double):
        if hasattr(layer, "param_dtype"):
            setattr(layer, "param_dtype", jnp.float64)  # noqa: B010 - a module is not known to have it
    return double
