"""Products and factors of matrices, written out where they are small.

XLA makes one kernel of a whole sampler on a CPU where nothing in it calls a library; a call, or a kernel for each
operation, costs more than the arithmetic of a few outputs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 5  # most rows of what is written out
SWEEPS = 8  # of Jacobi's rotations; five take matrices of this size to rounding, graded ones one or two more


def product(A: Any, B: Any) -> Any:
    """A @ B of A (a, b) and B (b, c), where only one of the sizes may be large."""
    if sorted((*A.shape, B.shape[1]))[1] > SMALL:
        return A @ B
    if len(A) <= SMALL >= A.shape[1]:
        return (A[:, :, None] * B).sum(1)  # fewest operations to compile
    if A.shape[1] <= SMALL:
        return sum(A[:, k, None] * B[k] for k in range(A.shape[1]))  # half the time of the above for many rows
    return jnp.stack([(A * B[:, j]).sum(1) for j in range(B.shape[1])], 1)


def diagonal(A: Any) -> Any:
    """The diagonal (D,) of A (D, D), with a derivative that scatters nothing."""
    return jnp.where(np.eye(len(A), dtype=bool), A, 0.0).sum(1)


def cholesky(A: Any) -> Any:
    """Lower triangular L (D, D) with L L^T = A; NaN where A is not positive definite."""
    D = len(A)
    if D > SMALL:
        return jnp.linalg.cholesky(A)
    if D > 1:  # one output needs none, and JAX 0.12 miscompiles it in a loop (tests/test_exact.py)
        A = (A + A.T) / 2.0  # so that derivatives are symmetric, as the library's are
    columns: list = []
    for j in range(D):
        columns.append(jnp.where(np.arange(D) >= j, A[:, j] / jnp.sqrt(A[j, j]), 0.0))
        A = A - columns[j][:, None] * columns[j]
    return jnp.stack(columns, 1)


def solve_lower(L: Any, b: Any) -> Any:
    """L^-1 b for lower triangular L (D, D), b (D,) or (D, k)."""
    if len(L) > SMALL:
        return jax.scipy.linalg.solve_triangular(L, b, lower=True)
    found: list = []
    for k in range(len(L)):
        found.append(b[k] / L[k, k])
        b = b - jnp.multiply.outer(L[:, k], found[k])
    return jnp.stack(found)


@jax.custom_jvp
def eigh(A: Any) -> tuple[Any, Any]:
    """Eigenvalues (D,), in no order, and orthonormal eigenvectors (D, D) of a symmetric A.

    Small ones by Jacobi's cyclic rotations. Derivatives of eigenvectors need distinct eigenvalues.
    """
    D = len(A)
    if D > SMALL:
        return tuple(jnp.linalg.eigh(A))
    eye = jnp.eye(D, dtype=A.dtype)
    if D == 1:
        return A[0], eye
    largest = jnp.abs(A).max()
    largest = jnp.where(largest > 0, largest, 1.0)
    first, second = (jnp.asarray(np.eye(D)[index], A.dtype) for index in np.triu_indices(D, 1))

    def rotate(step, carry):
        A, E = carry
        a, b = first[step % len(first)], second[step % len(first)]  # the unit vectors of a pair
        at, bt = (A * a).sum(1), (A * b).sum(1)
        off = (at * b).sum()
        half = ((bt * b).sum() - (at * a).sum()) / 2.0
        tangent = off / (half + jnp.where(half < 0, -1.0, 1.0) * jnp.hypot(half, off))
        tangent = jnp.where(off == 0, 0.0, tangent)
        cosine = 1.0 / jnp.sqrt(1.0 + tangent**2)
        sine = tangent * cosine

        def turned(M):
            to_a, to_b = (M * a).sum(1, keepdims=True), (M * b).sum(1, keepdims=True)
            return M + ((cosine - 1.0) * to_a - sine * to_b) * a + ((cosine - 1.0) * to_b + sine * to_a) * b

        return turned(turned(A).T), turned(E)

    A, E = jax.lax.fori_loop(0, SWEEPS * len(first), rotate, (A / largest, eye))
    return largest * jnp.diagonal(A), E


@eigh.defjvp
def _eigh_jvp(primals: tuple, tangents: tuple) -> tuple:
    q, E = eigh(*primals)
    inner = product(product(E.T, tangents[0]), E)
    eye = jnp.eye(len(q), dtype=q.dtype)
    return (q, E), (jnp.diagonal(inner), product(E, inner * (1.0 - eye) / (q[None, :] - q[:, None] + eye)))
