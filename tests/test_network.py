"""The finite network: its triangular chain has the law of the weights, bottlenecks included."""

from functools import lru_cache, reduce

import jax
import numpy as np
import numpyro
import oracles
import pytest
import scipy.stats as st

import bayeslin as bl
from bayeslin import network
from bayeslin.guide import Guide

DRAWS = 10_000
WIDTHS = [(5,), (4, 9), (9, 2, 7), (2,), (1, 4)]  # with four outputs the last three are bottlenecks
by_widths = pytest.mark.parametrize("widths", WIDTHS, ids=str)
by_outputs = pytest.mark.parametrize("outputs", [pytest.param(2, marks=pytest.mark.slow), 4])


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


SEVERAL = [pytest.param((4, 9), 4, marks=pytest.mark.slow), ((5,), 4), ((9, 2, 7), 4)]
FEWER = [pytest.param(widths, 2, marks=pytest.mark.slow) for widths in WIDTHS]
NARROW = [pytest.param(widths, 4, marks=pytest.mark.slow) for widths in ((2,), (1, 4))]


@pytest.mark.parametrize(("widths", "outputs"), SEVERAL + FEWER + NARROW, ids=str)
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


def log_chi_squares(aligned):
    degrees, widths = np.array([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]), np.array([[6.0], [3.0]])
    on = np.array([[True, True, True], [True, True, False]])
    eye, log_diag = np.eye(3), np.array([0.5, -1.0, 2.0])
    guide = Guide(eye, eye, log_diag, np.full((3, 3), 25.0), np.ones(3), 1.0, 1.0) if aligned else None
    return network.LogChiSquares(degrees, widths, on, guide), np.where(on, degrees, 2.0), widths, on


@pytest.mark.parametrize("aligned", [False, True])
def test_logarithms_of_chi_squares_have_their_density(aligned, float64):
    law, degrees, widths, on = log_chi_squares(aligned)
    value = jax.jit(lambda: law.sample(jax.random.key(3), (4, 2)))()
    assert value.shape == (4, 2, 2, 3)
    found = np.asarray(jax.jit(law.log_prob)(value))
    logs = np.asarray(jax.vmap(jax.vmap(law._all))(value))
    density = (st.loggamma.logpdf(logs + np.log(widths / 2), degrees / 2)).sum((-2, -1))
    jacobian = jax.jacobian(lambda flat: law._all(flat.reshape(2, 3)).ravel())(value[0, 0].ravel())
    np.testing.assert_allclose(found, density + np.linalg.slogdet(jacobian)[1], rtol=1e-10)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(law.logarithms))(value), logs * on)


@pytest.mark.parametrize("aligned", [False, True])
def test_logarithms_of_chi_squares_are_drawn_and_standardised(aligned, float64):
    law, degrees, widths, on = log_chi_squares(aligned)
    value = jax.jit(lambda: law.sample(jax.random.key(4), (20_000,)))()
    logs = np.asarray(jax.vmap(law.logarithms)(value))
    for layer, column in np.argwhere(on):
        square, k = np.exp(logs[:, layer, column]) * widths[layer, 0], degrees[layer, column]
        assert st.kstest(square, st.chi2(k).cdf).pvalue > 1e-6
        assert st.kstest(square, st.chi2(k + 0.5).cdf).pvalue < 1e-6, "the test can fail"
    if not aligned:
        flat = np.asarray(value).reshape(-1, 6)
        assert oracles.within(flat, 0.0)
        assert oracles.within(flat[:, :, None] * flat[:, None, :], np.eye(6))


# Weights


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
