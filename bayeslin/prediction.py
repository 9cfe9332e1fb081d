"""The function and the labels at new inputs: a mixture of Gaussians, one for each posterior draw (design section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtr, ndtri

from bayeslin import checks
from bayeslin.likelihood import Conditional, conditional
from bayeslin.spectrum import Spectrum
from bayeslin.units import Units

BLOCK = 4_000_000  # numbers held at once: rows x draws x outputs, or draws x directions x outputs


class Mixture:
    """What a prediction is a mixture over: draws of s2 Q and of Sigma, (s, D, D) each, and the data's statistics."""

    def __init__(self, Q: np.ndarray, Sigma: np.ndarray, spec: Spectrum):
        self.Q, self.Sigma, self.spec = Q, Sigma, spec

    def __len__(self) -> int:
        return len(self.Q)

    @cached_property
    def given(self) -> Conditional:
        """The function given each draw, leading axis (s,), all at once."""
        return self._conditional(slice(None))

    def blocks(self, chosen: Any = None) -> Iterator[Conditional]:
        """The function given each draw, or each of the chosen draws, as many at a time as memory allows."""
        size = max(1, BLOCK // (self.spec.rank * self.spec.outputs))
        if chosen is None and size >= len(self):
            yield self.given
            return
        indices = np.arange(len(self)) if chosen is None else np.asarray(chosen)
        for start in range(0, len(indices), size):
            yield self._conditional(indices[start : start + size])

    def _conditional(self, chosen: Any) -> Conditional:
        arrays = self.spec._replace(V=None, tol=None)
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, _conditionals(self.Q[chosen], self.Sigma[chosen], arrays))


class Prediction:
    """Posterior of f at m new inputs, or of labels there; every draw counts.

    Attributes: mean (m, D), cov (m, D, D) over the outputs of a row, std (m, D), output_names; methods `quantile`,
    `interval`, `sample`, `to_frame`. In label units. Rows and draws are taken in blocks, so that memory grows with the
    answer only.
    """

    def __init__(self, mixture: Mixture, X: np.ndarray, noise: bool, units: Units, index: Any = None):
        self._mixture, self._X, self._noise, self._units, self._index = mixture, X, bool(noise), units, index
        self._T, self._unreached = mixture.spec.project(X)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the D outputs."""
        return self._units.output_names

    @cached_property
    def _mean(self) -> np.ndarray:
        maps = sum(np.einsum("sid,sad->ia", given.coef, given.M) for given in self._mixture.blocks())
        return self._T @ maps / len(self._mixture)

    @property
    def mean(self) -> np.ndarray:
        """Mean (m, D)."""
        return self._mean * self._units.scale + self._units.shift

    @cached_property
    def cov(self) -> np.ndarray:
        """Joint covariance of the outputs of a row, (m, D, D)."""
        total = np.zeros((*self._mean.shape, self._mean.shape[1]))
        for given in self._mixture.blocks():
            compute = partial(_spread, given, self._noise, len(self._mixture) > 1)
            total += by_blocks(compute, given.q.size, self._T, self._unreached, self._mean)
        return total / len(self._mixture) * np.outer(self._units.scale, self._units.scale)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (m, D)."""
        return np.sqrt(np.diagonal(self.cov, axis1=1, axis2=2))

    def quantile(self, probability: float) -> np.ndarray:
        """Quantile (m, D) of the mixture over draws, by bisection: deterministic, no sampling."""
        probability = checks.number(probability, "probability", above=0.0)
        if probability >= 1:
            raise checks.InputError(f"probability must lie between 0 and 1, got {probability}")

        def compute(T: Any, unreached: Any) -> Any:
            parts = [_components(given, self._noise, T, unreached) for given in self._mixture.blocks()]
            return _quantiles(*map(jnp.concatenate, zip(*parts, strict=True)), probability)

        return by_blocks(compute, self._mixture.Q[..., 0].size, self._T, self._unreached) * self._units.scale + (
            self._units.shift
        )

    def interval(self, coverage: float = 0.9) -> np.ndarray:
        """Central interval: (2, m, D), lower and upper ends."""
        tail = (1 - checks.number(coverage, "coverage", above=0.0)) / 2
        if tail <= 0:
            raise checks.InputError(f"coverage must lie between 0 and 1, such as 0.9; got {coverage}")
        return np.stack([self.quantile(tail), self.quantile(1 - tail)])

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Joint draws over all rows and outputs, (*shape, m, D); posterior draws are taken with replacement."""
        shape = checks.shape(shape)
        with jax.enable_x64(True):
            key_draw, key_map = jax.random.split(key)
            chosen = jax.random.choice(key_draw, len(self._mixture), (math.prod(shape),))
            keys = jax.random.split(key_map, len(chosen))
            parts, start = [np.empty((0, *self._mean.shape))], 0
            for given in self._mixture.blocks(chosen):
                own = keys[start : start + len(given.q)]
                parts.append(np.asarray(_sample(given, own, self._X, self._T, self._mixture.spec.V, self._noise)))
                start += len(given.q)
        return np.concatenate(parts).reshape(*shape, *self._mean.shape) * self._units.scale + self._units.shift

    def to_frame(self, coverage: float = 0.9) -> Any:
        """A data frame with the columns NAME_mean, NAME_sd, NAME_lower, NAME_upper for each output, a line a row.

        Its index is that of the new rows, where they were a data frame.
        """
        import pandas as pd

        mean, std, (lower, upper) = self.mean, self.std, self.interval(coverage)
        parts = {"mean": mean, "sd": std, "lower": lower, "upper": upper}
        return pd.DataFrame(
            {f"{name}_{what}": part[:, d] for d, name in enumerate(self.output_names) for what, part in parts.items()},
            index=self._index if self._index is not None and len(self._index) == len(mean) else None,
        )


def by_blocks(compute: Callable, width: int, *rows: np.ndarray) -> np.ndarray:
    """Apply `compute` to blocks of rows small enough for memory, in float64, and join; width : numbers for each row."""
    size = max(1, BLOCK // width)
    with jax.enable_x64(True):
        parts = [compute(*(a[start : start + size] for a in rows)) for start in range(0, len(rows[0]), size)]
    return np.concatenate([np.asarray(part) for part in parts])


def log_score(mixture: Mixture, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Log predictive density of each row of labels, (m,): log of the mean density over draws."""
    T, unreached = mixture.spec.project(X)
    total = np.full(len(X), -np.inf)
    for given in mixture.blocks():
        total = np.logaddexp(total, by_blocks(partial(_log_score, given), given.q.size, T, unreached, Y))
    return total - np.log(len(mixture))


@jax.jit
def _conditionals(Q: Any, Sigma: Any, spec: Spectrum) -> Conditional:
    return jax.vmap(conditional, (0, 0, None))(Q, Sigma, spec)


def _variances(given: Conditional, T: Any, unreached: Any) -> Any:
    """Variances (s, m, D) of f in the basis M of each draw."""
    return jnp.einsum("mi,sid->smd", T**2, given.var) + unreached[:, None] * given.q[:, None]


def _means(given: Conditional, T: Any) -> Any:
    """Conditional means (s, m, D) of f."""
    return jnp.einsum("mi,sid,sad->sma", T, given.coef, given.M)


@partial(jax.jit, static_argnums=(1, 2))
def _spread(given: Conditional, noise: bool, several: bool, T: Any, unreached: Any, mean: Any) -> Any:
    """Sum over draws of the second moments (m, D, D) around `mean`; one draw alone is there, not a rounding away."""
    variances = _variances(given, T, unreached) + noise
    within = jnp.einsum("sad,smd,sbd->mab", given.M, variances, given.M)
    moved = _means(given, T) - mean if several else jnp.zeros((1, *mean.shape))
    return within + jnp.einsum("sma,smb->mab", moved, moved)


@partial(jax.jit, static_argnums=1)
def _components(given: Conditional, noise: bool, T: Any, unreached: Any) -> Any:
    """Means and standard deviations (s, m, D) of the mixture's components, output by output."""
    variances = _variances(given, T, unreached) + noise
    return _means(given, T), jnp.sqrt(jnp.einsum("sad,smd->sma", given.M**2, variances))


@jax.jit
def _quantiles(means: Any, sd: Any, probability: Any) -> Any:
    ends = means + ndtri(probability) * sd  # the mixture's quantile lies between those of its components

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        below = ndtr((middle - means) / sd).mean(0) < probability
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (ends.min(0), ends.max(0)))
    return (low + high) / 2


@jax.jit
def _log_score(given: Conditional, T: Any, unreached: Any, Y: Any) -> Any:
    variances = _variances(given, T, unreached) + 1.0  # labels: Sigma = M M^T
    errors = jnp.einsum("ma,sad->smd", Y, given.P) - jnp.einsum("mi,sid->smd", T, given.coef)
    log_det = jnp.linalg.slogdet(given.M)[1]
    density = -0.5 * (jnp.log(2 * jnp.pi * variances) + errors**2 / variances).sum(-1) - log_det[:, None]
    return logsumexp(density, axis=0)


@partial(jax.jit, static_argnums=5)
def _sample(given: Conditional, keys: Any, X: Any, T: Any, V: Any, noise: bool) -> Any:
    def one(arguments):
        draw, key = arguments
        key_reached, key_prior, key_noise = jax.random.split(key, 3)
        p, D = X.shape[1], len(draw.q)
        reached = draw.coef + jnp.sqrt(draw.var) * jax.random.normal(key_reached, draw.coef.shape)
        prior = jnp.sqrt(draw.q) * jax.random.normal(key_prior, (p, D))
        f = T @ (reached - V.T @ prior) + X @ prior / jnp.sqrt(p)  # the prior map where no row reached
        return (f + noise * jax.random.normal(key_noise, f.shape)) @ draw.M.T

    return jax.lax.map(one, (given, keys), batch_size=32)
