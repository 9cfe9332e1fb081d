"""The finite network: its triangular chain, and its weights (design sections 2 to 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import digamma, gammaln, polygamma


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
    bottleneck T_l is lower trapezoidal, k_{l+1} x k_l; here it is padded with zeros. Sites: `_diagonal`, the logarithms
    of all T_ii^2, standardised, and `_lower`, standard normal, both turned by `turn_to_sum`.
    """
    survivors = ranks(widths, outputs)
    layer, row, column = np.indices((len(widths), outputs, outputs))
    left, right = np.array(survivors[:-1])[layer], np.array(survivors[1:])[layer]  # k_{l+1}, k_l
    inside = (row < left) & (column < right)
    on, below = inside & (row == column), inside & (row > column)
    width = np.array(widths[::-1], dtype=float)[layer]

    law = LogChiSquares((width - row)[on], width[on], on)  # degrees N_l - i + 1, i counts from 0 here
    log_square = law.logarithms(numpyro.sample("_diagonal", law))
    chain = jnp.zeros(on.shape, log_square.dtype).at[on].set(jnp.exp(log_square / 2.0))
    if below.any():
        normal = numpyro.sample("_lower", dist.Normal(0.0, 1.0).expand([int(below.sum())]).to_event(1))
        log_diagonal = jnp.zeros(on.shape, log_square.dtype).at[on].set(log_square / 2.0).sum(-1)  # (L, D)
        before = jnp.cumsum(log_diagonal, 0) - log_diagonal
        after = log_diagonal.sum(0) - before - log_diagonal
        sd = np.where(below, 1.0 / np.sqrt(width), 0.0)
        reach = sd * jnp.exp(before[:, :, None] + after[:, None, :])  # what noise (l, i, j) adds to C_ij
        chain = chain + sd * turn_to_sum(jnp.zeros(on.shape, normal.dtype).at[below].set(normal), reach)
    return chain


def turn_to_sum(normal: Any, weights: Any) -> Any:
    """Rotate along the first axis so that the first entry alone carries the sum weighted by `weights`, its sign turned.

    The labels inform sums over the layers well and differences hardly; in these coordinates each has its own scale, as
    NUTS with a diagonal mass matrix needs. A Householder reflection: its own inverse, and white noise stays white.
    Zero weights mark absent entries; the first is present where any is.
    """
    weights = jnp.asarray(weights)
    square = (weights**2).sum(0)
    present = square > 0
    mirror = (weights / jnp.sqrt(jnp.where(present, square, 1.0))).at[0].add(present)
    return normal - mirror * ((mirror * normal).sum(0) * 2.0 / jnp.where(present, (mirror**2).sum(0), 1.0))


class LogChiSquares(dist.Distribution):
    """Logarithms of independent chi^2_k / N variables, standardised and turned by `turn_to_sum` along the layers.

    degrees k, widths N : (count,); where : (L, D, D) boolean, their places in the chain.
    """

    support = dist.constraints.real_vector

    def __init__(self, degrees: np.ndarray, widths: np.ndarray, where: np.ndarray):
        self.half, self.rate, self.where = degrees / 2.0, widths / 2.0, where
        self.center, self.sd = digamma(self.half) - np.log(self.rate), np.sqrt(polygamma(1, self.half))
        self.weights = np.zeros(where.shape)
        self.weights[where] = self.sd
        super().__init__(event_shape=self.sd.shape)

    def _turn(self, flat: Any) -> Any:
        return turn_to_sum(jnp.zeros(self.where.shape, flat.dtype).at[self.where].set(flat), self.weights)[self.where]

    def logarithms(self, value: Any) -> Any:
        """The logarithms themselves (count,) of a value of the site."""
        return self.center + self.sd * self._turn(value)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, count)."""
        log = jax.random.loggamma(key, self.half, (*sample_shape, *self.event_shape)) - np.log(self.rate)
        turn = jnp.vectorize(self._turn, signature="(n)->(n)")
        return turn((log - self.center) / self.sd)

    def log_prob(self, value: Any) -> Any:
        """Log density of values (..., count)."""
        log = jnp.vectorize(self.logarithms, signature="(n)->(n)")(value)
        density = self.half * (log + np.log(self.rate)) - gammaln(self.half) - self.rate * jnp.exp(log)
        return (density + np.log(self.sd)).sum(-1)


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


def iter_prior_weights(
    key: Any, widths: Sequence[int], features: int, outputs: int, s2: Any, dtype: Any
) -> Iterator[np.ndarray]:
    """Yield W_1 (m, N_1, p), ..., W_{L+1} (m, D, N_L): N(0, s2) entries in W_1 for s2 (m,), N(0, 1) in the others."""
    shapes = layer_shapes(features, widths, outputs)
    for layer, (key_layer, shape) in enumerate(zip(jax.random.split(key, len(shapes)), shapes, strict=True)):
        weights = jax.random.normal(key_layer, (len(s2), *shape), dtype)
        yield np.asarray(weights if layer else np.sqrt(s2).astype(dtype)[:, None, None] * weights)


def in_double(layers: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same layers, each computed with double precision allowed, which the consumer between them does not see."""
    while True:
        with jax.enable_x64(True):
            layer = next(layers, None)
        if layer is None:
            return
        yield layer


def output_chain(weights: Sequence[Any]) -> Any:
    """H = W_{L+1} ... W_2 / sqrt(N_1 ... N_L), (D, N_1): what follows the first layer; Q = H H^T."""
    product = jnp.eye(weights[-1].shape[0], dtype=weights[-1].dtype)
    for weight in reversed(weights[1:]):
        product = product @ weight / np.sqrt(weight.shape[1])
    return product
