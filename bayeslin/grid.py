"""Quadrature over a few coordinates, on a box that is found from the integrand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

NATS = 45.0  # the box holds every point within this of the largest integrand
COUNTS = {1: 401, 2: 81, 3: 37, 4: 19}  # points a coordinate while the box is sought
LogIntegrand = Callable[[list[np.ndarray]], np.ndarray]


class Axis(NamedTuple):
    """One coordinate between two ends, with a rule whose error falls geometrically in the number of nodes.

    rule : "even", for integrands that vanish at both ends, or that repeat where the axis is `periodic`; "legendre",
    where an end carries mass; "point", no extent at all.
    """

    lower: float
    upper: float
    rule: str = "even"
    periodic: bool = False

    def nodes(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights, (size,) each; one node for a point."""
        if self.rule == "point":
            return np.array([self.lower]), np.ones(1)
        length = self.upper - self.lower
        if self.rule == "legendre":
            x, w = np.polynomial.legendre.leggauss(size)
            return self.lower + length * (x + 1) / 2, length * w / 2
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


def focus(log_integrand: LogIntegrand, axes: Sequence[Axis]) -> list[Axis]:
    """Cut the axes down to where the integrand is, coarsely at first, so that narrow ridges are not lost."""
    axes = list(axes)
    size = COUNTS[sum(axis.rule != "point" for axis in axes) or 1]
    nats, shrunk = 64 * NATS, 0.0
    while nats > NATS or shrunk < 0.7:
        even = [axis._replace(rule="even" if axis.rule == "legendre" else axis.rule) for axis in axes]
        points, _ = product(even, size)
        values = log_integrand(points)
        kept = values > values.max() - nats
        cut = [
            axis
            if axis.rule == "point"
            else axis.around(coordinate[kept], (axis.upper - axis.lower) / size, coordinate[values.argmax()])
            for axis, coordinate in zip(axes, points, strict=True)
        ]
        ratios = [
            (new.upper - new.lower) / (old.upper - old.lower)
            for new, old in zip(cut, axes, strict=True)
            if old.rule != "point"
        ]
        axes, shrunk, nats = cut, min(ratios, default=1.0), max(NATS, nats / 4)
    return axes
