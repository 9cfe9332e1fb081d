"""The NumPyro models and their distributions: the dense density, its draws, and life inside a user's own program."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import oracles
import pytest
from numpyro.infer import Predictive
from numpyro.infer.util import log_density

import bayeslin as bl
from bayeslin.distributions import LinearLabels, ReducedLabels

COUNT = 40_000


def problem(rng, n, p, D):
    return rng.standard_normal((n, p)), rng.standard_normal((n, D)), oracles.wishart(rng, D), oracles.wishart(rng, D)


# The distributions


def test_the_distribution_of_labels_is_the_dense_density(rng, float64):
    X, Y, Q, Sigma = problem(rng, 6, 3, 2)
    labels = LinearLabels(Q, Sigma, X)
    dense = oracles.log_marginal(Q, Sigma, X, Y)
    assert labels.log_prob(Y) == pytest.approx(dense, rel=1e-10)
    batch = np.stack([Y, -Y, 2 * Y]).reshape(3, 1, 6, 2)
    found = jax.jit(labels.log_prob)(batch)
    assert found.shape == (3, 1)
    np.testing.assert_allclose(found[:2, 0], dense, rtol=1e-10)
    spec = bl.Spectrum.from_rows(X, Y)
    reduced = ReducedLabels(Q, Sigma, spec)
    assert reduced.log_prob(reduced.reduced(spec)) == pytest.approx(dense, rel=1e-10)


def test_drawn_labels_have_the_covariance_of_the_density(rng, float64):
    X, _, Q, Sigma = problem(rng, 4, 2, 2)
    Y = np.asarray(LinearLabels(Q, Sigma, X).sample(jax.random.key(1), (COUNT,))).reshape(COUNT, -1)
    products = Y[:, :, None] * Y[:, None, :]
    assert oracles.within(products, oracles.covariance(Q, Sigma, X))
    assert not oracles.within(products, oracles.covariance(Q, 1.1 * Sigma, X)), "the test can fail"


@pytest.mark.parametrize("n", [3, 4, 5, 12], ids=lambda n: f"n-r={n - 3}")
def test_drawn_statistics_have_the_moments_of_reduced_labels(n, rng, float64):
    X, Y, Q, Sigma = problem(rng, n, 3, 3)
    spec = bl.Spectrum.from_rows(X, Y)
    draws = np.asarray(ReducedLabels(Q, Sigma, spec).sample(jax.random.key(2), (COUNT,)))
    Z, R = draws[:, : spec.rank], draws[:, spec.rank :]
    for i, lam in enumerate(spec.lam):
        assert oracles.within(Z[:, i, :, None] * Z[:, i, None, :], lam * Q + Sigma)
    assert oracles.within(R, (n - 3) * Sigma)
    assert (np.linalg.matrix_rank(R[:100], tol=1e-9) == min(n - 3, 3)).all()


# The models

X, Y = np.random.default_rng(3).standard_normal((7, 3)), np.random.default_rng(4).standard_normal((7, 2))
LAW = bl.Proportional(0.5)
MODELS = {
    "scale_mixture": lambda X, Y: bl.models.scale_mixture(X, Y, law=LAW, outputs=2),
    "scale_mixture of a Spectrum": lambda X, Y: bl.models.scale_mixture(
        bl.Spectrum.from_rows(X, Y), law=LAW, outputs=2
    ),
    "functions": lambda X, Y: numpyro.sample(
        "Y", dist.Normal(bl.models.functions(X, law=LAW, outputs=2), 0.5).to_event(2), obs=Y.copy()
    ),
    "network": lambda X, Y: bl.models.network(X, Y, widths=(4, 3), outputs=2, signal_variance=2.0),
}


def free_sites(model, *args):
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as sites:
        model(*args)
    return {name: site["value"] for name, site in sites.items() if site["type"] == "sample" and not site["is_observed"]}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients_follow_the_precision_of_the_program(name, precision):
    model = MODELS[name]

    def slopes(params):
        return jax.value_and_grad(lambda params: log_density(model, (X, Y), {}, params)[0])(params)

    with jax.enable_x64(precision == "float64"):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf), free_sites(model, X, Y))
        value, gradient = jax.jit(slopes)(params)
        assert {leaf.dtype for leaf in jax.tree.leaves((params, value, gradient))} == {jnp.dtype(precision)}
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))
    with jax.enable_x64(True):  # the same arrays X and Y in programs of both precisions
        double, slope = jax.jit(slopes)(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), float), params))
    np.testing.assert_allclose(value, double, rtol=1e-4)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3), gradient, slope)


def test_the_network_is_its_weights_and_the_scale_mixture_integrates_them(float64):
    """Given its sites, the density of the network model is written out by hand."""
    with numpyro.handlers.seed(rng_seed=1), numpyro.handlers.trace() as sites:
        f = bl.models.network(X, Y, widths=(4, 3), outputs=2, noise=0.5, signal_variance=2.0)
    W = [np.asarray(sites[f"W_{layer}"]["value"]) for layer in (1, 2, 3)]
    assert [weight.shape for weight in W] == [(4, 3), (3, 4), (2, 3)]
    np.testing.assert_allclose(f, X @ (W[2] @ W[1] @ W[0]).T / np.sqrt(3 * 4 * 3), atol=1e-13)
    H = W[2] @ W[1] / np.sqrt(4 * 3)
    np.testing.assert_allclose(sites["scale"]["value"], H @ H.T, atol=1e-13)
    weights = {name: site["value"] for name, site in sites.items() if name.startswith("W_")}
    settings = {"widths": (4, 3), "outputs": 2, "noise": 0.5, "signal_variance": 2.0}
    found = log_density(bl.models.network, (X, Y), settings, weights)[0]

    def normal(values, variance):
        return -0.5 * (np.asarray(values) ** 2 / variance + np.log(2 * np.pi * variance)).sum()

    expected = normal(W[0], 2.0) + normal(W[1], 1.0) + normal(W[2], 1.0) + normal(Y - f, 0.25)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["scale_mixture", "functions", "network"])
def test_prior_predictive_labels_have_the_prior_covariance(name, float64):
    s2 = 2.0 if name == "network" else 1.0
    models = {
        "scale_mixture": lambda: bl.models.scale_mixture(X[:3], law=LAW, outputs=2, noise=0.5),
        "functions": lambda: numpyro.sample(
            "Y", dist.Normal(bl.models.functions(X[:3], law=LAW, outputs=2), 0.5).to_event(2)
        ),
        "network": lambda: bl.models.network(X[:3], widths=(4, 3), outputs=2, noise=0.5, signal_variance=2.0),
    }
    draws = np.asarray(Predictive(models[name], num_samples=COUNT)(jax.random.key(5))["Y"]).reshape(COUNT, 6)
    expected = oracles.covariance(np.eye(2), 0.25 * np.eye(2), X[:3], s2)
    products = draws[:, :, None] * draws[:, None, :]
    assert oracles.within(draws, 0.0)
    assert oracles.within(products, expected)
    assert not oracles.within(products, oracles.covariance(np.eye(2), 0.3 * np.eye(2), X[:3], s2)), "the test can fail"


def test_handlers_reach_the_sites(float64):
    known = numpyro.handlers.substitute(MODELS["scale_mixture"], data={"noise_sd": 0.25})
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as sites:
        known(X, Y)
    np.testing.assert_allclose(sites["noise_cov"]["value"], 0.0625 * np.eye(2))
    conditioned = numpyro.handlers.condition(lambda: MODELS["scale_mixture"](X, None), data={"Y": Y})
    params = free_sites(conditioned)
    assert log_density(conditioned, (), {}, params)[0] == pytest.approx(
        float(log_density(MODELS["scale_mixture"], (X, Y), {}, params)[0]), rel=1e-12
    )


def test_two_networks_share_a_program_under_scopes():
    def both():
        with numpyro.handlers.scope(prefix="first"):
            one = bl.models.functions(X, law=LAW, outputs=2)
        with numpyro.handlers.scope(prefix="second"):
            two = bl.models.functions(X, law=bl.FiniteNetwork((5, 5)), outputs=2)
        return one + two

    assert {"first/_f", "second/_f", "second/_diagonal"} <= set(free_sites(both))
