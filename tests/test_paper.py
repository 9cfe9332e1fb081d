"""The paper on data: NUTS is the closed form, the weights are the scale, finite networks tend to the limit."""

import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import quadrature

import bayeslin as bl
from bayeslin.correlation import to_correlation
from bayeslin.diagnostics import mcse

REFERENCE_Q = np.array([[0.5592, 0.2545], [0.2545, 0.7789]])  # linnerud, first two outputs, alpha 0.5, noise 0.9
REFERENCE_RHO = 0.3859


def agree(ours, theirs, count=5.0):
    """Means of draws (chains, draws, ...) agree within MCSE; `theirs` may be a number without error."""
    error = mcse(ours)
    if np.ndim(theirs) >= 2 and theirs.shape[:2] == ours.shape[:2]:
        error, theirs = np.hypot(error, mcse(theirs)), theirs.mean((0, 1))
    return bool((np.abs(ours.mean((0, 1)) - theirs) <= count * error + 1e-12).all())


@pytest.fixture(scope="module")
def two(linnerud):
    X, Y = linnerud
    return X, Y[:, :2]


@pytest.fixture(scope="module")
def limit(two):
    return bl.fit(bl.Proportional(0.5), *two, noise=0.9, draws=2000, progress=False)


def test_quadrature_is_the_reference(two):
    Q, rho, _ = quadrature.two_outputs(0.5, *two, 0.9)
    np.testing.assert_allclose(Q, REFERENCE_Q, atol=6e-5)
    assert rho == pytest.approx(REFERENCE_RHO, abs=6e-5)


def test_nuts_is_quadrature_for_two_outputs(limit):
    assert agree(limit.scale, REFERENCE_Q)
    assert agree(limit.scale**2, limit.scale**2), "the check accepts what is equal"
    rho = to_correlation(limit.scale)[..., 0, 1]
    assert agree(rho, REFERENCE_RHO)
    assert not agree(rho, REFERENCE_RHO + 0.05), "and can fail"


def test_another_alpha_gives_its_own_quadrature(two):
    post = bl.fit(bl.Proportional(0.2), *two, noise=0.9, draws=2000, progress=False)
    Q, rho, _ = quadrature.two_outputs(0.2, *two, 0.9)
    assert agree(post.scale, Q)
    assert agree(to_correlation(post.scale)[..., 0, 1], rho)


def test_evidence_by_quadrature_is_the_mean_likelihood_under_the_prior(two):
    """The reference itself, against draws of the prior."""
    X, Y = two
    Q = bl.Proportional(0.5, steps=32).sample_scale(jax.random.key(0), outputs=2, shape=(100_000,))
    log_l = quadrature.log_likelihood(Q, 0.9, X, Y)
    weights = np.exp(log_l - log_l.max())
    _, _, evidence = quadrature.two_outputs(0.5, X, Y, 0.9)
    error = weights.std() / weights.mean() / np.sqrt(len(weights))
    assert abs(np.log(weights.mean()) + log_l.max() - evidence) < 5 * error
    mean = (weights[:, None, None] * Q).mean(0) / weights.mean()
    np.testing.assert_allclose(mean, REFERENCE_Q, atol=0.02)


# Weights and functions


@pytest.fixture(scope="module")
def small_network(two):
    law = bl.FiniteNetwork((6, 6))
    scale = bl.fit(law, *two, noise=0.9, draws=2000, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.ConvergenceWarning)  # one of 8000, with some versions of JAX
        weights = bl.fit(law, *two, noise=0.9, space="weights", seed=4, draws=2000, progress=False)
    assert weights.stats["diverging"].sum() <= 1
    return scale, weights


def test_weight_space_is_scale_space(small_network, two):
    scale, weights = small_network
    assert weights.sites["W_1"].shape == (4, 2000, 6, 3)
    assert weights.sites["W_3"].shape == (4, 2000, 2, 6)
    for statistic in (lambda post: post.scale, lambda post: to_correlation(post.scale), lambda post: post.scale**2):
        assert agree(statistic(scale), statistic(weights))
    literal = np.einsum("csab,csbd->csad", weights.sites["W_3"], weights.sites["W_2"]) / 6
    np.testing.assert_allclose(literal @ np.swapaxes(literal, -1, -2), weights.scale, atol=1e-12)


def by_layer(weights):
    """What rotations of the hidden layers leave alone: Gram matrices of both ends, and the layers' spectra."""
    first, last = weights[0], weights[-1]
    ends = [np.swapaxes(first, -1, -2) @ first, last @ np.swapaxes(last, -1, -2)]
    grams = [W @ np.swapaxes(W, -1, -2) for W in weights]
    powers = [np.trace(power, axis1=-2, axis2=-1) for gram in grams for power in (gram, gram @ gram)]
    return np.concatenate([*(end.reshape(*end.shape[:-2], -1) for end in ends), np.stack(powers, -1)], axis=-1)


def test_lifted_weights_are_those_of_nuts_over_weights(small_network):
    scale, literal = small_network
    ours = by_layer(scale.sample_weights(jax.random.key(0), (20_000,)))
    theirs = by_layer([literal.sites[f"W_{layer}"] for layer in (1, 2, 3)])
    error = np.hypot(mcse(theirs), ours.std(0) / np.sqrt(min(20_000, scale.diagnosis.ess_min)))  # Q with replacement
    assert (np.abs(ours.mean(0) - theirs.mean((0, 1))) < 5 * error).all()
    assert (error < 0.05 * theirs.std((0, 1)) + 1e-12).all(), "the error is small"
    prior = by_layer(scale.law.sample_weights(jax.random.key(1), inputs=3, outputs=2, shape=(20_000,)))
    assert not (np.abs(prior.mean(0) - theirs.mean((0, 1))) < 5 * error).all(), "the labels moved them"
    chosen = literal.sample_weights(jax.random.key(0), (7,))[1]
    assert {W.tobytes() for W in chosen} <= {W.tobytes() for W in literal.sites["W_2"].reshape(-1, 6, 6)}


def test_functions_of_the_weights_are_functions_given_the_scale(small_network, two):
    scale, weights = small_network
    X_new = np.array([[1.0, -0.5, 0.2], [0.0, 2.0, 1.0]])
    maps = np.einsum("csab,csbd,csde->csae", *(weights.sites[f"W_{layer}"] for layer in (3, 2, 1))) / 6 / np.sqrt(3)
    f = np.einsum("csae,me->csma", maps, X_new)
    prediction = scale.predict(X_new)
    assert agree(f, prediction.mean)
    assert agree((f - prediction.mean) ** 2, prediction.std**2)


def test_a_model_over_functions_with_a_gaussian_likelihood_is_the_scale_mixture(limit, two):
    X, Y = two

    def model(X, Y):
        f = bl.models.functions(X, law=bl.Proportional(0.5), outputs=2)
        numpyro.sample("Y", dist.Normal(f, 0.9).to_event(2), obs=Y)

    with jax.enable_x64(True):
        kernel = numpyro.infer.NUTS(model, target_accept_prob=0.9)
        mcmc = numpyro.infer.MCMC(
            kernel, num_warmup=1000, num_samples=2000, num_chains=4, chain_method="vectorized", progress_bar=False
        )
        mcmc.run(jax.random.key(1), X, Y)
        draws = {name: np.asarray(site) for name, site in mcmc.get_samples(group_by_chain=True).items()}
    assert agree(draws["scale"], limit.scale)
    prediction = limit.predict(X)
    assert agree(draws["f"], prediction.mean)


def test_single_precision_in_a_program_of_the_users(two, limit):
    X, Y = two

    def model(X, Y):
        noise = numpyro.sample("sd", dist.Uniform(0.899, 0.901))
        bl.models.scale_mixture(X, Y, law=bl.Proportional(0.5), outputs=2, noise=noise)

    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=500,
        num_samples=1000,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(2), X, Y)
    scale = mcmc.get_samples(group_by_chain=True)["scale"]
    assert scale.dtype == np.float32
    assert agree(np.asarray(scale, float), REFERENCE_Q)


# Finite networks tend to the limit


def test_posterior_tends_to_the_limit_at_rate_one_over_width(linnerud):
    """One output, exactly: the error times the width tends to a constant."""
    X, Y = linnerud
    grid, alpha = np.linspace(-9, 6, 3001), 0.25
    lognormal = np.exp(-((grid + alpha) ** 2) / (4 * alpha))
    limit = quadrature.one_output(lognormal, grid, X, Y[:, :1], 0.9)
    scaled = []
    for width in (20, 80, 320):
        density = quadrature.finite_log_density((width,) * int(alpha * width), grid)
        assert (density.sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-8)
        scaled.append(width * (quadrature.one_output(density, grid, X, Y[:, :1], 0.9) - limit))
    assert abs(scaled[2]) > 0.01
    assert scaled[1] == pytest.approx(scaled[2], rel=0.05)
    assert scaled[0] == pytest.approx(scaled[2], rel=0.3)


@pytest.mark.slow
def test_posterior_of_two_outputs_tends_to_the_limit(two):
    """Importance sampling from the prior: the distance to the limit shrinks with the width, down to the error."""
    X, Y = two
    reference, _, _ = quadrature.two_outputs(0.25, X, Y, 0.9)
    distance = {}
    for width in (8, 320):
        law = bl.FiniteNetwork((width,) * int(0.25 * width))
        Q = law.sample_scale(jax.random.key(width), outputs=2, shape=(60_000,))
        log_l = quadrature.log_likelihood(Q, 0.9, X, Y)
        weights = np.exp(log_l - log_l.max())
        weights /= weights.mean()
        mean = (weights[:, None, None] * Q).mean(0)
        error = (weights[:, None, None] * (Q - mean)).std(0) / np.sqrt(len(Q))
        distance[width] = np.abs(mean - reference) / error
    assert distance[320].max() < 5
    assert distance[8].max() > 5


@pytest.mark.parametrize(
    "law",
    [bl.NNGP(), pytest.param(bl.FiniteNetwork((20,) * 10), marks=pytest.mark.slow), bl.Proportional(0.5)],
    ids=repr,
)
def test_penguins_converge_without_divergences(law):
    data = bl.load_dataset("penguins").standardize()
    post = bl.fit(law, data.X, data.Y, progress=False)
    assert post.diagnosis.divergences == 0
    assert post.diagnosis.rhat_max < 1.01
    assert post.diagnosis.ess_min > 400
