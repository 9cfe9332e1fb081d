"""The finite network: its triangular chain, and its weights (design sections 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


def ranks(widths: Sequence[int], outputs: int) -> tuple[int, ...]:
    """k_{L+1}, k_L, ..., k_1: how many directions survive after each layer, output side first.

    >>> ranks((2, 9), outputs=4)
    (4, 4, 2)
    """
    survivors = [outputs]
    for width in reversed(widths):
        survivors.append(min(survivors[-1], width))
    return tuple(survivors)


def sample_chain(widths: Sequence[int], outputs: int) -> Any:
    """NumPyro fragment: Bartlett factors T_L, ..., T_1 as (L, D, D), output side first; Q = C C^T, C = T_L ... T_1.

    (T_l)_ii^2 ~ chi^2_{N_l - i + 1} / N_l and (T_l)_ij ~ N(0, 1/N_l) below the diagonal (design section 3). At a
    bottleneck T_l is lower trapezoidal, k_{l+1} x k_l; here it is padded with zeros. Sites: `_diagonal` (T_ii^2, all
    layers in one vector) and `_lower` (standard normal).
    """
    survivors = ranks(widths, outputs)
    shape = (len(widths), outputs, outputs)
    layer, row, column = np.indices(shape)
    left, right = np.array(survivors[:-1])[layer], np.array(survivors[1:])[layer]  # k_{l+1}, k_l
    inside = (row < left) & (column < right)
    on, below = inside & (row == column), inside & (row > column)
    width = np.array(widths[::-1], dtype=float)[layer]

    half_degrees = (width - row)[on] / 2.0  # i counts from 0 here
    square = numpyro.sample("_diagonal", dist.Gamma(half_degrees, width[on] / 2.0).to_event(1))
    chain = jnp.zeros(shape, square.dtype).at[on].set(jnp.sqrt(square))
    if below.any():
        normal = numpyro.sample("_lower", dist.Normal(0.0, 1.0).expand([int(below.sum())]).to_event(1))
        chain = chain.at[below].set(normal / np.sqrt(width[below]))
    return chain


def ordered_product(factors: Any) -> Any:
    """F_1 F_2 ... F_m of a stack (m, D, D), by halving: log2 m batched products, cheap to compile at every depth."""
    while factors.shape[0] > 1:
        if factors.shape[0] % 2:
            factors = jnp.concatenate([factors, jnp.eye(factors.shape[-1], dtype=factors.dtype)[None]])
        factors = stacked_matmul(factors[0::2], factors[1::2])
    return factors[0]


def stacked_matmul(A: Any, B: Any) -> Any:
    """A @ B for stacks (m, D, D). Below six outputs written as a sum, which XLA on CPU fuses: 3 x faster at D = 4."""
    if A.shape[-1] > 5:
        return A @ B
    return (A[..., :, :, None] * B[..., None, :, :]).sum(-2)


def layer_shapes(features: int, widths: Sequence[int], outputs: int) -> list[tuple[int, int]]:
    """Shapes (N_l, N_{l-1}) of W_1, ..., W_{L+1}, input layer first."""
    sizes = (features, *widths, outputs)
    return list(zip(sizes[1:], sizes[:-1], strict=True))


def output_chain(weights: Sequence[Any]) -> Any:
    """H = W_{L+1} ... W_2 / sqrt(N_1 ... N_L), (D, N_1): what follows the first layer; Q = H H^T."""
    product = jnp.eye(weights[-1].shape[0], dtype=weights[-1].dtype)
    for weight in reversed(weights[1:]):
        product = product @ weight / np.sqrt(weight.shape[1])
    return product
