"""The marginal likelihood as NumPyro distributions: over labels, and over what a Spectrum keeps of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayeslin.likelihood import log_marginal
from bayeslin.spectrum import Spectrum, decompose, reduce_labels


class LinearLabels(dist.Distribution):
    """Labels (n, D) at inputs X (n, p): Cov(y_ia, y_jb) = Q_ab x_i.x_j / p + Sigma_ab [i = j].

    Q : (D, D), times the signal variance where it is not one; Sigma : (D, D). X and labels that are known reach the
    compiled density only as sufficient statistics.
    """

    support = constraints.real_matrix
    pytree_data_fields = ("Q", "Sigma", "X", "basis")

    def __init__(self, Q: Any, Sigma: Any, X: Any, *, validate_args: bool | None = None):
        self.Q, self.Sigma, self.X, self.basis = Q, Sigma, X, decompose(X)
        super().__init__(event_shape=(X.shape[0], Q.shape[-1]), validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw labels (*sample_shape, n, D)."""
        key_map, key_noise = jax.random.split(key)
        p, D = self.X.shape[1], self.event_shape[1]
        maps = jax.random.normal(key_map, (*sample_shape, p, D)) @ _root(self.Q).T / np.sqrt(p)
        return self.X @ maps + jax.random.normal(key_noise, (*sample_shape, *self.event_shape)) @ _root(self.Sigma).T

    def log_prob(self, value: Any) -> Any:
        """Log density of labels (..., n, D)."""
        U, S, _ = self.basis
        known = not isinstance(value, jax.core.Tracer)
        labels = np.asarray(value) if known else value

        def one(Y):
            Z, R = reduce_labels(U, Y)
            return log_marginal(self.Q, self.Sigma, Spectrum(S**2, Z, R, self.event_shape[0]))

        return _each(one, labels)


class ReducedLabels(dist.Distribution):
    """What a Spectrum keeps of labels, Z above R as one (r + D, D) matrix: no axis of rows anywhere.

    Its density is that of the labels themselves, so evidence and posterior are the same. `sample` draws Z_i ~ N(0,
    lam_i Q + Sigma) and R ~ Wishart(n - r, Sigma), singular where n - r < D, for an unpadded Spectrum.
    """

    support = constraints.real_matrix
    pytree_data_fields = ("Q", "Sigma", "spec")

    def __init__(self, Q: Any, Sigma: Any, spec: Spectrum, *, validate_args: bool | None = None):
        self.Q, self.Sigma, self.spec = Q, Sigma, spec
        super().__init__(event_shape=(spec.rank + Q.shape[-1], Q.shape[-1]), validate_args=validate_args)

    @staticmethod
    def reduced(spec: Spectrum) -> Any:
        """The observed value of a Spectrum."""
        module = jnp if isinstance(spec.Z, jax.core.Tracer) else np
        return module.concatenate([spec.Z, spec.R])

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, r + D, D)."""
        key_signal, key_noise, key_diagonal, key_lower = jax.random.split(key, 4)
        lam, n, D = self.spec.lam, self.spec.n, self.event_shape[1]
        normal = jax.random.normal(key_signal, (*sample_shape, len(lam), D)) @ _root(self.Q).T
        noise = jax.random.normal(key_noise, (*sample_shape, len(lam), D)) @ _root(self.Sigma).T
        degrees = n - len(lam) - np.arange(D)  # of R's Bartlett factor; columns without one are absent
        square = 2.0 * jax.random.gamma(key_diagonal, jnp.maximum(degrees, 1) / 2.0, (*sample_shape, D))
        lower = jnp.tril(jax.random.normal(key_lower, (*sample_shape, D, D)), -1)
        T = (lower + jnp.sqrt(square)[..., None] * jnp.eye(D)) * (degrees > 0)
        L = _root(self.Sigma) @ T
        return jnp.concatenate([jnp.sqrt(lam)[:, None] * normal + noise, L @ jnp.swapaxes(L, -1, -2)], axis=-2)

    def log_prob(self, value: Any) -> Any:
        """Log density of the labels behind (..., r + D, D)."""
        r = self.spec.rank

        def one(stacked):
            return log_marginal(self.Q, self.Sigma, self.spec._replace(Z=stacked[:r], R=stacked[r:]))

        return _each(one, value)


def _each(one: Any, matrices: Any) -> Any:
    """Apply to every matrix of (..., a, b)."""
    if matrices.ndim == 2:
        return one(matrices)
    flat = jax.vmap(one)(jnp.reshape(matrices, (-1, *matrices.shape[-2:])))
    return flat.reshape(matrices.shape[:-2])


def _root(A: Any) -> Any:
    """B with B B^T = A for positive semidefinite A."""
    values, vectors = jnp.linalg.eigh(A)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))
