"""Full noise in coordinates around a guide: the law is that of sds and LKJ correlations, whatever the guide."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import oracles
import pytest
import scipy.stats as st

from bayeslin.covariance import Covariance


def law(rng, D, prior=None):
    M = np.linalg.cholesky(oracles.wishart(rng, D))
    return Covariance(prior or dist.HalfNormal(1.0), M, rng.uniform(0.0, 50.0, (D, D)))


@pytest.mark.parametrize("outputs", [2, 3, 5])
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
