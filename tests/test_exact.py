"""Closed-form truths: against each other, against sampling, and NUTS against them."""

import math
from functools import cache

import arviz as az
import jax
import numpy as np
import numpyro.distributions as dist
import oracles
import pytest
import quadrature
import scipy.stats as st
from scipy.special import logsumexp

import bayeslin as bl
from bayeslin import density, exact
from bayeslin.correlation import to_correlation
from bayeslin.likelihood import log_marginal

LAWS = {
    "width=1": bl.FiniteNetwork((1,)),
    "widths=5,9,3": bl.FiniteNetwork((5, 9, 3)),
    "widths=1*12": bl.FiniteNetwork((1,) * 12),
    "widths=20*10": bl.FiniteNetwork((20,) * 10),
    "alpha=0.5": bl.Proportional(0.5),
    "alpha=4": bl.Proportional(4.0),
}
by_law = pytest.mark.parametrize("name", LAWS)


def mcse(draws, **which):
    if hasattr(az, "Numba"):
        az.Numba.disable_numba()  # with it ArviZ's error of an sd ends in a TypeError
    return np.asarray(az.mcse(draws, **which)).item()


# Densities


@by_law
def test_the_density_of_log_scale_has_mass_one_and_its_moments(name):
    law = LAWS[name]
    u = np.linspace(*density.reach(law, 60.0), 1001)
    mass = np.exp(density.log_density(law, u)) * (u[1] - u[0])
    assert mass.sum() == pytest.approx(1, abs=1e-11)
    for t in (-0.2, 0.5, 1.0):
        assert np.log(mass @ np.exp(t * u)) == pytest.approx(density.cumulant(law, t), abs=1e-6)
    moments = law.scale_moments(1)
    assert mass @ u == pytest.approx(moments.logdet_mean, rel=1e-9)
    assert mass @ (u - mass @ u) ** 2 == pytest.approx(moments.logdet_var, rel=1e-9)


@pytest.mark.parametrize("width", [1, 4, 30])
def test_one_layer_is_a_chi_square_far_into_both_tails(width):
    law = bl.FiniteNetwork((width,))
    u = np.linspace(*density.reach(law, 40.0), 101)
    expected = st.loggamma.logpdf(u + math.log(width / 2), width / 2)
    assert expected.min() < -40
    np.testing.assert_allclose(density.log_density(law, u), expected, atol=1e-11)


@pytest.mark.parametrize("widths", [pytest.param((5, 9, 3), marks=pytest.mark.slow), (1,) * 12, (2, 2)], ids=str)
def test_the_density_is_that_of_sampled_products_of_chi_squares(widths, rng):
    draws = sum(np.log(rng.chisquare(width, 20_000) / width) for width in widths)
    for law, fits in ((bl.FiniteNetwork(widths), True), (bl.FiniteNetwork((*widths[:-1], widths[-1] + 1)), False)):
        u = np.linspace(*density.reach(law, 40.0), 20_001)
        below = np.cumsum(np.exp(density.log_density(law, u))) * (u[1] - u[0])
        assert (st.kstest(draws, lambda x, u=u, below=below: np.interp(x, u, below)).pvalue > 1e-6) == fits


@by_law
def test_tails_beyond_the_reach_are_as_small_as_promised(name):
    law, nats = LAWS[name], 8.0
    u = np.linspace(*density.reach(law, 60.0), 20_001)
    mass = np.exp(density.log_density(law, u)) * (u[1] - u[0])
    lower, upper = density.reach(law, nats)
    assert mass[u < lower].sum() < math.exp(-nats)
    assert mass[u > upper].sum() < math.exp(-nats)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 1.0, 4.0])
def test_the_radius_has_mass_one_and_the_known_mean_squared_correlation(alpha):
    x, w = np.polynomial.legendre.leggauss(120)
    end = 9 * math.sqrt(alpha) + alpha
    r = end * (x + 1) / 2
    mass = w * end / 2 * np.exp(density.log_radius_density(r, alpha))
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert mass @ (1 - 1 / np.cosh(r)) == pytest.approx(oracles.limit_corr_sq(alpha), abs=1e-5)


# Posteriors against independent quadrature


@pytest.fixture(scope="module")
def diabetes():
    data = bl.load_dataset("diabetes").standardize()
    return data.X, data.Y


@by_law
def test_one_output_is_brute_quadrature(name, linnerud):
    X, y, law = linnerud[0], linnerud[1][:, :1], LAWS[name]
    u = np.linspace(*density.reach(law, 50.0), 4001)
    log_prior = density.log_density(law, u) + np.log(u[1] - u[0])
    log_mass = log_prior + quadrature.log_likelihood(np.exp(u)[:, None, None], 0.9, X, y)
    mass = np.exp(log_mass - logsumexp(log_mass))
    found = exact.posterior_one_output(law, X, y, noise=0.9)
    Q = np.exp(u)
    assert found.log_evidence == pytest.approx(logsumexp(log_mass), abs=1e-10)
    assert found.mean[0, 0] == pytest.approx(mass @ Q, rel=1e-9)
    assert found.sd[0, 0] == pytest.approx(math.sqrt(mass @ (Q - mass @ Q) ** 2), rel=1e-8)
    assert max(found.errors.values()) < 1e-8
    for probability in (0.05, 0.5, 0.95):
        below = np.interp(found.quantile(probability), Q, np.cumsum(mass) - mass / 2)
        assert below == pytest.approx(probability, abs=1e-4)
    step = np.log(found.grid[1] / found.grid[0])
    assert (found.density * found.grid).sum() * step == pytest.approx(1, rel=1e-9)
    assert (np.diff(found.grid) > 0).all()


@cache
def two_outputs(alpha, noise):
    data = bl.load_dataset("linnerud").standardize()
    return exact.posterior_two_outputs(alpha, data.X, data.Y[:, :2], noise=noise)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_two_outputs_are_brute_quadrature(alpha, linnerud):
    X, Y = linnerud
    Q, rho, evidence = quadrature.two_outputs(alpha, X, Y[:, :2], 0.9, size=64)
    found = two_outputs(alpha, 0.9)
    np.testing.assert_allclose(found.mean, Q, atol=1e-9)
    assert found.correlation[0, 1] == pytest.approx(rho, abs=2e-5), "steep in the angle: the brute rule is coarse"
    assert found.log_evidence == pytest.approx(evidence, abs=1e-9)
    assert max(found.errors.values()) < 1e-8


def test_the_reference_of_the_design():
    found = two_outputs(0.5, 0.9)
    np.testing.assert_allclose(found.mean, [[0.5592, 0.2545], [0.2545, 0.7789]], atol=5e-5)
    assert found.correlation[0, 1] == pytest.approx(0.3859, abs=5e-5)


def test_evidence_and_moments_are_those_of_importance_sampling(linnerud):
    X, Y = linnerud[0], linnerud[1][:, :2]
    Q = bl.Proportional(0.5, steps=64).sample_scale(jax.random.key(0), outputs=2, shape=(400_000,))
    log_l = quadrature.log_likelihood(Q, 0.9, X, Y)
    weights = np.exp(log_l - log_l.max())
    found = two_outputs(0.5, 0.9)
    error = weights.std() / weights.mean() / math.sqrt(len(Q))
    assert error < 0.01
    assert abs(np.log(weights.mean()) + log_l.max() - found.log_evidence) < 3 * error
    weights /= weights.sum()
    for values, expected in ((Q, found.mean), (to_correlation(Q), found.correlation)):
        mean = np.tensordot(weights, values, axes=1)
        error = np.sqrt(np.tensordot(weights**2, (values - mean) ** 2, axes=1))
        assert (np.abs(mean - expected) <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("law", [bl.FiniteNetwork((20,) * 10), bl.Proportional(0.5)], ids=repr)
def test_evidence_of_one_output_is_that_of_importance_sampling(law, diabetes):
    X, Y = diabetes[0][:60], diabetes[1][:60]
    Q = law.sample_scale(jax.random.key(1), outputs=1, shape=(200_000,))
    log_l = quadrature.log_likelihood(Q, 0.8, X, Y)
    weights = np.exp(log_l - log_l.max())
    error = weights.std() / weights.mean() / math.sqrt(len(Q))
    evidence = exact.posterior_one_output(law, X, Y, noise=0.8).log_evidence
    assert abs(np.log(weights.mean()) + log_l.max() - evidence) < 3 * error
    assert error < 0.01


@pytest.mark.parametrize("outputs", [1, 2])
def test_many_nodes_are_computed_as_few(outputs, rng, float64):
    """JAX 0.12 compiled the loop over batches of one output into something else, where A + A^T stood in it."""
    spec = bl.Spectrum.from_rows(rng.standard_normal((7, 3)), rng.standard_normal((7, outputs)))
    spec = spec._replace(V=None, tol=None)
    A = rng.standard_normal((2, 32_400, outputs, outputs + 2))
    Q, Sigma = A @ np.swapaxes(A, -1, -2)
    found = np.asarray(exact._log_marginals(Q, Sigma, spec))
    few = jax.jit(jax.vmap(lambda Q, Sigma: log_marginal(Q, Sigma, spec)))
    for at in range(0, len(Q), 5000):
        np.testing.assert_allclose(found[at : at + 50], few(Q[at : at + 50], Sigma[at : at + 50]), rtol=1e-9)


def test_an_inferred_noise_is_integrated(linnerud):
    """The posterior with a prior on the noise is the mixture of those with known noise."""
    X, y, law = linnerud[0], linnerud[1][:, :1], bl.Proportional(0.5)
    sd = np.exp(np.linspace(-2.5, 1.5, 161))
    known = [exact.posterior_one_output(law, X, y, noise=float(value)) for value in sd]
    log_mass = (
        np.array([post.log_evidence for post in known]) + st.halfnorm.logpdf(sd) + np.log(sd * np.log(sd[1] / sd[0]))
    )
    mass = np.exp(log_mass - logsumexp(log_mass))
    found = exact.posterior_one_output(law, X, y, noise="isotropic")
    assert found.log_evidence == pytest.approx(logsumexp(log_mass), abs=1e-6)
    assert found.mean[0, 0] == pytest.approx(
        sum(m * post.mean[0, 0] for m, post in zip(mass, known, strict=True)), rel=1e-6
    )
    noise = np.sqrt(found.noise_cov[:, 0, 0])
    assert found.expect(noise) == pytest.approx(mass @ sd, rel=1e-5)
    assert found.quantile(0.5, noise) == pytest.approx(np.interp(0.5, np.cumsum(mass) - mass / 2, sd), rel=0.02)
    same = exact.posterior_one_output(law, X, y, noise=dist.HalfNormal(1.0))
    assert same.log_evidence == found.log_evidence


def test_the_nngp_is_a_point():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((7, 2)), rng.standard_normal((7, 1))
    for law in (bl.NNGP(1.5), bl.FiniteNetwork((), 1.5), bl.Proportional(0.0, 1.5)):
        found = exact.posterior_one_output(law, X, y, noise=0.5)
        assert found.log_evidence == pytest.approx(
            oracles.log_marginal(np.eye(1), 0.25 * np.eye(1), X, y, 1.5), rel=1e-12
        )
        assert (found.mean, found.sd, found.grid) == (1, 0, None)
        mean, cov = found.predict(X[:3])
        expected = oracles.condition(np.eye(1), 0.25 * np.eye(1), X, y, X[:3], 1.5)
        np.testing.assert_allclose(mean, expected[0], atol=1e-12)
        np.testing.assert_allclose(cov, expected[1], atol=1e-12)


# NUTS against the truths


def agrees(draws, truth, values=None):
    """Mean, sd and three quantiles of draws (chains, draws) within 5 Monte Carlo standard errors."""
    mean = truth.expect(values)
    pairs = [(draws.mean(), mean, mcse(draws))]
    pairs += [(draws.std(), math.sqrt(truth.expect((values - mean) ** 2)), mcse(draws, method="sd"))]
    for probability in (0.1, 0.5, 0.9):
        expected = truth.quantile(probability, None if values.ndim == 1 and truth.grid is not None else values)
        pairs += [(np.quantile(draws, probability), expected, mcse(draws, method="quantile", prob=probability))]
    return all(abs(ours - theirs) < 5 * float(error) for ours, theirs, error in pairs)


@pytest.mark.parametrize("rows", [60, 442])
@pytest.mark.parametrize("law", [bl.FiniteNetwork((20,) * 10), bl.Proportional(0.5)], ids=repr)
def test_nuts_is_quadrature_for_one_output(law, rows, diabetes):
    X, Y = diabetes[0][:rows], diabetes[1][:rows]
    X, Y = X - X.mean(0), Y - Y.mean(0)
    truth = exact.posterior_one_output(law, X, Y)
    post = bl.fit(law, X, Y, draws=2000, progress=False)
    Q = post.scale[..., 0, 0]
    assert agrees(Q, truth, truth.scale[:, 0, 0])
    assert not agrees(1.1 * Q, truth, truth.scale[:, 0, 0]), "the test can fail"
    noise = np.sqrt(truth.noise_cov[:, 0, 0])
    sd = post.sites["noise_sd"]
    assert abs(sd.mean() - truth.expect(noise)) < 5 * mcse(sd)
    mean, cov = truth.predict(X[:4])
    ours = post.predict(X[:4])
    error = 5 / math.sqrt(post.diagnosis.ess_min)
    assert (np.abs(ours.mean - mean) < error * ours.std).all()
    np.testing.assert_allclose(ours.cov, cov, rtol=2 * error)


def check_two(post, truth):
    rho, rho_true = to_correlation(post.scale), to_correlation(truth.scale)
    for a, b in ((0, 0), (0, 1), (1, 1)):
        assert agrees(post.scale[..., a, b], truth, truth.scale[:, a, b])
    assert agrees(rho[..., 0, 1], truth, rho_true[:, 0, 1])
    assert not agrees(rho[..., 0, 1] + 0.05, truth, rho_true[:, 0, 1]), "the test can fail"


@pytest.mark.parametrize("noise", [0.9, pytest.param("isotropic", marks=pytest.mark.slow)])
def test_nuts_is_quadrature_for_two_outputs_of_linnerud(noise, linnerud):
    post = bl.fit(bl.Proportional(0.5), linnerud[0], linnerud[1][:, :2], noise=noise, draws=2000, progress=False)
    check_two(post, two_outputs(0.5, noise))


OTHERS = [pytest.param(pair, marks=pytest.mark.slow) for pair in ((0, 1), (1, 3))]


@pytest.mark.parametrize("pair", [pytest.param((2, 3), marks=pytest.mark.slow), *OTHERS], ids=str)
def test_nuts_is_quadrature_for_pairs_of_penguin_measurements(pair):
    data = bl.load_dataset("penguins").standardize()
    Y = data.Y[:, pair]
    post = bl.fit(bl.Proportional(0.5), data.X, Y, noise=0.5, draws=2000, progress=False)
    check_two(post, exact.posterior_two_outputs(0.5, data.X, Y, noise=0.5))


# Distances


@pytest.mark.parametrize(("alpha", "expected"), [(0.1, 0.0556), (0.2, 0.104), (0.5, 0.225), (1.0, 0.384)])
def test_distances_of_the_limit_are_the_reference_values(alpha, expected):
    found = exact.distance_to_nngp(bl.Proportional(alpha))
    assert found.one_input == pytest.approx(expected, abs=5.1e-4)
    assert found.one_input < found.coupling_bound
    assert found.coupling_error == 0


def test_the_distance_is_that_between_sorted_samples(rng):
    law, count = bl.FiniteNetwork((4, 3)), 400_000
    Q = law.sample_scale(jax.random.key(0), outputs=1, shape=(count,))[:, 0, 0]
    f = np.sort(np.sqrt(Q) * rng.standard_normal(count))
    normal = st.norm.ppf((np.arange(count) + 0.5) / count)
    sampled = math.sqrt(((f - normal) ** 2).mean())
    assert exact.distance_to_nngp(law).one_input == pytest.approx(sampled, rel=0.02)


def test_the_distance_of_heavy_tails_rises_to_the_root_of_two():
    found = [exact.distance_to_nngp(bl.Proportional(alpha)).one_input for alpha in (1.0, 5.0, 20.0, 60.0)]
    assert (np.diff(found) > 0).all()
    assert 1.4 < found[-1] < math.sqrt(2)


def exponent(distances, widths):
    return np.polyfit(np.log(widths), np.log(distances), 1)[0]


def test_measured_rates_are_the_published_ones():
    widths = (80, 160, 320, 640)
    found = [exact.distance_to_nngp(bl.FiniteNetwork((width,) * 2)) for width in widths]
    assert exponent([each.one_input for each in found], widths) == pytest.approx(-1, abs=0.03)
    assert exponent([each.coupling_bound for each in found], widths) == pytest.approx(-0.5, abs=0.01)
    widths = (20, 40, 80, 160)
    found = [exact.distance_to_limit(bl.FiniteNetwork((width,) * (width // 4))) for width in widths]
    assert exponent([each.one_input for each in found], widths) == pytest.approx(-1, abs=0.03)
    assert exponent([each.coupling_bound for each in found], widths) == pytest.approx(-1, abs=0.03)
    assert all(each.one_input < each.coupling_bound for each in found)


@pytest.mark.slow
def test_the_coupling_bound_of_several_outputs_is_the_sampled_one():
    law = bl.Proportional(0.5)
    closed = exact.distance_to_nngp(law, 2)
    assert math.isnan(closed.one_input)
    Q = bl.Proportional(0.5, steps=64).sample_scale(jax.random.key(0), outputs=2, shape=(100_000,))
    roots = np.sqrt(np.linalg.eigvalsh(Q)).sum(1)
    assert oracles.within(roots, 2 - closed.coupling_bound**2 / 2)
    with pytest.raises(bl.InputError, match=r"3 outputs.*key=jax\.random\.key"):
        exact.distance_to_nngp(law, 3)
    sampled = exact.distance_to_nngp(law, 3, key=jax.random.key(1))
    assert 0 < sampled.coupling_error < 0.01
    assert sampled.coupling_bound > closed.coupling_bound
    finite = exact.distance_to_nngp(bl.FiniteNetwork((320,) * 160), 2, key=jax.random.key(2), draws=20_000)
    assert abs(finite.coupling_bound - closed.coupling_bound) < 5 * finite.coupling_error + 0.01


def test_no_depth_is_no_distance():
    for law in (bl.NNGP(), bl.FiniteNetwork(()), bl.Proportional(0.0)):
        assert exact.distance_to_nngp(law) == (0, 0, 0)


ROWS, LABELS = np.arange(12.0).reshape(6, 2) ** 2, np.arange(18.0).reshape(6, 3) ** 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact.posterior_one_output(bl.NNGP(), ROWS, LABELS), r"needs 1 column.*got 3.*bl\.fit any number"),
        (lambda: exact.posterior_two_outputs(0.5, ROWS, LABELS), r"needs 2 column.*got 3"),
        (lambda: exact.posterior_two_outputs(0.0, ROWS, LABELS[:, :2]), "alpha must be a finite number above 0"),
        (
            lambda: exact.posterior_two_outputs(0.5, ROWS, LABELS[:, :2], noise="full"),
            'isotropic noise here, got "full"',
        ),
        (lambda: exact.posterior_one_output(bl.Proportional(dist.Gamma(2.0)), ROWS, LABELS[:, 0]), "fix them, or fit"),
        (lambda: exact.posterior_one_output(bl.NNGP(dist.Gamma(2.0)), ROWS, LABELS[:, 0]), "fix them, or fit"),
        (lambda: exact.posterior_one_output(bl.NNGP(), ROWS, LABELS[:, 0], noise=1).quantile(2), "between 0 and 1"),
        (lambda: exact.posterior_one_output(bl.NNGP(), ROWS, LABELS[:, 0], noise=1).predict(LABELS), "3 columns"),
        (lambda: exact.distance_to_limit(bl.Proportional(0.5)), "need a FiniteNetwork"),
        (lambda: exact.distance_to_limit(bl.FiniteNetwork((1,) * 60)), "alpha 60 is too large"),
        (lambda: exact.distance_to_nngp("wide"), "law must be a law"),
        (lambda: exact.posterior_one_output("wide", ROWS, LABELS[:, 0]), "law must be a law"),
        (
            lambda: exact.posterior_two_outputs(0.5, ROWS, LABELS[:, :2], signal_variance=dist.Gamma(2.0)),
            "signal_variance must be a number",
        ),
        (
            lambda: exact.posterior_one_output(bl.NNGP(), bl.Spectrum.from_rows(ROWS, LABELS[:, :1]).padded()),
            "must not be padded",
        ),
        (lambda: exact.distance_to_nngp(bl.NNGP(), 0), "outputs"),
    ],
)
def test_what_quadrature_cannot_do_it_says(call, message):
    with pytest.raises(bl.InputError, match=message):
        call()
