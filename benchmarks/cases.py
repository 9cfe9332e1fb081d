"""The regressions that the speed benchmarks run, from sufficient statistics: a million rows cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

import bayeslin as bl

CORRELATION, NOISE_SD = 0.5, 0.5
LIMIT, FINITE = bl.Proportional(0.5), bl.FiniteNetwork((20,) * 10)


class Case(NamedTuple):
    """A law, a kind of noise, data from a seed, and what is asked of them.

    goal : smallest bulk ESS per 1000 gradients; leapfrogs : largest median per draw; None where nothing is asked.
    every : only each so manieth seed is run, where a fit is long.
    """

    law: bl.Law
    data: Callable[[int], bl.Spectrum]
    noise: str = "isotropic"
    goal: float | None = None
    leapfrogs: int | None = 16
    every: int = 1


def teacher(n: int, p: int, D: int) -> Callable[[int], bl.Spectrum]:
    """Statistics of standardised teachers of n rows, p features, D outputs, without their rows.

    Given the map, the triangular factor of the centred [X Y] is [L^T, L^T map^T + sd G; 0, sd T^T]: L and T Bartlett
    factors of Wisharts with n - 1 and n - 1 - p degrees of freedom, G standard normal. Its columns have the lengths and
    angles of those of the data, so it is scaled and decomposed in their place.
    """

    def make(seed: int) -> bl.Spectrum:
        truth = bl.data.teacher(2, p, D, seed=seed, correlation=CORRELATION, noise=NOISE_SD)
        rng = np.random.default_rng([seed, n])
        LT = bartlett(rng, n - 1, p).T
        lower = NOISE_SD * bartlett(rng, n - 1 - p, D).T
        X = np.vstack([LT, np.zeros((D, p))])
        Y = np.vstack([LT @ truth.map.T + NOISE_SD * rng.standard_normal((p, D)), lower])
        scaled = [A * np.sqrt(n / (A**2).sum(0)) for A in (X, Y)]
        return bl.Spectrum.from_rows(*scaled)._replace(n=n)

    return make


def bartlett(rng: np.random.Generator, degrees: int, size: int) -> np.ndarray:
    """Lower triangular L (size, size) with L L^T a standard Wishart."""
    if degrees < size:
        raise ValueError(f"need at least {size} degrees of freedom, got {degrees}; make rows instead")
    L = np.tril(rng.standard_normal((size, size)), -1)
    L[np.diag_indices(size)] = np.sqrt(rng.chisquare(degrees - np.arange(size)))
    return L


def rows(n: int, p: int, D: int, seed: int, *, residuals: float = 0.0, standardize: bool = True) -> bl.Dataset:
    """A teacher with its rows; `residuals` is the correlation between the outputs' noises."""
    truth = bl.data.teacher(n, p, D, seed=seed, correlation=CORRELATION, noise=0.0)
    root = np.linalg.cholesky(np.where(np.eye(D), 1.0, residuals))
    noise = NOISE_SD * np.random.default_rng([seed, n]).standard_normal((n, D)) @ root.T
    data = replace(truth.dataset, Y=truth.dataset.Y + noise)
    return data.standardize() if standardize else data


def few_rows(n: int, p: int, D: int) -> Callable[[int], bl.Spectrum]:
    """Statistics of a standardised teacher of too few rows for `teacher`."""

    def make(seed: int) -> bl.Spectrum:
        data = rows(n, p, D, seed)
        return bl.Spectrum.from_rows(data.X, data.Y)

    return make


def correlated_residuals(seed: int) -> bl.Spectrum:
    """As many features as rows, n = p = 30, D = 6, residuals correlated .95; columns of mean square one.

    Not centred: that would take a rank and no row away, and the posterior would be improper.
    """
    data = rows(30, 30, 6, seed, residuals=0.95, standardize=False)
    return bl.Spectrum.from_rows(*(A / np.sqrt((A**2).mean(0)) for A in (data.X, data.Y)))


def shipped(name: str) -> Callable[[int], bl.Spectrum]:
    """Statistics of a shipped data set, standardised; the seed is the sampler's alone."""

    def make(_: int) -> bl.Spectrum:
        data = bl.load_dataset(name).standardize()
        return bl.Spectrum.from_rows(data.X, data.Y)

    return make


CASES = {
    "limit, n 20, p 3, D 3": Case(LIMIT, teacher(20, 3, 3), goal=100),
    "limit, n 1e5, p 50, D 3": Case(LIMIT, teacher(100_000, 50, 3), goal=60),
    "limit, n 2e4, p 500, D 3": Case(LIMIT, teacher(20_000, 500, 3), goal=60),
    "limit, n 2e4, p 200, D 8": Case(LIMIT, teacher(20_000, 200, 8), goal=30),
    "limit, n 1e6, p 100, D 16": Case(LIMIT, teacher(1_000_000, 100, 16), goal=15, leapfrogs=32, every=5),
    "limit, n 6, p 2, D 2": Case(LIMIT, few_rows(6, 2, 2)),
    "limit, linnerud": Case(LIMIT, shipped("linnerud")),
    "finite, linnerud": Case(FINITE, shipped("linnerud")),
    "limit, penguins": Case(LIMIT, shipped("penguins")),
    "finite, penguins": Case(FINITE, shipped("penguins")),
    "finite, n 20, p 3, D 3": Case(FINITE, teacher(20, 3, 3), goal=100),
    "finite, n 1e5, p 50, D 3": Case(FINITE, teacher(100_000, 50, 3), goal=60),
    "finite, n 2e4, p 500, D 3": Case(FINITE, teacher(20_000, 500, 3), goal=60),
    "finite, n 2e4, p 200, D 8": Case(FINITE, teacher(20_000, 200, 8), goal=30, every=5),
    "finite, n 1e6, p 100, D 16": Case(FINITE, teacher(1_000_000, 100, 16), goal=15, leapfrogs=32, every=5),
    "limit, full noise, n = p = 30, D 6": Case(LIMIT, correlated_residuals, "full", goal=10, leapfrogs=None),
    "NNGP, full noise, n = p = 30, D 6": Case(bl.NNGP(), correlated_residuals, "full", goal=10, leapfrogs=None),
}
