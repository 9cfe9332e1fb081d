"""Closed-form truths by brute quadrature, independent of the package (design section 3)."""

import numpy as np
from scipy.special import loggamma


def log_likelihood(Q, noise, X, Y):
    """log p(Y | Q) for a stack of scales (..., D, D), by one eigendecomposition of the inputs and one of each scale."""
    lam, U = np.linalg.eigh(X @ X.T / X.shape[1])
    q, E = np.linalg.eigh(Q)
    variance = np.maximum(lam, 0)[:, None] * q[..., None, :] + noise**2
    return -0.5 * (np.log(2 * np.pi * variance) + (U.T @ Y @ E) ** 2 / variance).sum((-1, -2))


def radius_density(r, alpha):
    """Density of the radius at time alpha of Brownian motion on the hyperbolic plane, not normalised."""
    v = np.linspace(0, 60, 12_001)[1:] - 0.0025  # cosh u = (1 + v^2) cosh r takes the root's singularity away
    u = np.arccosh(np.cosh(r)[:, None] * (1 + v**2))
    inner = np.sqrt(np.cosh(r)) * (u * np.exp(-(u**2) / (2 * alpha)) * 2 / np.sinh(u)).sum(1) * 0.005
    return 2 * np.pi * np.sinh(r) * np.sqrt(2) * np.exp(-alpha / 8) * (2 * np.pi * alpha) ** -1.5 * inner


def two_outputs(alpha, X, Y, noise, size=48):
    """E[Q | Y], E[rho | Y] and log evidence for D = 2 under the limit, by a rule in (log s, r, angle)."""
    nodes, weights = np.polynomial.legendre.leggauss(size)
    r = (nodes + 1) / 2 * (8 * np.sqrt(alpha) + alpha)
    r_mass = weights * radius_density(r, alpha)
    log_s = -1.5 * alpha + np.sqrt(alpha) * np.linspace(-8, 8, 2 * size)
    s_mass = np.exp(-((log_s + 1.5 * alpha) ** 2) / (2 * alpha))
    angle = np.arange(size) * np.pi / size
    c, s = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    stretch = np.exp(log_s[:, None, None] + r[:, None] * np.array([1, -1]))  # (log s, r, 2)
    Q = np.einsum("tai,sri,tbi->srtab", turn, stretch, turn)
    prior = s_mass[:, None, None] * r_mass[:, None] * np.ones(size)
    log_l = log_likelihood(Q, noise, X, Y)
    mass = prior * np.exp(log_l - log_l.max())
    rho = Q[..., 0, 1] / np.sqrt(Q[..., 0, 0] * Q[..., 1, 1])
    mean = (mass[..., None, None] * Q).sum((0, 1, 2)) / mass.sum()
    return mean, (mass * rho).sum() / mass.sum(), np.log(mass.sum() / prior.sum()) + log_l.max()


def finite_log_density(widths, grid):
    """Density of log Q on a grid for one output of a finite network, from its characteristic function."""
    N = np.asarray(widths, float)[:, None]
    s = np.linspace(0, 400, 40_001)
    phi = np.exp((1j * s * np.log(2 / N) + loggamma(N / 2 + 1j * s) - loggamma(N / 2)).sum(0))
    last = np.flatnonzero(np.abs(phi) > 1e-17)[-1] + 1
    weights = np.full(last, s[1])
    weights[0] /= 2
    return (weights * np.real(phi[:last] * np.exp(-1j * np.outer(grid, s[:last])))).sum(1) / np.pi


def one_output(log_density, grid, X, y, noise):
    """E[Q | y] for one output, from the prior density of log Q on an even grid."""
    log_l = log_likelihood(np.exp(grid)[:, None, None], noise, X, y)
    mass = log_density * np.exp(log_l - log_l.max())
    return (mass * np.exp(grid)).sum() / mass.sum()
