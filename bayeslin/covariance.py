"""A full noise covariance, uniform over correlations, in coordinates around a guide."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayeslin.positive import log_slope, logarithm, real
from bayeslin.small import SMALL, cholesky, diagonal, product, solve_lower

CLOSE = 1e-10  # a residual whose variance is below this in units of M holds its slopes no closer


class Covariance(dist.Distribution):
    """Sigma = M L L^T M^T with sds from a prior and LKJ(1) correlations, by slopes and residual sds of regressions.

    In units of M, (I - B) L = diag(t): the noise of output i is its regression on the outputs before it, slopes b_i,
    with a residual of sd t_i, whose coordinates are `positive.real`. Where t_i is small the labels fix b_i the more
    closely, a funnel; so the coordinates x_i of b_i are in units of what they leave open given t_i and the outputs
    before: b_i = K_i^-T x_i, where K_i K_i^T is the labels' information and, where they say nothing, makes x_i row i of
    L, which the prior holds. M : (D, D), lower triangular, Sigma is about M M^T; info : `Regressions`, of the labels.
    """

    support = dist.constraints.real_vector

    def __init__(self, sd: Any, M: Any, info: Any):
        D = M.shape[-1]
        self.prior, self.M, self.info = sd, M, info
        self.rows, self.columns = np.tril_indices(D)
        self.unit = 1.0 / jnp.sqrt(1.0 + 2.0 * jnp.asarray(info.log_sd))
        super().__init__(event_shape=(len(self.rows),))

    def _hold(self, L: Any, i: Any, t: Any, signal: Any) -> Any:
        """K (D, D), lower triangular: slopes of output i have about the precision K K^T.

        L : (D, D), of the outputs before it, zero from row i on; t, signal (groups,) : its residual's sd, and signal.
        """
        A = product(L, L.T)  # the prior's precision where it is flat in the entries of L
        own = diagonal(A)
        noise = self.info.labels * jnp.square(own / (own + self.info.signal + CLOSE))
        held = (noise / (jnp.square(t) + signal + CLOSE)[:, None]).sum(0)
        return cholesky(A + jnp.diag(jnp.where(jnp.arange(len(L)) < i, held + CLOSE * (own + CLOSE), 1.0)))

    def _parts(self, value: Any) -> tuple[Any, Any, Any]:
        """L (D, D), the real numbers u of t, and the logarithm of the slopes' volume."""
        D = len(self.M)
        if D > SMALL:
            lower = jnp.zeros((D, D), value.dtype).at[self.rows, self.columns].set(value)
        else:  # without a scatter
            rows = jnp.split(value, np.cumsum(np.arange(1, D)))
            lower = jnp.stack([jnp.pad(row, (0, D - len(row))) for row in rows])
        u = self.unit * diagonal(lower)
        t = jnp.exp(logarithm(u))

        def add(L, row):
            i, x, t, signal = row
            K = self._hold(L, i, t, signal)
            slopes = solve_lower(K[::-1, ::-1].T, x[::-1])[::-1]  # K^-T x
            here = jnp.arange(D) == i
            mine = (slopes[:, None] * L).sum(0) + jnp.where(here, t, 0.0)
            return L + jnp.where(here[:, None], mine, 0.0), jnp.log(diagonal(K)).sum()

        each = jnp.arange(D), jnp.tril(lower, -1), t, self.info.signal.T
        L, held = jax.lax.scan(add, jnp.zeros((D, D), value.dtype), each)
        return L, u, ((D - 1 - np.arange(D)) * jnp.log(t)).sum() - held.sum()

    def matrix(self, value: Any) -> Any:
        """Sigma (D, D) of a value of the site."""
        L = product(self.M, self._parts(value)[0])
        return product(L, L.T)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, D (D + 1) / 2)."""
        D = len(self.M)
        key_sd, key_correlation = jax.random.split(key)
        sd = self.prior.expand([D]).sample(key_sd, sample_shape)
        C = sd[..., None] * dist.LKJCholesky(D, 1.0).sample(key_correlation, sample_shape)
        return jnp.vectorize(self._value, signature="(d,d)->(k)")(jnp.linalg.solve(self.M, C))

    def _value(self, factor: Any) -> Any:
        """The value where Sigma = M factor factor^T M^T."""
        L = jnp.linalg.cholesky(factor @ factor.T)
        D, t = len(L), jnp.diagonal(L)
        rows = [jnp.zeros(D)]
        for i in range(1, D):
            before = L * (np.arange(D) < i)[:, None]
            slopes = jnp.linalg.solve(L[:i, :i].T, L[i, :i])
            rows.append(self._hold(before, i, t[i], self.info.signal[:, i]).T @ jnp.pad(slopes, (0, D - i)))
        lower = jnp.tril(jnp.stack(rows), -1) + jnp.diag(real(jnp.log(t)) / self.unit)
        return lower[self.rows, self.columns]

    def log_prob(self, value: Any) -> Any:
        """Log density of values (..., D (D + 1) / 2)."""
        return jnp.vectorize(self._log_prob, signature="(d)->()")(value)

    def _log_prob(self, value: Any) -> Any:
        L, u, slopes = self._parts(value)
        D = len(u)
        sd = jnp.sqrt(jnp.square(product(self.M, L)).sum(1))
        uniform = dist.LKJCholesky(D, 1.0).log_prob(jnp.eye(D))  # the same for every correlation matrix
        volume = ((D + 1.0 - np.arange(D)) * logarithm(u) + log_slope(u) + jnp.log(self.unit)).sum() + slopes
        volume = volume + (D + 1) * jnp.log(jnp.diagonal(self.M)).sum()
        return (self.prior.log_prob(sd) - D * jnp.log(sd)).sum() + uniform + volume
