"""The finite network: its triangular chain has the law of the weights, bottlenecks included."""

from functools import lru_cache, reduce

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import oracles
import pytest
import scipy.stats as st

import bayeslin as bl
from bayeslin import network

DRAWS = 10_000
WIDTHS = [(5,), (4, 9), (9, 2, 7), (2,), (1, 4)]  # with four outputs the last three are bottlenecks
by_widths = pytest.mark.parametrize("widths", WIDTHS, ids=str)
by_outputs = pytest.mark.parametrize("outputs", [2, 4])


@pytest.mark.parametrize(
    ("widths", "outputs", "expected"),
    [
        ((), 3, (3,)),
        ((5,), 3, (3, 3)),
        ((2,), 3, (3, 2)),
        ((2, 9), 4, (4, 4, 2)),
        ((9, 2), 4, (4, 2, 2)),
        ((9, 2, 7), 3, (3, 3, 2, 2)),
        ((3, 1, 2), 4, (4, 2, 1, 1)),
    ],
)
def test_ranks_only_fall_from_the_output_side(widths, outputs, expected):
    assert network.ranks(widths, outputs) == expected


@lru_cache(maxsize=32)
def scales(widths, outputs):
    return bl.FiniteNetwork(widths).sample_scale(jax.random.key(len(widths)), outputs=outputs, shape=(DRAWS,))


def statistics(Q, rank):
    """What a law of Q is recognised by: products of entries, squared correlations, the non-zero eigenvalues."""
    D = Q.shape[1]
    a, b = np.tril_indices(D)
    entries = Q[:, a, b]
    corr_sq = entries**2 / (Q[:, a, a] * Q[:, b, b])
    eigenvalues = np.log(np.linalg.eigvalsh(Q)[:, ::-1][:, :rank])
    i, j = np.tril_indices(len(a))
    return np.column_stack([entries, entries[:, i] * entries[:, j], corr_sq, eigenvalues.sum(1), eigenvalues[:, 0]])


@by_outputs
@by_widths
def test_the_triangular_chain_has_the_law_of_the_weights(widths, outputs, rng):
    rank = network.ranks(widths, outputs)[-1]
    literal = oracles.network_scale(rng, widths, outputs, DRAWS)
    ours, theirs = statistics(scales(widths, outputs), rank), statistics(literal, rank)
    assert oracles.agree(ours, theirs)
    error = theirs[:, -2].std() / np.sqrt(DRAWS)
    assert error < 0.05 * outputs, "the standard error of log det is small"


@pytest.mark.parametrize("wrong", [(6,), (5, 20), ()])
def test_a_wrong_width_fails_the_same_check(wrong, rng):
    literal = oracles.network_scale(rng, wrong, 2, DRAWS) + (0 if wrong else 1e-9 * rng.standard_normal((DRAWS, 1, 1)))
    assert not oracles.agree(statistics(scales((5,), 2), 2), statistics(literal, 2))


@by_outputs
@by_widths
def test_the_rank_of_the_scale_is_that_of_the_narrowest_layer(widths, outputs):
    eigenvalues = np.linalg.eigvalsh(scales(widths, outputs)[:500])[:, ::-1]
    rank = min(outputs, *widths)
    assert (eigenvalues[:, :rank] > 0).all()
    assert (np.abs(eigenvalues[:, rank:]) < 1e-13 * eigenvalues[:, :1]).all()


def test_the_law_is_symmetric_in_the_widths():
    ours, theirs = (
        bl.FiniteNetwork(widths).sample_scale(jax.random.key(seed), outputs=3, shape=(DRAWS,))
        for seed, widths in enumerate([(2, 9), (9, 2)])
    )
    assert oracles.agree(statistics(ours, 2), statistics(theirs, 2))


@pytest.mark.parametrize(("widths", "outputs"), [((3, 8), 3), ((9, 2, 7), 4), ((1, 4), 3)], ids=str)
def test_the_chain_is_lower_trapezoidal_and_multiplies_to_the_scale(widths, outputs, float64):
    def model():
        with numpyro.handlers.seed(rng_seed=7), numpyro.handlers.trace() as sites:
            C = bl.FiniteNetwork(widths).sample_factor(outputs)
        return C, sites["factors"]["value"]

    C, chain = jax.jit(model)()
    assert chain.shape == (len(widths), outputs, outputs)
    survivors = network.ranks(widths, outputs)
    for T, left, right in zip(np.asarray(chain), survivors[:-1], survivors[1:], strict=True):
        inside = np.tril(np.ones((left, right), bool))
        np.testing.assert_array_equal(T[:left, :right] != 0, inside)
        assert (np.diag(T)[: min(left, right)] > 0).all()
        assert (T[left:] == 0).all()
        assert (T[:, right:] == 0).all()
    np.testing.assert_allclose(C, reduce(np.matmul, chain), rtol=1e-13, atol=1e-14)


# Coordinates of the chain


def test_the_first_coordinate_carries_the_weighted_sum(rng, float64):
    weights = np.array([[0.5, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    normal = rng.standard_normal((3, 3)) * (weights > 0)
    turned = np.asarray(network.turn_to_sum(normal, weights))
    expected = np.linalg.norm(weights, axis=0) * np.abs(normal[0])
    np.testing.assert_allclose(np.abs((weights * turned).sum(0)), expected, atol=1e-14)
    np.testing.assert_allclose((turned**2).sum(0), (normal**2).sum(0), atol=1e-14)
    np.testing.assert_allclose(network.turn_to_sum(turned, weights), normal, atol=1e-14)
    assert (turned[weights == 0] == 0).all()


def log_chi_squares():
    where = np.zeros((2, 3, 3), bool)
    where[:, range(3), range(3)] = True
    where[1, 2, 2] = False
    degrees, widths = np.array([6.0, 5.0, 4.0, 3.0, 2.0]), np.array([6.0, 6.0, 6.0, 3.0, 3.0])
    return network.LogChiSquares(degrees, widths, where), degrees, widths


def test_logarithms_of_chi_squares_have_their_density(float64):
    law, degrees, widths = log_chi_squares()
    value = jax.jit(lambda: law.sample(jax.random.key(3), (4, 2)))()
    assert value.shape == (4, 2, 5)
    found = np.asarray(jax.jit(law.log_prob)(value))
    logs = np.asarray(jax.vmap(jax.vmap(law.logarithms))(value))
    density = st.loggamma.logpdf(logs + np.log(widths / 2), degrees / 2).sum(-1)
    jacobian = np.linalg.slogdet(jax.jacobian(law.logarithms)(value[0, 0]))[1]
    np.testing.assert_allclose(found, density + jacobian, rtol=1e-11)


def test_logarithms_of_chi_squares_are_drawn_and_standardised(float64):
    law, degrees, widths = log_chi_squares()
    value = np.asarray(jax.jit(lambda: law.sample(jax.random.key(4), (20_000,)))())
    logs = np.asarray(jax.vmap(law.logarithms)(value))
    for log, k, N in zip(logs.T, degrees, widths, strict=True):
        assert st.kstest(np.exp(log) * N, st.chi2(k).cdf).pvalue > 1e-6
        assert st.kstest(np.exp(log) * N, st.chi2(k + 0.5).cdf).pvalue < 1e-6, "the test can fail"
    assert oracles.within(value, 0.0)
    assert oracles.within(value[:, :, None] * value[:, None, :], np.eye(5))


# Products and weights


@pytest.mark.parametrize("size", [1, 2, 5, 7])
@pytest.mark.parametrize("count", range(1, 10))
def test_halving_keeps_the_order_of_the_product(count, size, rng, float64):
    factors = rng.standard_normal((count, size, size))
    expected = reduce(np.matmul, factors)
    scale = 100 * np.finfo(float).eps * np.prod(np.linalg.norm(factors, axis=(1, 2)))
    np.testing.assert_allclose(jax.jit(network.ordered_product)(factors), expected, rtol=0, atol=scale)


def test_halving_follows_the_precision_around_it(rng):
    factors = jnp.asarray(rng.standard_normal((3, 2, 2)))
    assert network.ordered_product(factors).dtype == jnp.float32


@pytest.mark.parametrize("widths", [(), (4,), (3, 5), (2, 6, 1)], ids=str)
def test_the_output_chain_is_what_follows_the_first_layer(widths, rng, float64):
    shapes = network.layer_shapes(7, widths, 3)
    assert [shape[0] for shape in shapes] == [*widths, 3]
    assert [shape[1] for shape in shapes] == [7, *widths]
    weights = [rng.standard_normal(shape) for shape in shapes]
    x = rng.standard_normal(7)
    f = reduce(lambda signal, weight: weight @ signal, weights, x) / np.sqrt(np.prod(widths))
    H = network.output_chain(weights)
    assert H.shape == (3, *(widths[:1] or (3,)))
    np.testing.assert_allclose(H @ (weights[0] @ x), f, rtol=1e-12, atol=1e-12)
