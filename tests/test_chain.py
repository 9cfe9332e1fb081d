"""The coordinates of a chain: with and without a guide the law is the same, and densities are exact."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import oracles
import pytest
import scipy.stats as st
from numpyro.infer.util import log_density

import bayeslin as bl
from bayeslin import chain
from bayeslin.chain import Below, Steps
from bayeslin.guide import Guide

LAWS = {
    "limit": bl.Proportional(0.7, steps=4),
    "widths=5,9,3": bl.FiniteNetwork((5, 9, 3)),
    "bottleneck=6,2,5": bl.FiniteNetwork((6, 2, 5)),
}
by_law = pytest.mark.parametrize("name", LAWS)
by_outputs = pytest.mark.parametrize(
    "outputs", [pytest.param(2, marks=pytest.mark.slow), 3, 6]
)  # written out, and in a loop


def guide(rng, D, firm=30.0):
    """Any guide at all must give the same law."""
    shape = np.eye(D) + np.tril(rng.standard_normal((D, D)), -1)
    info = firm * rng.uniform(0.5, 2.0, (D, D))
    signal = rng.uniform(0.0, 1.0, D)
    return Guide(shape, np.linalg.inv(shape), rng.standard_normal(D), info, signal, np.ones(()), np.ones(()))


def steps(rng, m, D, bend):
    """A chain's diagonals, as they come from any law."""
    log_diagonal = 0.3 * rng.standard_normal((m, D))
    upto = np.cumsum(log_diagonal, 0)
    sd = np.tril(rng.uniform(0.2, 0.8, (m, D, D)), -1)
    return Steps(*map(jnp.asarray, (upto - log_diagonal, upto - log_diagonal, upto[-1], sd)), np.ones((m + 1, D)), bend)


def test_the_first_coordinate_carries_the_weighted_sum(rng, float64):
    weights = np.array([[0.5, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    normal = rng.standard_normal((3, 3)) * (weights > 0)
    turned = np.asarray(chain.turn_to_sum(normal, weights))
    expected = np.linalg.norm(weights, axis=0) * np.abs(normal[0])
    np.testing.assert_allclose(np.abs((weights * turned).sum(0)), expected, atol=1e-14)
    np.testing.assert_allclose((turned**2).sum(0), (normal**2).sum(0), atol=1e-14)
    np.testing.assert_allclose(chain.turn_to_sum(turned, weights), normal, atol=1e-14)
    assert (turned[weights == 0] == 0).all()


@pytest.mark.parametrize("bend", [0.0, 0.5])
@by_outputs
def test_the_endpoint_is_the_product_of_the_factors(outputs, bend, rng, float64):
    path = steps(rng, 4, outputs, bend)
    for aligned in (None, guide(rng, outputs)):
        below = Below(path, aligned)
        value = rng.standard_normal(below.event_shape)
        C, noise = (np.asarray(found) for found in below.path(value))
        diagonals = np.exp(np.diff(np.vstack([path.before, path.total]), axis=0))
        A = np.asarray(path.sd) * noise
        U = np.eye(outputs) + A + bend * A @ A
        expected = reduce(np.matmul, U * diagonals[:, None, :], np.diag(np.exp(path.before[0])))
        np.testing.assert_allclose(C, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("bend", [0.0, 0.5])
@by_outputs
def test_the_density_is_that_of_the_noise_times_the_volume(outputs, bend, rng, float64):
    below = Below(steps(rng, 3, outputs, bend), guide(rng, outputs))
    i, j = np.tril_indices(outputs, -1)

    def noise(value):
        return Below(below.steps, below.guide).path(value.reshape(below.event_shape))[1][:, i, j].ravel()

    for _ in range(3):
        value = rng.standard_normal(below.event_shape)
        white = np.asarray(noise(jnp.asarray(value)))
        volume = np.linalg.slogdet(jax.jit(jax.jacobian(noise))(value.ravel()))[1]
        assert below.log_prob(value) == pytest.approx(st.norm.logpdf(white).sum() + volume, rel=1e-10)
        assert abs(volume) > 0.1, "the guide does something"


@by_outputs
def test_draws_are_the_same_noise_in_other_coordinates(outputs, rng, float64):
    path, key = steps(rng, 3, outputs, 0.5), jax.random.key(1)
    plain, guided = Below(path, None), Below(path, guide(rng, outputs))
    one, other = plain.path(plain.sample(key)), guided.path(guided.sample(key))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-11)
    assert guided.sample(key, (2, 3)).shape == (2, 3, *guided.event_shape)
    assert guided.log_prob(guided.sample(key, (2, 3))).shape == (2, 3)


@by_law
def test_the_loop_and_what_is_written_out_agree(name, rng, float64, monkeypatch):
    aligned, found = guide(rng, 4), []

    def evaluate(values):
        C, sites = traced(LAWS[name], 4, aligned, values)
        return C, sum(site["fn"].log_prob(site["value"]).sum() for site in sites if not site["is_observed"])

    values = {site["name"]: np.asarray(site["value"]) for site in traced(LAWS[name], 4, aligned)[1]}
    for unrolled in (0, 9):
        monkeypatch.setattr(chain, "SMALL", unrolled)
        found.append(jax.tree.leaves(evaluate(values)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def traced(law, outputs, aligned, values=None):
    """C, and the random sites of its fragment."""
    fragment = numpyro.handlers.seed(law.sample_factor, rng_seed=3)
    if values is not None:
        fragment = numpyro.handlers.substitute(fragment, data=values)
    with numpyro.handlers.trace() as sites:
        C = fragment(outputs, aligned)
    return C, [site for site in sites.values() if site["type"] == "sample"]


@by_outputs
@pytest.mark.parametrize("name", ["limit", pytest.param("widths=5,9,3", marks=pytest.mark.slow), "bottleneck=6,2,5"])
def test_a_guide_does_not_change_the_law(name, outputs, rng):
    law, aligned = LAWS[name], guide(rng, outputs)

    def draw(key, aligned):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            C = law.sample_factor(outputs, aligned)
        return C @ C.T

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 20_000)
        plain, guided = (np.asarray(jax.jit(jax.vmap(lambda key, g=g: draw(key, g)))(keys)) for g in (None, aligned))
    scale = np.sqrt(np.einsum("kaa,kbb->kab", plain, plain))
    if name == "limit":  # the diagonal's own draws are not those without a guide
        assert oracles.agree(guided, plain)
        assert oracles.agree(guided**2, plain**2)
    else:
        np.testing.assert_allclose(guided / scale, plain / scale, atol=1e-9)


@pytest.mark.parametrize("outputs", [2, 3])
def test_the_density_of_a_guided_network_is_bartletts(outputs, rng, float64):
    widths = (9, 5)
    law, aligned = bl.FiniteNetwork(widths), guide(rng, outputs)
    i, j = np.tril_indices(outputs)
    k, d = len(widths), outputs

    def model():
        law.sample_factor(outputs, aligned)

    @jax.jit
    def factors(flat):
        values = {"_diagonal": flat[: k * d].reshape(k, d), "_lower": flat[k * d :].reshape(k, -1)}
        density, sites = log_density(model, (), {}, values)
        return sites["factors"]["value"][:, i, j].ravel(), density

    for _ in range(3):
        flat = jnp.asarray(rng.standard_normal(k * d + k * d * (d - 1) // 2))
        entries, density = factors(flat)
        volume = np.linalg.slogdet(jax.jit(jax.jacobian(lambda flat: factors(flat)[0]))(flat))[1]
        expected = volume
        for T, width in zip(np.asarray(entries).reshape(k, -1), widths[::-1], strict=True):
            below = i > j
            expected += st.norm.logpdf(T[below], scale=1 / np.sqrt(width)).sum()
            t, degrees = T[~below], width - np.arange(outputs)
            expected += (st.chi2.logpdf(t**2 * width, degrees) + np.log(2 * t * width)).sum()
        assert float(density) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(("alpha", "outputs"), [(30.0, 64), (50.0, 40)])
def test_the_deepest_chains_stay_finite(alpha, outputs):
    Q = bl.Proportional(alpha).sample_scale(jax.random.key(0), outputs=outputs, shape=(3,))
    assert np.isfinite(Q).all()


def test_single_precision_reaches_far(rng):
    aligned = guide(rng, 50)
    for found in (None, aligned):
        C, sites = traced(bl.Proportional(4.0), 50, found)
        density = sum(site["fn"].log_prob(site["value"]).sum() for site in sites)
        assert C.dtype == jnp.float32
        assert np.isfinite(C).all()
        assert np.isfinite(density)


def test_coordinates_of_columns_that_a_bottleneck_drops_stay_white(rng, float64):
    aligned = guide(rng, 3, firm=1000.0)

    def draw(key):
        with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as sites:
            bl.FiniteNetwork((1, 20)).sample_factor(3, aligned)
        return sites["_diagonal"]["value"], sites["_lower"]["value"]

    diagonal, lower = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))
    assert oracles.within(np.asarray(lower)[:, :, 2] ** 2, 1.0)  # column 1; widths are 20 and 1 from the output side
    assert oracles.within(np.asarray(diagonal)[:, 0, 1:] ** 2, 1.0)
    assert not oracles.within(np.asarray(diagonal)[:, 0, 0] ** 2, 1.0), "the one that gets through is aligned"
