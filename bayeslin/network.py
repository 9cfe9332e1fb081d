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

from bayeslin.chain import Below, Steps, first_coordinate, turn_to_sum
from bayeslin.guide import Guide


def ranks(widths: Sequence[int], outputs: int) -> tuple[int, ...]:
    """k_{L+1}, k_L, ..., k_1: how many directions survive after each layer, output side first.

    >>> ranks((2, 9), outputs=4)
    (4, 4, 2)
    """
    survivors = [outputs]
    for width in reversed(widths):
        survivors.append(min(survivors[-1], width))
    return tuple(survivors)


def sample_chain(widths: Sequence[int], outputs: int, guide: Guide | None = None) -> tuple[Any, Any]:
    """NumPyro fragment: Bartlett factors T_L, ..., T_1 as (L, D, D), output side first, and C = T_L ... T_1; Q = C C^T.

    (T_l)_ii^2 ~ chi^2_{N_l - i + 1} / N_l and (T_l)_ij ~ N(0, 1/N_l) below the diagonal (design section 3). At a
    bottleneck T_l is lower trapezoidal, k_{l+1} x k_l; here it is padded with zeros, and its absent entries have idle
    coordinates. Sites: `_diagonal` (L, D), the logarithms of T_ii^2, see `LogChiSquares`, and `_lower`, see `Below`.
    """
    survivors = np.array(ranks(widths, outputs))
    left, right = survivors[:-1, None], survivors[1:, None]  # k_{l+1}, k_l
    index, width = np.arange(outputs), np.array(widths[::-1], dtype=float)[:, None]
    on = index < right
    law = LogChiSquares(width - index, width, on, guide)  # degrees N_l - i + 1, i counts from 0 here
    log_diagonal = law.logarithms(numpyro.sample("_diagonal", law)) / 2.0
    eye = jnp.eye(outputs, dtype=log_diagonal.dtype)
    diagonal = jnp.exp(log_diagonal)[:, :, None] * eye * on[:, :, None]
    if outputs == 1:
        return diagonal, jnp.exp(log_diagonal.sum(0))[:, None]
    below = np.tril(np.ones((outputs, outputs), bool), -1) & (index < left)[:, :, None] & on[:, None, :]
    sd = jnp.asarray(below / np.sqrt(width)[:, :, None], eye.dtype)
    upto = jnp.cumsum(log_diagonal, 0)
    law_below = Below(Steps(upto - log_diagonal, upto, upto[-1], sd, index < survivors[:, None]), guide)
    C, noise = law_below.path(numpyro.sample("_lower", law_below))
    return diagonal + sd * noise, C


class LogChiSquares(dist.Distribution):
    """Logarithms of independent chi^2_k / N variables (L, D), standardised and turned by `turn_to_sum` over the layers.

    degrees k (L, D), widths N (L, 1); on (L, D): which of them exist, others are 0 and their coordinates idle. The
    first coordinate of each column is taken relative to the guide.
    """

    support = dist.constraints.real_matrix

    def __init__(self, degrees: np.ndarray, widths: np.ndarray, on: np.ndarray, guide: Guide | None = None):
        self.half, self.rate, self.on = np.where(on, degrees / 2.0, 1.0), widths / 2.0, on
        self.center = digamma(self.half) - np.log(self.rate)
        self.sd = np.sqrt(polygamma(1, self.half))
        total = (self.center * on).sum(0) / 2.0  # of log C_ii, the sums of log T_ii
        spread = np.sqrt((self.sd**2 * on).sum(0)) / 2.0
        loc, scale = first_coordinate(total, -spread, guide)
        self.loc, self.scale = jnp.where(on[-1], loc, 0.0), jnp.where(on[-1], scale, 1.0)  # of columns that get through
        super().__init__(event_shape=on.shape)

    def logarithms(self, value: Any) -> Any:
        """The logarithms themselves (L, D) of a value of the site."""
        return self._all(value) * self.on

    def _all(self, value: Any) -> Any:
        placed = jnp.asarray(value).at[0].set(self.loc + self.scale * value[0])
        return self.center + self.sd * turn_to_sum(placed, self.sd * self.on)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, L, D)."""
        log = jax.random.loggamma(key, self.half, (*sample_shape, *self.event_shape)) - np.log(self.rate)

        def place(log):
            turned = turn_to_sum((log - self.center) / self.sd, self.sd * self.on)
            return turned.at[0].set((turned[0] - self.loc) / self.scale)

        return jnp.vectorize(place, signature="(l,d)->(l,d)")(log)

    def log_prob(self, value: Any) -> Any:
        """Log density of values (..., L, D)."""
        log = jnp.vectorize(self._all, signature="(l,d)->(l,d)")(value)
        density = self.half * (log + np.log(self.rate)) - gammaln(self.half) - self.rate * jnp.exp(log)
        return (density + np.log(self.sd)).sum((-2, -1)) + jnp.log(self.scale).sum()


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
