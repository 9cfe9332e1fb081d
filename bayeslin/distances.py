"""Wasserstein-2 distances between priors: to the NNGP, and from a finite network to its limit.

Everything is per unit of sqrt(tr K): for a function seen at one input, in units of its standard deviation there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy  # `interpolate`, half of what the package takes to import, comes at first use
from scipy.special import log_ndtr, logsumexp, ndtri

from bayeslin import checks, density
from bayeslin.scale import FiniteNetwork, Law, Proportional

TAIL = 12.0  # standard deviations of the Gaussian reference that are followed
NODES = 500


class Distance(NamedTuple):
    """A distance between two priors over functions, per unit of sqrt(tr K).

    one_input : W2 of one output at one input, exact by quantile functions; NaN for several outputs.
    coupling_bound : upper bound of W2 at any number of inputs, from coupling the roots of Q.
    coupling_error : its Monte Carlo standard error, 0 where it is in closed form.
    """

    one_input: float
    coupling_bound: float
    coupling_error: float


def distance_to_nngp(law: Law, outputs: int = 1, *, key: Any = None, draws: int = 100_000) -> Distance:
    """Wasserstein-2 distance between a prior and the NNGP with the same covariance.

    The bound is the root of 2 (D - E tr Q^(1/2)): the outputs Q^(1/2) xi against xi, for the same white noise xi. It is
    in closed form for one output, and for two in the limit; for more, give a `key` to sample `draws` scales.

    At width n and fixed depth the published rates are n^(-1/2) for such couplings (Basteri and Trevisan,
    arXiv:2203.07379) and n^(-1) for the distance itself (Trevisan, arXiv:2312.11737), which is optimal (Favaro, Hanin,
    Marinucci, Nourdin and Peccati, arXiv:2307.06092).

    >>> round(distance_to_nngp(Proportional(0.5)).one_input, 3)
    0.225
    """
    outputs = checks.integer(outputs, "outputs")
    if density.is_point(law):
        return Distance(0.0 if outputs == 1 else math.nan, 0.0, 0.0)
    x, weights = _gaussian_axis()
    exact = _from_gaussian(_quantiles(law, x), x, weights) if outputs == 1 else math.nan
    if outputs == 1:
        mean_root, error = math.exp(density.cumulant(law, 0.5)), 0.0
    elif outputs == 2 and isinstance(law, Proportional):
        mean_root, error = _mean_root_of_two(law.alpha), 0.0
    else:
        if key is None:
            raise checks.InputError(f"{outputs} outputs under {law!r} have no closed form; give key=jax.random.key(0)")
        Q = law.sample_scale(key, outputs=outputs, shape=(checks.integer(draws, "draws", 2),))
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(Q), 0.0)).sum(1)
        mean_root, error = roots.mean(), roots.std(ddof=1) / math.sqrt(len(roots))
    bound = math.sqrt(max(2 * (outputs - mean_root), 0.0))
    return Distance(exact, bound, float(error / bound) if bound else 0.0)


def distance_to_limit(law: FiniteNetwork) -> Distance:
    """Wasserstein-2 distance between a finite network of one output and the proportional limit at its alpha.

    The bound couples the roots of the two scales by their quantiles: it holds at any number of inputs.

    >>> near, far = (distance_to_limit(FiniteNetwork((N,) * (N // 4))).one_input for N in (80, 20))
    >>> 3.8 < far / near < 4.2
    True
    """
    if not isinstance(law, FiniteNetwork) or not law.widths:
        raise checks.InputError(f"need a FiniteNetwork with at least one hidden layer, got {law!r}")
    limit = Proportional(law.alpha)
    x, weights = _gaussian_axis()
    ours, theirs = _quantiles(law, x), _quantiles(limit, x)
    if abs(_root_mean_square(theirs, weights) - 1) > 1e-6:
        raise checks.InputError(
            f"alpha {law.alpha:g} is too large here: the tails of f are out of reach; at most about 10"
        )
    exact = _root_mean_square(ours - theirs, weights)
    return Distance(exact, _root_coupling(law, limit), 0.0)


def _gaussian_axis() -> tuple[np.ndarray, np.ndarray]:
    """Positive points x and weights of the standard normal, doubled for the other sign."""
    x = TAIL * (np.arange(NODES) + 0.5) / NODES
    return x, 2 * TAIL / NODES * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _root_mean_square(values: np.ndarray, weights: np.ndarray) -> float:
    return math.sqrt((weights * values**2).sum())


def _from_gaussian(values: np.ndarray, x: np.ndarray, weights: np.ndarray) -> float:
    """W2 to the standard normal of a law with variance 1, from its quantiles: E (f - x)^2 = 2 - 2 E f x.

    That needs no far tails of f; where it would cancel, they are light.
    """
    square = 2 - 2 * (weights * values * x).sum()
    return math.sqrt(square) if square > 1e-3 else _root_mean_square(values - x, weights)


def _log_prior(law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced points u of log Q, and its log density there."""
    u = np.linspace(*density.reach(law, TAIL**2), 2 * NODES)
    return u, density.log_density(law, u)


def _quantiles(law: Law, x: np.ndarray) -> np.ndarray:
    """The output at one input that stands where x > 0 stands in the standard normal: F^-1(Phi(x))."""
    u, log_p = _log_prior(law)
    log_mass = log_p - logsumexp(log_p)
    wanted = log_ndtr(-x)
    low, high = np.log(x) + u[0] / 2, np.log(x) + u[-1] / 2
    for _ in range(60):  # log P(f > exp(middle)) falls
        middle = (low + high) / 2
        above = logsumexp(log_ndtr(-np.exp(middle[:, None] - u / 2)) + log_mass, axis=1) > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.exp((low + high) / 2)


def _root_coupling(law: Law, limit: Proportional) -> float:
    """W2 between the laws of Q^(1/2) for one output."""
    u, log_p = _log_prior(law)
    below = scipy.interpolate.CubicSpline(u, np.exp(log_p)).antiderivative()(u)
    x = ndtri(np.clip(below / below[-1], 1e-15, 1 - 1e-15))
    gap = np.exp(u / 2) - np.exp((math.sqrt(2 * limit.alpha) * x - limit.alpha) / 2)
    return _root_mean_square(gap, np.exp(log_p) * (u[1] - u[0]))


def _mean_root_of_two(alpha: float) -> float:
    """E tr Q^(1/2) for two outputs in the limit: E s^(1/2) times E 2 cosh(r / 2)."""
    r, weights = np.polynomial.legendre.leggauss(400)
    end = alpha + math.sqrt(2 * alpha) * TAIL
    r, weights = end * (r + 1) / 2, end * weights / 2
    return (
        2 * math.exp(-0.625 * alpha) * float(weights @ (np.exp(density.log_radius_density(r, alpha)) * np.cosh(r / 2)))
    )
