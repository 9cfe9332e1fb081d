"""Closed-form truths by quadrature: the posterior of Q for one output, and for two outputs in the limit.

Q is a function of one coordinate, log Q (D = 1), or of three, log s, r and an angle (D = 2, design section 3); an
inferred noise adds the logarithm of its sd. The box is found from the integrand, and every rule used converges
geometrically for smooth priors; the errors reported are the differences between two resolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bayeslin import checks, density, grid
from bayeslin.distances import Distance, distance_to_limit, distance_to_nngp
from bayeslin.likelihood import log_marginal
from bayeslin.nodes import ExactPosterior
from bayeslin.noise import Noise
from bayeslin.scale import Law
from bayeslin.spectrum import Spectrum

__all__ = [
    "Distance",
    "ExactPosterior",
    "distance_to_limit",
    "distance_to_nngp",
    "posterior_one_output",
    "posterior_two_outputs",
]

FAR = 700.0  # prior tails below e^-FAR are out of reach of any labels


def posterior_one_output(law: Law, X: Any, y: Any = None, *, noise: Any = "isotropic") -> ExactPosterior:
    """Posterior of Q for one output under any law, by quadrature over log Q.

    law : without random hyperparameters. X : (n, p), or a `Spectrum` of one output; y : (n,) or (n, 1), in label units.
    noise : a known sd, or "isotropic" or a distribution, then integrated as well (see `Noise`).
    Raises `InputError` for more outputs. Source: design section 3; the density of log Q is `density.log_density`.

    >>> import bayeslin as bl
    >>> data = bl.load_dataset("linnerud").standardize()
    >>> post = posterior_one_output(bl.Proportional(0.5), data.X, data.Y[:, 0], noise=0.9)
    >>> post.mean.round(4), round(post.log_evidence, 4)
    (array([[0.5418]]), -28.2024)
    """
    spec = _statistics(X, y, 1, "posterior_one_output")
    axis = grid.Axis(0.0, 0.0, "point") if density.is_point(law) else grid.Axis(*density.reach(law, FAR))

    def scale(u: np.ndarray) -> np.ndarray:
        return np.exp(u)[:, None, None]

    def log_prior(u: np.ndarray) -> np.ndarray:
        return np.zeros_like(u) if axis.rule == "point" else _on_distinct(lambda v: density.log_density(law, v), u)

    return _posterior(spec, law.signal_variance, noise, [axis], scale, log_prior, sizes=(200, 300))


def posterior_two_outputs(
    alpha: float, X: Any, Y: Any = None, *, noise: Any = "isotropic", signal_variance: float = 1.0
) -> ExactPosterior:
    """Posterior of Q for two outputs in the proportional limit, by quadrature over log s, r and an angle.

    Q = s R diag(e^r, e^-r) R^T, R the rotation by the angle; log s is normal, r the radius of Brownian motion on the
    hyperbolic plane, the angle uniform. alpha : above 0. X : (n, p), or a `Spectrum` of two outputs; Y : (n, 2).
    noise : a known sd, or "isotropic" or a distribution, then integrated as well. Raises `InputError` for other numbers
    of outputs, and for noise that is not isotropic. Source: design section 3, "D = 2 in closed form".

    >>> import bayeslin as bl
    >>> data = bl.load_dataset("linnerud").standardize()
    >>> post = posterior_two_outputs(0.5, data.X, data.Y[:, :2], noise=0.9)
    >>> post.mean.round(4), post.correlation[0, 1].round(4)
    (array([[0.5592, 0.2545],
           [0.2545, 0.7789]]), np.float64(0.3859))
    """
    spec = _statistics(X, Y, 2, "posterior_two_outputs")
    alpha = checks.number(alpha, "alpha", above=0.0)
    s2 = checks.number(signal_variance, "signal_variance", above=0.0)
    spread = math.sqrt(2 * FAR * alpha)
    quarters = tuple(math.pi / 2 * np.arange(-2, 5))
    axes = [
        grid.Axis(-1.5 * alpha - spread, -1.5 * alpha + spread),
        grid.Axis(0.0, alpha + spread, "legendre"),
        grid.Axis(0.0, math.pi, "legendre", periodic=True, breaks=quarters),  # rho is steep where Q is diagonal
    ]

    def scale(log_s: np.ndarray, r: np.ndarray, angle: np.ndarray) -> np.ndarray:
        R = np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), -1, 0)
        stretch = np.exp(log_s[:, None] + r[:, None] * np.array([1.0, -1.0]))
        return R * stretch[:, None, :] @ np.swapaxes(R, 1, 2)

    def log_prior(log_s: np.ndarray, r: np.ndarray, angle: np.ndarray) -> np.ndarray:
        normal = -((log_s + 1.5 * alpha) ** 2) / (2 * alpha) - 0.5 * math.log(2 * math.pi * alpha)
        return normal + _on_distinct(lambda r: density.log_radius_density(r, alpha), r) - math.log(math.pi)

    return _posterior(spec, s2, noise, axes, scale, log_prior, sizes=(40, 56))


def _statistics(X: Any, Y: Any, outputs: int, name: str) -> Spectrum:
    if isinstance(X, Spectrum) and (Y is not None or X.V is None):
        raise checks.InputError("a Spectrum brings its labels and must not be padded; leave Y out")
    spec = X if isinstance(X, Spectrum) else Spectrum.from_rows(X, Y)
    if spec.outputs != outputs:
        raise checks.InputError(
            f"{name} needs {outputs} column(s) of labels, got {spec.outputs}; "
            "quadrature knows one output under any law and two in the limit, bl.fit any number"
        )
    return spec


def _posterior(
    spec: Spectrum,
    s2: Any,
    noise: Any,
    axes: list[grid.Axis],
    scale: Callable,
    log_prior: Callable,
    sizes: tuple[int, int],
) -> ExactPosterior:
    """Integrate prior times likelihood over the axes, and over the noise's log sd where it is inferred."""
    noise, D = Noise(noise), spec.outputs
    if noise.kind != "isotropic" and D > 1:
        raise checks.InputError(f'two outputs need a known or isotropic noise here, got "{noise.kind}"; use bl.fit')
    if noise.is_random:
        axes, sizes = [*axes, grid.Axis(-30.0, 30.0)], (sizes[0] * 3 // 5, sizes[1] * 3 // 5)
    arrays = spec._replace(V=None, tol=None)

    def nodes(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        log_sd = points[-1] if noise.is_random else np.full(len(points[0]), math.log(noise.sd))
        return scale(*points[: len(points) - noise.is_random]), np.exp(2 * log_sd)[:, None, None] * np.eye(D)

    def log_joint(points: list[np.ndarray]) -> np.ndarray:
        Q, Sigma = nodes(points)
        value = log_prior(*points[: len(points) - noise.is_random])
        with jax.enable_x64(True):
            if noise.is_random:
                value = value + np.asarray(noise.sd.log_prob(np.exp(points[-1]))) + points[-1]
            return value + np.asarray(_log_marginals(s2 * Q, Sigma, arrays))

    def with_second_moment(points: list[np.ndarray]) -> np.ndarray:
        value = log_joint(points)
        size = np.trace(nodes(points)[0], axis1=1, axis2=2)
        return np.stack([value, value + 2 * np.log(np.maximum(size, np.finfo(float).tiny))])

    axes = grid.focus(with_second_moment, axes)
    found = []
    for size in sizes:
        points, log_weights = grid.product(axes, size)
        log_mass = log_joint(points) + log_weights
        top = log_mass.max()
        mass = np.exp(log_mass - top)
        found.append((points, mass / mass.sum(), float(np.log(mass.sum()) + top)))

    summaries = []
    for points, weights, evidence in found:
        post = ExactPosterior(*nodes(points), weights, evidence, {}, None, None, spec, float(s2))
        summaries.append({name: getattr(post, name) for name in ("mean", "sd", "correlation", "log_evidence")})
    errors = {name: float(np.abs(summaries[0][name] - summaries[1][name]).max()) for name in summaries[0]}
    points, weights, evidence = found[1]
    values = marginal = None
    if D == 1 and axes[0].rule != "point":
        u, spacing = axes[0].nodes(sizes[1])
        values, marginal = np.exp(u), weights.reshape(len(u), -1).sum(1) / spacing / np.exp(u)
    return ExactPosterior(*nodes(points), weights, evidence, errors, values, marginal, spec, float(s2))


def _on_distinct(function: Callable, values: np.ndarray) -> np.ndarray:
    """The function at every value, computed once for each distinct one."""
    distinct, inverse = np.unique(values, return_inverse=True)
    return function(distinct)[inverse]


@jax.jit
def _log_marginals(Q: Any, Sigma: Any, spec: Spectrum) -> Any:
    return jax.lax.map(lambda pair: log_marginal(pair[0], pair[1], spec), (Q, Sigma), batch_size=8192)
