"""Full noise in coordinates around a guide: the law is that of sds and LKJ correlations, whatever the guide."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import oracles
import pytest
import scipy.stats as st

from bayeslin.covariance import Covariance
from bayeslin.guide import Regressions
from bayeslin.positive import logarithm, real


def law(rng, D, prior=None):
    M = np.linalg.cholesky(oracles.wishart(rng, D))
    info = Regressions(*(rng.uniform(0.0, 50.0, shape) for shape in (D, (4, D), (4, D))))
    return Covariance(prior or dist.HalfNormal(1.0), M, info)


@pytest.mark.parametrize("outputs", [2, 3, 5, 6])
def test_the_density_is_that_of_sds_and_correlations(outputs, rng, float64):
    prior = dist.LogNormal(-0.5, 0.7)
    found, D = law(rng, outputs, prior), outputs
    i, j = np.tril_indices(D, -1)

    @jax.jit
    def parts(value):
        """Standard deviations, and the free entries of the correlations' Cholesky factor."""
        L = jnp.linalg.cholesky(found.matrix(value))
        sd = jnp.sqrt(jnp.square(L).sum(1))
        return jnp.concatenate([sd, (L / sd[:, None])[i, j]])

    for value in np.asarray(found.sample(jax.random.key(0), (3,))):
        sd, below = np.split(np.asarray(parts(value)), [D])
        L = np.zeros((D, D))
        L[i, j] = below
        L[np.diag_indices(D)] = np.sqrt(1 - np.square(L).sum(1))
        volume = np.linalg.slogdet(jax.jit(jax.jacfwd(parts))(value))[1]
        expected = prior.log_prob(sd).sum() + dist.LKJCholesky(D, 1.0).log_prob(L) + volume
        assert float(found.log_prob(value)) == pytest.approx(float(expected), rel=1e-9)


def test_draws_have_half_normal_sds_and_uniform_correlations(rng, float64):
    found = law(rng, 3)
    value = jax.jit(lambda key: found.sample(key, (20_000,)))(jax.random.key(1))
    assert found.log_prob(value[:6].reshape(2, 3, -1)).shape == (2, 3)
    Sigma = np.asarray(jax.vmap(found.matrix)(value))
    sd = np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2))
    rho = Sigma / sd[:, :, None] / sd[:, None, :]
    for a in range(3):
        assert st.kstest(sd[:, a], st.halfnorm().cdf).pvalue > 1e-6
        assert st.kstest(sd[:, a], st.halfnorm(scale=1.1).cdf).pvalue < 1e-6, "the test can fail"
        assert st.kstest((rho[:, a, a - 1] + 1) / 2, st.beta(1.5, 1.5).cdf).pvalue > 1e-6  # LKJ(1), three outputs


def test_where_labels_say_nothing_the_coordinates_are_the_entries_of_the_factor(rng, float64):
    D = 4
    found = Covariance(dist.HalfNormal(1.0), np.eye(D), Regressions(np.zeros(D), np.zeros((2, D)), np.ones((2, D))))
    value = rng.standard_normal(10)
    L = np.zeros((D, D))
    L[np.tril_indices(D)] = value
    L[np.diag_indices(D)] = np.exp(logarithm(np.diag(L)))
    np.testing.assert_allclose(found.matrix(value), L @ L.T, rtol=1e-6, atol=1e-8)


def test_where_labels_say_much_slopes_are_in_units_of_the_residual(rng, float64):
    """As in a regression: with squares S of the noise before, the slope's sd is t / sqrt(S)."""
    squares, D = 1e6, 3
    found = Covariance(
        dist.HalfNormal(1.0), np.eye(D), Regressions(np.ones(D), np.full((1, D), squares), np.zeros((1, D)))
    )
    for log_t in (-2.0, 0.0, 1.0):
        value = np.zeros(6)
        value[5] = real(log_t) * np.sqrt(3.0)  # the last residual
        value[3:5] = 1.0, -2.0
        Sigma = np.asarray(found.matrix(value))
        slopes = np.linalg.solve(Sigma[:2, :2], Sigma[:2, 2])
        np.testing.assert_allclose(slopes, np.exp(log_t) / np.sqrt(squares) * value[3:5], rtol=1e-3)
