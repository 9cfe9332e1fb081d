"""Positive numbers as real ones, so that NUTS meets no wall."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform


class Around(Transform):
    """x -> s = centre exp(asinh(unit x)), near the centre log(s / centre) = unit x.

    Far from it 2 unit x is s / centre or -centre / s. A likelihood of noise falls with exp(-1/s^2) and a half-normal
    prior with exp(-s^2): in log s both are walls, exponential in their exponent, that make a few rows' trajectories
    diverge; in x they are quadratic.
    """

    domain = constraints.real
    codomain = constraints.positive

    def __init__(self, centre: Any, unit: Any):
        self.centre, self.unit = centre, unit

    def __call__(self, x: Any) -> Any:
        """The positive s of a real x."""
        return self.centre * jnp.exp(jnp.arcsinh(self.unit * x))

    def _inverse(self, y: Any) -> Any:
        relative = y / self.centre
        return (relative - 1.0 / relative) / (2.0 * self.unit)

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> Any:
        """Logarithm of ds/dx."""
        return jnp.log(self.unit * y) - 0.5 * jnp.log1p((self.unit * x) ** 2)

    def tree_flatten(self) -> Any:
        """For JAX."""
        return (self.centre, self.unit), (("centre", "unit"), {})
