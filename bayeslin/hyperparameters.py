"""A hyperparameter is a number or a NumPyro distribution; either is one argument away from the other."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks


def checked(name: str, value: Any, **bounds: Any) -> Any:
    """A number within bounds, a scalar distribution over the positive numbers, or a traced scalar, as it came."""
    if isinstance(value, dist.Distribution):
        if value.shape() != () or value.support is not dist.constraints.positive:
            raise checks.InputError(
                f"{name} needs a scalar distribution over the positive numbers, such as numpyro's LogNormal(0, 1); "
                f"got {type(value).__name__} of shape {value.shape()} on {value.support}"
            )
        return value
    if isinstance(value, jax.core.Tracer) and value.ndim == 0:
        return value
    if isinstance(value, jax.Array) and value.ndim == 0:
        value = value.item()
    return checks.number(value, name, **bounds)


def is_random(value: Any) -> bool:
    """Whether the hyperparameter is inferred."""
    return isinstance(value, dist.Distribution)


def sample_hyperparameter(name: str, value: Any) -> Any:
    """NumPyro fragment: a number as it is, a distribution as the sample site `name`."""
    return numpyro.sample(name, value) if is_random(value) else value


def draw_hyperparameter(key: jax.Array, value: Any, count: int) -> np.ndarray:
    """The number repeated, or draws from the distribution: (count,)."""
    return np.asarray(value.sample(key, (count,))) if is_random(value) else np.full(count, float(value))


def upper_point(value: Any, probability: float = 0.999) -> float:
    """The number itself, or the point that the distribution stays below with this probability (by simulation)."""
    if not is_random(value):
        return float(value)
    draws = value.sample(jax.random.key(0), (100_000,))
    return float(jax.numpy.quantile(draws, probability))
