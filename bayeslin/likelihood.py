"""log p(Y | Q, Sigma) with its closed-form derivative, and the functions given both (design section 4).

The signal variance enters only through Q: pass s2 * Q where s2 is not one. Nothing here has an axis of rows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayeslin.small import cholesky, eigh, product, solve_lower
from bayeslin.spectrum import Spectrum


def log_marginal(Q: Any, Sigma: Any, spec: Spectrum) -> jax.Array:
    """Log density of the labels given the scale and the noise, functions integrated out.

    Q : (D, D), scale, positive semidefinite; Sigma : (D, D), noise covariance, positive definite.
    Costs O(D^3 + r D^2), whatever the number of rows. First derivatives are exact everywhere, also where eigenvalues
    coincide (Q = I); second derivatives only where the eigenvalues of Q relative to Sigma are distinct.

    >>> import numpy as np
    >>> spec = Spectrum.from_rows([[1.0], [2.0]], [[0.3], [0.5]])
    >>> float(log_marginal(np.eye(1), np.eye(1), spec))  # doctest: +ELLIPSIS
    -2.762...
    """
    dtype = jnp.result_type(Q, Sigma)
    arrays = (Q, Sigma, spec.lam, spec.Z, spec.R, spec.n)
    return _log_marginal(*(jnp.asarray(array, dtype) for array in arrays))


class Eigenbasis(NamedTuple):
    """Q = M diag(q) M^T and Sigma = M M^T, with P = M^-T."""

    q: jax.Array
    M: jax.Array
    P: jax.Array
    half_log_det: jax.Array  # of Sigma


def eigenbasis(Q: Any, Sigma: Any) -> Eigenbasis:
    """Diagonalise Q (D, D) and Sigma (D, D) together."""
    L = cholesky(Sigma)
    inverse = solve_lower(L, jnp.eye(len(L), dtype=L.dtype))
    whitened = product(product(inverse, Q), inverse.T)
    q, E = eigh((whitened + whitened.T) / 2)
    return Eigenbasis(jnp.maximum(q, 0.0), product(L, E), product(inverse.T, E), jnp.log(jnp.diagonal(L)).sum())


@jax.custom_jvp
def _log_marginal(Q, Sigma, lam, Z, R, n):
    return _value_and_gradient(Q, Sigma, lam, Z, R, n)[0]


def _value_and_gradient(Q, Sigma, lam, Z, R, n):
    q, _, P, half_log_det = eigenbasis(Q, Sigma)
    g = 1.0 + lam[:, None] * q  # (r, D)
    y = product(Z, P)
    w = y / g  # w_i = P^T z_i / g_i
    rest = product(product(P.T, R), P)
    log_det = 2.0 * half_log_det + len(Q) * math.log(2.0 * math.pi)
    value = -0.5 * (jnp.log(g) + y * w).sum() - 0.5 * n * log_det - 0.5 * jnp.trace(rest)

    def back(weights):  # sum_i weights_i (w_i w_i^T - diag(1/g_i))
        return product((weights * w).T, w) - jnp.diag((weights / g).sum(0))

    def outside(inner):  # P inner P^T / 2
        return product(product(P, inner), P.T) / 2.0

    gradient = (
        outside(back(lam[:, None])),
        outside(back(1.0) - (n - len(lam)) * jnp.eye(len(Q), dtype=rest.dtype) + rest),
        (q * w**2 - q / g).sum(1) / 2.0,
        -product(w, P.T),  # -S_i^-1 z_i
        -product(P, P.T) / 2.0,
        -log_det / 2.0,
    )
    return value, gradient


@partial(_log_marginal.defjvp, symbolic_zeros=True)
def _log_marginal_jvp(primals, tangents):
    value, gradient = _value_and_gradient(*primals)
    moving = [
        jnp.vdot(slope, tangent)
        for slope, tangent in zip(gradient, tangents, strict=True)
        if not isinstance(tangent, jax.custom_derivatives.SymbolicZero)
    ]
    return value, sum(moving, jnp.zeros_like(value))


class Conditional(NamedTuple):
    """The function given Q, Sigma and the labels: Gaussian at every input.

    With t = V^T x / sqrt(p) and u = |x|^2 / p - |t|^2, the part of x that no row reached:
    f(x) has mean M (t @ coef) and covariance M diag(t^2 @ var + u q) M^T; labels add M M^T.
    """

    q: jax.Array  # (D,)
    M: jax.Array  # (D, D)
    P: jax.Array  # (D, D)
    coef: jax.Array  # (r, D)
    var: jax.Array  # (r, D)


def conditional(Q: Any, Sigma: Any, spec: Spectrum) -> Conditional:
    """Everything that predictions need of one draw of (Q, Sigma)."""
    q, M, P, _ = eigenbasis(Q, Sigma)
    var = q / (1.0 + spec.lam[:, None] * q)  # Q S_i^-1 Sigma = M diag(q / g_i) M^T, the stable form
    coef = jnp.sqrt(spec.lam)[:, None] * var * (spec.Z @ P)  # sqrt(lam_i) Q S_i^-1 z_i
    return Conditional(q, M, P, coef, var)
