"""Densities of the laws of Q: of log Q for one output, of the radius for two in the limit (design section 3).

Finite networks by Fourier inversion along the line through the saddle point: every point of the grid has its own
exponential tilt, so that the density keeps its relative precision far into the tails, where labels may move Q.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import digamma, loggamma, polygamma

from bayeslin import checks
from bayeslin.hyperparameters import is_random
from bayeslin.scale import FiniteNetwork, Law, Proportional

LEAST_SHAPE = 0.1  # of the tilted chi-squares: further left the saddle point is not followed
ROUNDING = 1e-12  # a tilted density below it is not told from nothing
NATS = 40.0  # what is left out of sums and integrals, relative to the largest term


def is_point(law: Law) -> bool:
    """Whether Q = 1 for certain; raises `InputError` when a hyperparameter of the law is random."""
    if not isinstance(law, Law):
        raise checks.InputError(f"law must be a law such as bl.Proportional(0.5), got {law!r}")
    if is_random(law.alpha) or is_random(law.signal_variance):
        raise checks.InputError(f"quadrature needs a law without random hyperparameters, got {law!r}; fix them, or fit")
    return law.alpha == 0


def cumulant(law: Law, t: Any) -> Any:
    """Logarithm of E Q^t for one output; real t above -min N_l / 2 for a finite network, any t for the limit.

    >>> bool(np.isclose(cumulant(FiniteNetwork((5, 9)), 2.0), np.log((1 + 2 / 5) * (1 + 2 / 9))))
    True
    """
    if isinstance(law, Proportional):
        return law.alpha * (t**2 - t)
    return sum(count * (t * math.log(2 / N) + loggamma(N / 2 + t) - loggamma(N / 2)) for N, count in _widths(law))


def reach(law: Law, nats: float) -> tuple[float, float]:
    """Ends of log Q beyond which each tail has a probability below e^-nats, by Chernoff's bound."""
    shape = min((N / 2 for N, _ in _widths(law)), default=math.inf)
    right = np.geomspace(1e-3, 1e5, 2000)
    left = shape - np.geomspace(1e-9, 1 - 1e-9, 2000) * shape if math.isfinite(shape) else right
    upper = ((cumulant(law, right) + nats) / right).min()
    lower = -((cumulant(law, -left) + nats) / left).min()
    return float(lower), float(upper)


def log_density(law: Law, u: Any) -> np.ndarray:
    """Log density of u = log Q for one output at points u (k,); the law must not be the point Q = 1."""
    u = np.asarray(u, float)
    if isinstance(law, Proportional):
        return -((u + law.alpha) ** 2) / (4 * law.alpha) - 0.5 * math.log(4 * math.pi * law.alpha)
    return np.concatenate([_invert(law, block) for block in np.array_split(u, max(1, len(u) // 64))])


def log_radius_density(r: Any, alpha: float) -> np.ndarray:
    """Log density at r (k,) of the radius of Brownian motion on the hyperbolic plane at time alpha.

    In u = r + w^2 the root of cosh u - cosh r is smooth; w = exp(x - exp(-x)) makes the rest of it even to the rule.
    """
    r = np.asarray(r, float)[:, None]
    x, step = np.linspace(-3.5, math.log(2 * math.sqrt(2 * NATS)), 600, retstep=True)
    w = np.exp(x - np.exp(-x))
    u = r + w**2
    log_root = 0.5 * (math.log(2) + _log_sinh(r + w**2 / 2) + _log_sinh(w**2 / 2))
    log_terms = np.log(u) - (w**2 * (2 * r + w**2)) / (2 * alpha) + np.log(2 * w * w * (1 + np.exp(-x))) - log_root
    inner = np.log(np.exp(log_terms - log_terms.max(1, keepdims=True)).sum(1) * step) + log_terms.max(1)
    constant = math.log(2 * math.pi) + 0.5 * math.log(2) - alpha / 8 - 1.5 * math.log(2 * math.pi * alpha)
    return constant + _log_sinh(r[:, 0]) - r[:, 0] ** 2 / (2 * alpha) + inner


def _log_sinh(x: Any) -> Any:
    return x + np.log(-np.expm1(-2 * x) / 2)


def _invert(law: Law, u: np.ndarray) -> np.ndarray:
    """Trapezoid rule for f(u) = (1 / 2 pi) times the integral of exp(K(t + is) - (t + is) u) over s, with K'(t) = u."""
    widths = _widths(law)
    shape = min(N / 2 for N, _ in widths)

    def slope(t):
        return sum(count * (math.log(2 / N) + digamma(N / 2 + t)) for N, count in widths)

    t = _solve(lambda a: slope(a - shape) - u, LEAST_SHAPE, 1e20, u.shape) - shape
    sd = np.sqrt(sum(count * polygamma(1, N / 2 + t) for N, count in widths))
    base = cumulant(law, t)

    def decay(s):  # of the integrand, in nats
        return base - np.real(cumulant(law, t + 1j * s))

    end = _solve(lambda s: decay(s) - NATS, 1e-9, 1e9, u.shape)
    step = 2 * math.pi / (12 * sd + NATS / (shape + t))  # aliases lie a period away, where the tilted density is nil
    k = np.arange(1, int(np.ceil((end / step).max())) + 1)[:, None]
    terms = np.exp(cumulant(law, t + 1j * k * step) - base - 1j * k * step * u)
    tilted = step / math.pi * (0.5 + terms.real.sum(0))
    return base - t * u + np.log(tilted, where=tilted > ROUNDING, out=np.full_like(u, -np.inf))


def _solve(increasing: Any, lower: float, upper: float, shape: tuple[int, ...]) -> np.ndarray:
    """Root of an increasing function of positive arrays by bisection in the logarithm; the nearer end where none is."""
    low, high = np.full(shape, math.log(lower)), np.full(shape, math.log(upper))
    for _ in range(60):
        middle = (low + high) / 2
        below = increasing(np.exp(middle)) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.exp((low + high) / 2)


def _widths(law: Law) -> list[tuple[int, int]]:
    """Distinct widths with their multiplicities; none but for finite networks."""
    values = law.widths if isinstance(law, FiniteNetwork) else ()
    return sorted({width: values.count(width) for width in values}.items())
