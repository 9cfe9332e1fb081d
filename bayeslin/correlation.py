"""Output correlations as functions of draws: of the scale Q, the noise, and the function (design section 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayeslin.diagnostics import mcse
from bayeslin.likelihood import Conditional
from bayeslin.spectrum import Spectrum


class OutputCorrelation(NamedTuple):
    """Posterior correlations between outputs, (D, D) each.

    scale : mean over draws of rho_ab = Q_ab / sqrt(Q_aa Q_bb), exactly the identity under the NNGP; scale_mcse, its
        Monte Carlo standard error; scale_interval (2, D, D), lower and upper end of its 90 % interval.
    function_within : correlation of E[Cov(f_a, f_b | Q, Sigma, Y)], summed over the inputs.
    function : the same with the covariance of the conditional means over draws added, the total; function_mcse.
    noise : mean over draws of the correlation in Sigma, apart from the function's; the identity unless noise="full";
        noise_mcse and noise_interval (2, D, D) as for the scale.
    """

    scale: np.ndarray
    scale_mcse: np.ndarray
    scale_interval: np.ndarray
    function_within: np.ndarray
    function: np.ndarray
    function_mcse: np.ndarray
    noise: np.ndarray
    noise_mcse: np.ndarray
    noise_interval: np.ndarray


def to_correlation(cov: np.ndarray) -> np.ndarray:
    """Correlations of covariances (..., D, D).

    >>> to_correlation(np.array([[4.0, 1.0], [1.0, 1.0]]))
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    sd = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    corr = cov / (sd[..., :, None] * sd[..., None, :])
    index = np.arange(cov.shape[-1])
    corr[..., index, index] = 1.0
    return corr


def gram(X: np.ndarray, spec: Spectrum) -> tuple[np.ndarray, float]:
    """What inputs X (m, p) amount to: T^T T (r, r) for T = X V / sqrt(p), and the part that no row reached."""
    T, unreached = spec.project(X)
    return T.T @ T, float(unreached.sum())


def gram_at_data(spec: Spectrum) -> tuple[np.ndarray, float]:
    """`gram` at the rows of the fit, which the spectrum knows without them."""
    return np.diag(spec.lam), 0.0


def output_correlation(
    scale: np.ndarray, noise_cov: np.ndarray, given: Conditional, inputs: tuple[np.ndarray, float]
) -> OutputCorrelation:
    """Correlations from draws: scale and noise_cov (chains, draws, D, D), conditional functions with the same axes.

    inputs : from `gram`; cost does not depend on how many inputs there were.
    """
    G, unreached = inputs
    rho, noise = to_correlation(scale), to_correlation(noise_cov)

    M, coef = np.asarray(given.M), np.asarray(given.coef)
    spread = np.einsum("i,csid->csd", np.diag(G), given.var) + unreached * np.asarray(given.q)
    within = np.einsum("csad,csd,csbd->csab", M, spread, M)
    maps = coef @ np.swapaxes(M, -1, -2)  # conditional mean of f(x) is t @ maps
    moved = maps - maps.mean((0, 1))
    total = within + np.swapaxes(moved, -1, -2) @ (G @ moved)

    mean = total.mean((0, 1))
    corr = to_correlation(mean)
    sd = np.sqrt(np.diag(mean))
    unit = total / (sd[:, None] * sd)  # the ratio's linearisation, draw by draw
    own = np.diagonal(unit, axis1=-2, axis2=-1)
    influence = unit - corr * (own[..., :, None] + own[..., None, :]) / 2.0
    return OutputCorrelation(
        *_summary(rho),
        to_correlation(within.mean((0, 1))),
        corr,
        mcse(influence) * (1 - np.eye(len(corr))),
        *_summary(noise),
    )


def _summary(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over draws, its Monte Carlo error, and the 90 % interval."""
    return draws.mean((0, 1)), mcse(draws), np.quantile(draws, [0.05, 0.95], axis=(0, 1))
