"""A full noise covariance, uniform over correlations, in coordinates around a guide."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayeslin.positive import log_slope, logarithm, real
from bayeslin.small import SMALL, diagonal, product


class Covariance(dist.Distribution):
    """Sigma = M T T^T M^T with sds from a prior and LKJ(1) correlations, by the D (D + 1) / 2 entries of T.

    T is lower triangular, its diagonal is taken by `positive.real`; all in units of what the labels leave open. M : (D,
    D), lower triangular, Sigma is about M M^T; info : (D, D), of the labels about the entries of T.
    """

    support = dist.constraints.real_vector

    def __init__(self, sd: Any, M: Any, info: Any):
        D = M.shape[-1]
        self.prior, self.M = sd, M
        self.rows, self.columns = np.tril_indices(D)
        on = self.rows == self.columns
        self.unit = 1.0 / jnp.sqrt(1.0 + jnp.asarray(info)[self.rows, self.columns] * np.where(on, 2.0, 1.0))
        super().__init__(event_shape=(len(on),))

    def _factor(self, value: Any) -> tuple[Any, Any]:
        """T (D, D), and the real numbers of its diagonal."""
        D, x = len(self.M), self.unit * value
        if D > SMALL:
            lower = jnp.zeros((D, D), x.dtype).at[self.rows, self.columns].set(x)
        else:  # without a scatter
            lower = jnp.stack([jnp.pad(row, (0, D - len(row))) for row in jnp.split(x, np.cumsum(np.arange(1, D)))])
        u = diagonal(lower)
        return jnp.tril(lower, -1) + jnp.diag(jnp.exp(logarithm(u))), u

    def matrix(self, value: Any) -> Any:
        """Sigma (D, D) of a value of the site."""
        L = product(self.M, self._factor(value)[0])
        return product(L, L.T)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, D (D + 1) / 2)."""
        D = len(self.M)
        key_sd, key_correlation = jax.random.split(key)
        sd = self.prior.expand([D]).sample(key_sd, sample_shape)
        L = sd[..., None] * dist.LKJCholesky(D, 1.0).sample(key_correlation, sample_shape)
        relative = jnp.linalg.solve(self.M, L)
        T = jnp.linalg.cholesky(relative @ jnp.swapaxes(relative, -1, -2))
        t = jnp.diagonal(T, axis1=-2, axis2=-1)
        lower = T * np.tril(np.ones((D, D)), -1) + real(jnp.log(t))[..., None] * np.eye(D)
        return lower[..., self.rows, self.columns] / self.unit

    def log_prob(self, value: Any) -> Any:
        """Log density of values (..., D (D + 1) / 2)."""
        return jnp.vectorize(self._log_prob, signature="(d)->()")(value)

    def _log_prob(self, value: Any) -> Any:
        T, u = self._factor(value)
        D = len(u)
        sd = jnp.sqrt(jnp.square(product(self.M, T)).sum(1))
        uniform = dist.LKJCholesky(D, 1.0).log_prob(jnp.eye(D))  # the same for every correlation matrix
        volume = ((D + 1 - np.arange(D)) * logarithm(u) + log_slope(u)).sum()
        volume = volume + (D + 1) * jnp.log(jnp.diagonal(self.M)).sum()
        return (self.prior.log_prob(sd) - D * jnp.log(sd)).sum() + uniform + volume + jnp.log(self.unit).sum()
