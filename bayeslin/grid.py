"""Quadrature over a few coordinates, on a box that is found from the integrand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bayeslin import checks

NATS = 36.0  # the box holds every point within this of an integrand's largest value
COUNTS = {1: 401, 2: 81, 3: 37, 4: 19}  # points a coordinate while the box is sought
LogIntegrand = Callable[[list[np.ndarray]], np.ndarray]


class Axis(NamedTuple):
    """One coordinate between two ends, with a rule whose error falls geometrically in the number of nodes.

    rule : "even", for integrands that vanish at both ends, or that repeat where the axis is `periodic`; "legendre",
    where an end carries mass, or where the integrand is steep near `breaks`, at which the axis is cut; "point", no
    extent at all.
    """

    lower: float
    upper: float
    rule: str = "even"
    periodic: bool = False
    breaks: tuple[float, ...] = ()

    def nodes(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights: `size` of each on every piece, twice as many on one that was not cut; one for a point."""
        if self.rule == "point":
            return np.array([self.lower]), np.ones(1)
        if self.rule == "legendre":
            inside = [point for point in self.breaks if self.lower < point < self.upper]
            edges = np.array([self.lower, *inside, self.upper])
            half = np.diff(edges)[:, None] / 2
            x, w = np.polynomial.legendre.leggauss(2 * size if self.breaks and not inside else size)
            return (edges[:-1, None] + half * (x + 1)).ravel(), (half * w).ravel()
        length = self.upper - self.lower
        return self.lower + length * (np.arange(size) + 0.5) / size, np.full(size, length / size)

    def around(self, kept: np.ndarray, gap: float, best: float) -> Axis:
        """The same axis cut to the points that are kept and a gap on both sides; a period is centred on the best."""
        if self.periodic:
            half = (self.upper - self.lower) / 2
            far = np.abs((kept - best + half) % (2 * half) - half).max() + gap
            return self._replace(lower=best - min(far, half), upper=best + min(far, half), periodic=far >= half)
        return self._replace(lower=max(self.lower, kept.min() - gap), upper=min(self.upper, kept.max() + gap))


def product(axes: Sequence[Axis], size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Nodes of the product rule, a flat array for each axis, and the logarithms of their weights."""
    nodes, weights = zip(*(axis.nodes(size) for axis in axes), strict=True)
    points = [coordinate.ravel() for coordinate in np.meshgrid(*nodes, indexing="ij")]
    return points, sum(np.log(weight).ravel() for weight in np.meshgrid(*weights, indexing="ij"))


def focus(log_integrands: LogIntegrand, axes: Sequence[Axis]) -> list[Axis]:
    """Cut the axes down to where the integrands are, coarsely at first, so that narrow ridges are not lost.

    log_integrands : from points to values (i, k), a row for each integrand that must fit into the box.
    """
    axes = list(axes)
    size = COUNTS[sum(axis.rule != "point" for axis in axes) or 1]
    nats, shrunk = 64 * NATS, 0.0
    while nats > NATS or shrunk < 0.7:
        even = [axis._replace(rule="even" if axis.rule == "legendre" else axis.rule) for axis in axes]
        points, _ = product(even, size)
        values = np.nan_to_num(log_integrands(points), nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        if not np.isfinite(values.max(1)).all():
            raise checks.InputError(
                "nothing of the integrand was found; the law is too wide for quadrature, use bl.fit"
            )
        kept = (values > values.max(1, keepdims=True) - nats).any(0)
        cut = [
            axis
            if axis.rule == "point"
            else axis.around(coordinate[kept], (axis.upper - axis.lower) / size, coordinate[values[0].argmax()])
            for axis, coordinate in zip(axes, points, strict=True)
        ]
        ratios = [
            (new.upper - new.lower) / (old.upper - old.lower)
            for new, old in zip(cut, axes, strict=True)
            if old.rule != "point"
        ]
        axes, shrunk, nats = cut, min(ratios, default=1.0), max(NATS, nats / 4)
    return axes
