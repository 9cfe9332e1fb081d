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
        if value.shape() != () or not _is_positive(value.support):
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


def _is_positive(support: Any) -> bool:
    """Whether a support is all positive numbers, or lies above a known bound of at least zero."""
    if support is dist.constraints.positive:
        return True
    bound = getattr(support, "lower_bound", None)
    return bound is not None and not isinstance(bound, jax.core.Tracer) and bool(np.all(np.asarray(bound) >= 0))


def is_random(value: Any) -> bool:
    """Whether the hyperparameter is inferred."""
    return isinstance(value, dist.Distribution)


def describe(value: Any) -> str:
    """The number, or the distribution with its parameters.

    >>> describe(dist.LogNormal(-1.0, 0.5))
    'LogNormal(loc=-1, scale=0.5)'
    """
    if not is_random(value):
        return str(value)
    parameters = {name: getattr(value, name, None) for name in value.arg_constraints}
    numbers = [f"{name}={float(x):g}" for name, x in parameters.items() if x is not None and np.ndim(x) == 0]
    return f"{type(value).__name__}({', '.join(numbers)})"


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
