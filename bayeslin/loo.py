"""Leave-one-row-out densities in closed form, draw by draw (design section 4)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayeslin.likelihood import Conditional
from bayeslin.spectrum import Spectrum, decompose


def log_likelihood_loo(given: Conditional, spec: Spectrum, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Log density of every row of labels given all the other rows: (s, n) for s draws.

    With S_k = lam_k Q + Sigma = M diag(g_k) M^T, the block of the inverse covariance at row i is P diag(a_i) P^T with
    a_i = 1 + sum_k U_ik^2 (1/g_k - 1). Given the others y_i has this precision and mean y_i - M (o_i / a_i), where
    o_i = sum_k U_ik (P^T z_k) / g_k + P^T (y_i - Z^T U_i).
    """
    U = decompose(X)[0][:, : spec.rank]
    Z = U.T @ Y
    with jax.enable_x64(True):
        return np.asarray(_log_densities(given, spec.lam, Z, U, Y - U @ Z))


@jax.jit
def _log_densities(given: Conditional, lam: Any, Z: Any, U: Any, rest: Any) -> Any:
    square = U**2
    unreached = jnp.maximum(1.0 - square.sum(1), 0.0)  # of each row's own direction, what no eigenvector covers

    def one(draw):
        g = 1.0 + lam[:, None] * draw.q
        a = unreached[:, None] + square @ (1.0 / g)  # (n, D)
        o = U @ (Z @ draw.P / g) + rest @ draw.P
        log_det = jnp.linalg.slogdet(draw.M)[1]
        return 0.5 * (jnp.log(a) - o**2 / a - jnp.log(2 * jnp.pi)).sum(1) - log_det

    return jax.lax.map(one, given, batch_size=64)
