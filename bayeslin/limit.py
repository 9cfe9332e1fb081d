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
from bayeslin.chain import Below, Steps, first_coordinate, turn_to_sum
from bayeslin.guide import Guide
from bayeslin.hyperparameters import upper_point


def sample_factor(alpha: Any, steps: int, outputs: int, guide: Guide | None = None) -> Any:
    """NumPyro fragment: C (D, D) = diag(h/2) U diag(h) U ... U diag(h/2), h = alpha / steps, U = I + A + A^2 / 2.

    diag(t) multiplies column i by exp(N(0, t/2) - i t/2); A is strictly lower, A_ij ~ N(0, h + (i-j-1) h^2/4). Terms of
    third order would not change the weak order. Brownian scaling makes it non-centred: alpha enters smoothly, beside
    the sites `_diagonal` (steps + 1, D), turned by `turn_to_sum`, and `_lower` (steps, D (D - 1) / 2), see `Below`.
    """
    h, D = alpha / steps, outputs
    shares = np.array([0.5] + [1.0] * (steps - 1) + [0.5])[:, None]  # of h, (steps + 1, 1)
    spans = shares * h
    centre, spread = -np.arange(1, D + 1) * alpha / 2.0, jnp.sqrt(alpha / 2.0)  # of log C_ii, whose sum comes first
    loc, scale = first_coordinate(centre, -spread, guide)
    shape = (steps + 1, D)
    loc, scale = jnp.zeros(shape).at[0].set(loc), jnp.ones(shape).at[0].set(scale)
    normal = numpyro.sample("_diagonal", dist.Normal(-loc / scale, 1.0 / scale).to_event(2))
    normal = turn_to_sum(loc + scale * normal, np.repeat(np.sqrt(shares), D, axis=1))
    log_diagonal = jnp.sqrt(spans / 2.0) * normal - np.arange(1, D + 1) * spans / 2.0
    upto = jnp.cumsum(log_diagonal, 0)
    if D == 1:
        return jnp.exp(upto[-1:])
    i, j = np.indices((D, D))
    sd = jnp.broadcast_to(jnp.sqrt(h + np.maximum(i - j - 1, 0) * h**2 / 4.0) * (i > j), (steps, D, D))
    path = Steps(upto[:-1], upto[:-1], upto[-1], sd, np.ones(shape), bend=0.5)
    below = Below(path, guide)
    return below.path(numpyro.sample("_lower", below))[0]


def steps_for(alpha: Any) -> int:
    """Number of steps by bucket of alpha: 8 up to .5, 16 up to 4, 32 above; a random alpha by its 99.9 % point.

    >>> [steps_for(alpha) for alpha in (0.5, 0.6, 5.0)]
    [8, 16, 32]
    """
    if isinstance(alpha, jax.core.Tracer):
        raise checks.InputError("alpha is traced, so its bucket is unknown; give steps= as well (8, 16 or 32)")
    largest = upper_point(alpha)
    return 8 if largest <= 0.5 else 16 if largest <= 4.0 else 32
