"""Whole networks from Q: exact joint draws of every weight matrix, no MCMC over weights (design section 4).

Given the triangular chain, each layer is an orthonormal frame O_l filled in along the chain and standard normal across
it. No inverse is taken, so chains with condition numbers of 1e12 and bottlenecks are exact as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from bayeslin.network import ranks
from bayeslin.spectrum import Spectrum


def iter_weights(key: jax.Array, chain: Any, E: Any, s2: Any, widths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield W_1 (m, N_1, p), W_2 (m, N_2, N_1), ..., W_{L+1} (m, D, N_L) for m draws, holding two frames at a time.

    chain : (m, L, D, D), output side first, zero-padded at bottlenecks. E : (m, k_1, p), the input map, so that the
    network is f(x) = sqrt(s2) C_1 E x / sqrt(p). s2 : (m,) signal variance, carried by W_1. The precision is E's.
    """
    chain, root_s2 = chain.astype(E.dtype), np.sqrt(s2).astype(E.dtype)[:, None, None]
    if not widths:  # one layer, W_1 = sqrt(s2) E
        yield np.asarray(root_s2 * E)
        return
    survivors = ranks(widths, chain.shape[-1])[::-1]  # k_1, ..., k_{L+1}
    keys = iter(jax.random.split(key, 2 * len(widths)))
    after = _frames(next(keys), E, survivors[0], widths[0])
    yield np.asarray(root_s2 * _fill(next(keys), after, E))
    for layer in range(1, len(widths)):  # W_{layer + 1} = sqrt(N) O^T T O_before + (I - O^T O) G
        before, after = after, _frames(next(keys), E, survivors[layer], widths[layer])
        T = chain[:, -layer, : survivors[layer], : survivors[layer - 1]]
        yield np.asarray(_fill(next(keys), after, _root(widths[layer - 1], E) * T @ before))
    yield np.asarray(_root(widths[-1], E) * chain[:, 0, :, : survivors[-2]] @ after)


def iter_posterior_weights(
    key: jax.Array, chain: Any, Sigma: Any, s2: Any, spec: Spectrum, widths: Sequence[int], dtype: Any
) -> Iterator[np.ndarray]:
    """`iter_weights` given labels, for m draws of the chain (m, L, D, D), Sigma (m, D, D) and s2 (m,)."""
    key_map, key_frames = jax.random.split(key)
    D = chain.shape[-1]
    C = reduce(np.matmul, np.moveaxis(chain, 1, 0), np.broadcast_to(np.eye(D), (len(chain), D, D)))
    E = posterior_input_map(key_map, C[:, :, : ranks(widths, D)[-1]], Sigma, s2, spec)
    yield from iter_weights(key_frames, chain, E.astype(dtype), s2, widths)


def posterior_input_map(key: jax.Array, C: Any, Sigma: Any, s2: Any, spec: Spectrum) -> Any:
    """E (m, k_1, p) given labels, for m draws of C = C_1 (m, D, k_1), Sigma (m, D, D) and s2 (m,).

    Along each eigendirection v_i of the inputs, E v_i ~ N(sqrt(lam_i) C^T S_i^-1 z_i, I - lam_i C^T S_i^-1 C); standard
    normal across them. The singular values of the whitened C keep small directions accurate.
    """
    key_along, key_across = jax.random.split(key)
    V, S, rank = jnp.asarray(spec.V), jnp.sqrt(spec.lam), C.shape[2]
    across = jax.random.normal(key_across, (len(C), rank, len(V)))

    def along(C, Sigma, s2, normal):
        L = jnp.linalg.cholesky(Sigma)
        left, root_q, right = jnp.linalg.svd(jnp.sqrt(s2) * solve_triangular(L, C, lower=True), full_matrices=False)
        g = 1.0 + spec.lam[:, None] * root_q**2  # (r, k)
        mean = S[:, None] * root_q / g * (solve_triangular(L, spec.Z.T, lower=True).T @ left)
        shrink = (1.0 - 1.0 / jnp.sqrt(g)) * (normal @ right.T)
        return (mean - shrink) @ right + normal  # (r, k_1)

    normal = jax.random.normal(key_along, (len(C), spec.rank, rank))
    reached = jax.vmap(along)(C, Sigma, s2, normal)
    return across + (jnp.swapaxes(reached, 1, 2) - across @ V) @ V.T


def _root(width: int, like: Any) -> Any:
    return np.sqrt(width).astype(like.dtype)


def _frames(key: jax.Array, like: Any, rows: int, columns: int) -> Any:
    """Haar frames (m, rows, columns) with orthonormal rows."""
    normal = jax.random.normal(key, (len(like), columns, rows), like.dtype)
    Q, R = jnp.linalg.qr(normal)
    return jnp.swapaxes(Q * jnp.sign(jnp.diagonal(R, axis1=1, axis2=2))[:, None, :], 1, 2)


def _fill(key: jax.Array, frame: Any, along: Any) -> Any:
    """O^T A + (I - O^T O) G: A (m, k, c) along the frame O (m, k, N), standard normal across it."""
    G = jax.random.normal(key, (len(frame), frame.shape[2], along.shape[2]), along.dtype)
    return G + jnp.swapaxes(frame, 1, 2) @ (along - frame @ G)
