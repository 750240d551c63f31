"""Half precision in a step, and activations computed twice: what is rounded, what is not, and what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from heimdall_jax.config import AugmentationConfig, ModelConfig, TrainingConfig, from_tree
from heimdall_jax.errors import ConfigError
from heimdall_jax.models.build import build, input_names
from heimdall_jax.models.trunk import as_trained
from heimdall_jax.training.batches import evaluation_batches, training_batches
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.step import Trainer
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions
from tests.training.step_program import DOMAIN, NETWORKS, batch_shapes, trainer_of, training_of

SMALL = ModelConfig(name="receiver_set", width=16, depth=2, heads=2, dropout=0.1)
PRODUCTS = {"dot_general", "conv_general_dilated"}


def equations(jaxpr):
    """All, at any depth."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def traced(network, **settings):
    """A step's ClosedJaxpr."""
    trainer = trainer_of(NETWORKS[network], training_of(network, batch_size=8, **settings))
    return trainer.step.trace(*trainer.shapes(batch_shapes(8))).jaxpr


def products(jaxpr):
    """Multiplications in each precision that products ask for."""
    work = {}
    for equation in equations(jaxpr):
        if equation.primitive.name in PRODUCTS:
            left, right = (variable.aval for variable in equation.invars)
            kind = str(jnp.promote_types(left.dtype, right.dtype)) if left.dtype != right.dtype else str(left.dtype)
            work[kind] = work.get(kind, 0) + left.size * right.size
    return work


@pytest.mark.parametrize(
    "network",
    ["resnet", "receiver_set", *(pytest.param(network, marks=pytest.mark.slow) for network in ("convnext", "fused"))],
)
def test_products_are_in_bfloat16_and_everything_kept_is_float32(network):
    step = traced(network, precision="bfloat16")
    work = products(step.jaxpr)
    assert set(work) == {"bfloat16", "float32"}  # the second in heads and tokens
    assert work["bfloat16"] > 0.5 * sum(work.values())
    arrays = [*step.in_avals, *step.out_avals]  # the state before and after, the loss, the batch
    assert {aval.dtype for aval in arrays if jnp.issubdtype(aval.dtype, jnp.floating)} == {jnp.dtype("float32")}
    assert set(products(traced(network).jaxpr)) == {"float32"}


def test_the_solver_and_what_a_network_answers_know_no_bfloat16():
    trainer = trainer_of(NETWORKS["fused"], training_of("fused", batch_size=8, precision="bfloat16"))
    state, batch = trainer.shapes(batch_shapes(8))
    with trainer._precision():
        answer = str(jax.make_jaxpr(trainer._forward, static_argnums=2)(state, batch, 0))
    assert "bf16" not in answer
    assert "f64" in answer
    model = as_trained(build(NETWORKS["fused"], DOMAIN, nnx.Rngs(0)), TrainingConfig(precision="bfloat16"))
    halves = {"/".join(map(str, path)) for path, layer in nnx.iter_modules(model) if of_half(layer)}
    assert halves
    assert not [path for path in halves if path.startswith(("fusion", "position", "cholesky", "embed"))]


def of_half(layer):
    return getattr(layer, "dtype", None) == jnp.bfloat16


def dataset(count=60, seed=0):
    return HeimdallDataset(Sessions(count, seed=seed), origin_deg=ORIGIN, rows=RECEIVERS, known=RECEIVERS)


def trainer(data, seed=0, **settings):
    model = build(SMALL, fit_domain(data, ORIGIN, RECEIVERS), nnx.Rngs(seed))
    config = TrainingConfig(batch_size=32, learning_rate=3e-3, **settings)
    return Trainer(model, config, total_steps=120, seed=seed, inputs=input_names(SMALL))


@pytest.fixture(scope="module")
def data():
    return dataset()


def gradients(train, batch):
    """Of the first step, as AdamW's first moment holds them, and the state after it."""
    state, report = train.step(train.start(), train.place(batch))
    return state.optimizer[0].mu, state, report


@pytest.mark.slow
def test_gradient_is_clipped_to_its_norm_and_left_where_it_is_shorter(data):
    """AdamW's first moment holds a tenth of the first step's gradient; the report tells what it was before."""
    batch = next(evaluation_batches(data, 32))
    whole, _, report = gradients(trainer(data, clip_norm=1e6), batch)
    clipped = gradients(trainer(data, clip_norm=0.5 * float(report.gradient_norm)), batch)[0]
    assert 10 * float(optax.tree.norm(whole)) == pytest.approx(float(report.gradient_norm), rel=1e-5)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(clipped), strict=True):
        np.testing.assert_allclose(0.5 * one, other, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_forgotten_activations_change_no_gradient(data):
    """Dropout draws the same again; float32 sums may differ in their order."""
    batch = next(evaluation_batches(data, 32))
    kept, forgotten = (gradients(trainer(data, rematerialise=flag), batch) for flag in (False, True))
    for one, other in zip(jax.tree.leaves(kept[0]), jax.tree.leaves(forgotten[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert float(kept[2].gradient_norm) > 0
    assert kept[2].metrics.compute() == pytest.approx(forgotten[2].metrics.compute(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet", "convnext", "receiver_set"])
def test_every_block_is_rematerialised_where_asked(network):
    found = []
    for flag in (False, True):
        names = [equation.primitive.name for equation in equations(traced(network, rematerialise=flag).jaxpr)]
        found.append(names.count("remat2"))
    config = NETWORKS[network]
    blocks = {"resnet": 8, "convnext": 18, "receiver_set": config.depth}[network]
    assert found == [0, blocks], "each once, on the way back"


@pytest.mark.parametrize("network", ["resnet", "receiver_set"])
def test_rematerialising_keeps_less_for_the_gradient(network):
    """Counted in what the backward pass is handed: XLA on CPU computes twice, too early to need less memory."""
    kept = []
    for flag in (False, True):
        model = build(NETWORKS[network], DOMAIN, nnx.Rngs(0))
        model.train()
        graph, params, rest = nnx.split(as_trained(model, TrainingConfig(rematerialise=flag)), nnx.Param, ...)
        shapes = {name: batch_shapes(32)[name] for name in input_names(NETWORKS[network])}

        def backward(params, batch, graph=graph, rest=rest):
            return jax.vjp(lambda params: nnx.merge(graph, params, rest, copy=True)(**batch)[0], params)[1]

        residuals = jax.tree.leaves(jax.eval_shape(backward, params, shapes))
        kept.append(sum(leaf.size * leaf.dtype.itemsize for leaf in residuals))
    of_weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    assert kept[1] - of_weights < 0.7 * (kept[0] - of_weights)


def test_half_precision_is_refused_by_another_name():
    with pytest.raises(ConfigError, match=r"training\.precision"):
        from_tree({"training": {"precision": "float16"}})


@pytest.mark.long
def test_accuracy_in_bfloat16_is_within_the_spread_of_seeds():
    data, test = dataset(600), dataset(400, seed=1)
    errors_m = {}
    for precision in ("float32", "bfloat16"):
        train = trainer(data, precision=precision)
        for seed in range(4):
            batches = training_batches(data, batch_size=32, augmentation=AugmentationConfig(), seed=seed)
            state = train.start()._replace(params=trainer(data, seed).start().params)
            for step in range(120):
                state, report = train.step(state, train.place(batches[step]))
                jax.block_until_ready(report)  # steps in flight starve the sums over virtual devices, which abort
            errors_m.setdefault(precision, []).append(train.evaluate(state, evaluation_batches(test, 32))["error_m"])
    single, half = (np.array(errors_m[precision]) for precision in ("float32", "bfloat16"))
    assert abs(half.mean() - single.mean()) < single.max() - single.min(), (single, half)
