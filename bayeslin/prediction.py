"""The function and the labels at new inputs: a mixture of Gaussians, one for each posterior draw (design section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtr, ndtri

from bayeslin import checks
from bayeslin.likelihood import Conditional
from bayeslin.spectrum import Spectrum

BLOCK = 4_000_000  # numbers held at once: rows x draws x outputs


class Prediction:
    """Posterior of f at m new inputs, or of labels there; every draw counts.

    Attributes: mean (m, D), cov (m, D, D) over the outputs of a row, std (m, D); methods `quantile`, `interval`,
    `sample`. In label units. Rows are taken in blocks, so memory does not grow with m beyond the answer.
    """

    def __init__(self, given: Conditional, spec: Spectrum, X: np.ndarray, noise: bool):
        self._given, self._spec, self._X, self._noise = given, spec, X, bool(noise)
        self._T, self._unreached = spec.project(X)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean (m, D)."""
        return self._T @ np.einsum("sid,sad->ia", self._given.coef, self._given.M) / len(self._given.q)

    @cached_property
    def cov(self) -> np.ndarray:
        """Joint covariance of the outputs of a row, (m, D, D)."""
        compute = partial(_moments, self._given, self._noise)
        return by_blocks(compute, self._given, self._T, self._unreached)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (m, D)."""
        return np.sqrt(np.diagonal(self.cov, axis1=1, axis2=2))

    def quantile(self, probability: float) -> np.ndarray:
        """Quantile (m, D) of the mixture over draws, by bisection: deterministic, no sampling."""
        probability = checks.number(probability, "probability", above=0.0)
        if probability >= 1:
            raise checks.InputError(f"probability must lie between 0 and 1, got {probability}")
        compute = partial(_quantiles, self._given, self._noise, probability)
        return by_blocks(compute, self._given, self._T, self._unreached)

    def interval(self, coverage: float = 0.9) -> np.ndarray:
        """Central interval: (2, m, D), lower and upper ends."""
        tail = (1 - checks.number(coverage, "coverage", above=0.0)) / 2
        if tail <= 0:
            raise checks.InputError(f"coverage must lie between 0 and 1, such as 0.9; got {coverage}")
        return np.stack([self.quantile(tail), self.quantile(1 - tail)])

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Joint draws over all rows and outputs, (*shape, m, D); posterior draws are taken with replacement."""
        with jax.enable_x64(True):
            shape = checks.shape(shape)
            key_draw, key_map = jax.random.split(key)
            chosen = jax.random.choice(key_draw, len(self._given.q), (math.prod(shape),))
            given = jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], self._given)
            keys = jax.random.split(key_map, len(chosen))
            sample = _sample(given, keys, self._X, self._T, self._spec.V, self._noise)
        return np.asarray(sample).reshape(*shape, *self.mean.shape)


def by_blocks(compute: Callable, given: Conditional, *rows: np.ndarray) -> np.ndarray:
    """Apply `compute` to blocks of rows small enough for memory, in float64, and join the answers."""
    size = max(1, BLOCK // given.q.size)
    with jax.enable_x64(True):
        parts = [compute(*(a[start : start + size] for a in rows)) for start in range(0, len(rows[0]), size)]
    return np.concatenate([np.asarray(part) for part in parts])


def log_score(given: Conditional, spec: Spectrum, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Log predictive density of each row of labels, (m,): log of the mean density over draws."""
    return by_blocks(partial(_log_score, given), given, *spec.project(X), Y)


def _variances(given: Conditional, T: Any, unreached: Any) -> Any:
    """Variances (s, m, D) of f in the basis M of each draw."""
    return jnp.einsum("mi,sid->smd", T**2, given.var) + unreached[:, None] * given.q[:, None]


def _means(given: Conditional, T: Any) -> Any:
    """Conditional means (s, m, D) of f."""
    return jnp.einsum("mi,sid,sad->sma", T, given.coef, given.M)


@partial(jax.jit, static_argnums=1)
def _moments(given: Conditional, noise: bool, T: Any, unreached: Any) -> Any:
    means, variances = _means(given, T), _variances(given, T, unreached) + noise
    moved = means - means.mean(0)
    within = jnp.einsum("sad,smd,sbd->mab", given.M, variances, given.M)
    return (within + jnp.einsum("sma,smb->mab", moved, moved)) / len(given.q)


@partial(jax.jit, static_argnums=1)
def _quantiles(given: Conditional, noise: bool, probability: Any, T: Any, unreached: Any) -> Any:
    means = _means(given, T)
    sd = jnp.sqrt(jnp.einsum("sad,smd->sma", given.M**2, _variances(given, T, unreached) + noise))
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
    return logsumexp(density, axis=0) - jnp.log(len(given.q))


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
