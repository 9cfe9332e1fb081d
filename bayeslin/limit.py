"""The proportional limit: Q = C C^T at the end of a matrix Brownian motion, by a scheme of weak order two.

C solves dC = C dB on [0, alpha] with C = I at 0; B is lower triangular, dB_ii = dW_ii / sqrt 2 + (1/4 - i/2) dt and
dB_ij = dW_ij below the diagonal (design section 3).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks
from bayeslin.hyperparameters import upper_point
from bayeslin.network import ordered_product, stacked_matmul, turn_to_sum


def sample_factor(alpha: Any, steps: int, outputs: int) -> Any:
    """NumPyro fragment: C (D, D) = diag(h/2) U diag(h) U ... U diag(h/2) with h = alpha / steps and U = exp(A).

    diag(t) multiplies column i by exp(N(0, t/2) - i t/2); A is strictly lower, A_ij ~ N(0, h + (i-j-1) h^2/4). Brownian
    scaling makes it non-centred: alpha enters smoothly, beside standard normal sites `_diagonal` (steps + 1, D) and
    `_lower` (steps, D (D - 1) / 2), both turned by `turn_to_sum`.
    """
    h, D = alpha / steps, outputs
    shares = np.array([0.5] + [1.0] * (steps - 1) + [0.5])[:, None]  # of h, (steps + 1, 1)
    spans = shares * h
    normal = numpyro.sample("_diagonal", dist.Normal(0.0, 1.0).expand([steps + 1, D]).to_event(2))
    normal = turn_to_sum(normal, np.repeat(np.sqrt(shares), D, axis=1))
    log_diagonal = jnp.sqrt(spans / 2.0) * normal - np.arange(1, D + 1) * spans / 2.0
    diagonal = jnp.exp(log_diagonal)
    if D == 1:
        return jnp.prod(diagonal, axis=0)[:, None]
    i, j = np.tril_indices(D, -1)
    sd = jnp.sqrt(h + (i - j - 1) * h**2 / 4.0)
    lower = numpyro.sample("_lower", dist.Normal(0.0, 1.0).expand([steps, len(i)]).to_event(2))
    before = jnp.cumsum(log_diagonal, 0)[:-1]  # (steps, D), log C_ii when U_k arrives
    reach = jnp.exp(before[:, i] + log_diagonal.sum(0)[j] - before[:, j])  # what noise (k, i, j) adds to C_ij
    lower = turn_to_sum(lower, reach)
    A = jnp.zeros((steps, D, D), lower.dtype).at[:, i, j].set(sd * lower)
    return diagonal[0, :, None] * ordered_product(_exp_nilpotent(A) * diagonal[1:, None, :])


def steps_for(alpha: Any) -> int:
    """Number of steps by bucket of alpha: 8 up to .5, 16 up to 4, 32 above; a random alpha by its 99.9 % point.

    >>> [steps_for(alpha) for alpha in (0.5, 0.6, 5.0)]
    [8, 16, 32]
    """
    if isinstance(alpha, jax.core.Tracer):
        raise checks.InputError("alpha is traced, so its bucket is unknown; give steps= as well (8, 16 or 32)")
    largest = upper_point(alpha)
    return 8 if largest <= 0.5 else 16 if largest <= 4.0 else 32


def _exp_nilpotent(A: Any) -> Any:
    """Exponential of strictly lower triangular matrices (m, D, D): the series ends, Horner's scheme."""
    identity = jnp.eye(A.shape[-1], dtype=A.dtype)
    power = identity + A / max(A.shape[-1] - 1, 1)
    for order in range(A.shape[-1] - 2, 0, -1):
        power = identity + stacked_matmul(A, power) / order
    return power
