"""The triangular factor of rows: their statistics in a few numbers, and how the factors of parts merge.

Cross-products would hold the same and square the condition number: of data at condition 1e5 they lose the smallest
eigenvalue by 3e-8, factors by 1e-12 (design section 4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

CELLS = 1 << 20  # numbers in a block of rows that is shifted at once: 8 MB, and a copy or two
SMALL = 1 << 13  # numbers in a block that LAPACK factorises


class Factor(NamedTuple):
    """T of [1, W - origin] = (orthonormal columns) T, for rows W (n, q) that need not be kept.

    Attributes
    ----------
    T : (min(n, 1 + q), 1 + q), upper triangular. Its first row is +-sqrt(n) [1, mean - origin], and what remains
        without the first row and column is the factor of the centred rows.
    origin : (q,), near the mean, so that columns far from zero keep their digits.
    n : number of rows.
    low, high : (q,), the smallest and the largest entry of each column.

    Examples
    --------
    >>> W = np.array([[1e6, 2.0], [1e6 + 1, 2.0], [1e6 + 2, 5.0]])
    >>> one, two = Factor.of(W[:1]), Factor.of(W[1:])
    >>> both = one.merge(two)
    >>> both.n, both.mean, both.sd.round(3)
    (3, array([1.000001e+06, 3.000000e+00]), array([0.816, 1.414]))
    """

    T: np.ndarray
    origin: np.ndarray
    n: int
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, *parts: np.ndarray) -> Factor:
        """The factor of the columns of all parts, float64 (n, .) each, side by side; n may be 0."""
        n, q = len(parts[0]), sum(part.shape[1] for part in parts)
        factor = cls(np.empty((0, 1 + q)), np.zeros(q), 0, np.full(q, np.inf), np.full(q, -np.inf))
        step = max(1 + q, CELLS // (1 + q))
        for start in range(0, n, step):
            W = np.column_stack([np.ones(min(step, n - start)), *(part[start : start + step] for part in parts)])
            low, high = W.min(0)[1:], W.max(0)[1:]
            origin = W[:, 1:].mean(0)
            W[:, 1:] -= origin
            factor = factor.merge(cls(_triangle(W), origin, len(W), low, high))
        return factor

    def merge(self, other: Factor) -> Factor:
        """The factor of the rows of both; in exact arithmetic associative, and commutative up to signs of rows of T.

        [T1; T2] has the cross-products of all rows, so its own factor is theirs.
        """
        if self.n < other.n:  # the origin of more rows is the better one
            return other.merge(self)
        if not other.n:
            return self
        T = _triangle(np.vstack([self.T, other.seen_from(self.origin)]))
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Factor(T, self.origin, self.n + other.n, low, high)

    def seen_from(self, origin: Any) -> np.ndarray:
        """T for another origin, no longer quite triangular: W - b = (W - a) + 1 (a - b)^T."""
        moved = self.T.copy()
        moved[:, 1:] += np.outer(moved[:, 0], self.origin - origin)
        return moved

    def rows(self, *, center: bool = False) -> np.ndarray:
        """At most 1 + q rows that have the cross-products W^T W, or those of the centred rows."""
        return self.T[1:, 1:] if center else self.seen_from(0.0)[:, 1:]

    @property
    def mean(self) -> np.ndarray:
        """Mean of each column, (q,)."""
        return self.origin + self.T[0, 1:] / self.T[0, 0]

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of each column, ddof 0, (q,); exactly 0 where a column is constant."""
        with np.errstate(over="ignore", under="ignore"):
            return np.where(self.constant, 0.0, np.sqrt(np.square(self.T[1:, 1:]).sum(0) / self.n))

    @property
    def constant(self) -> np.ndarray:
        """Whether all entries of a column are the same, (q,)."""
        return self.low == self.high

    def rescaled(self, shift: Any, scale: Any) -> Factor:
        """The factor of the rows (w - shift) / scale, scale positive."""
        T = np.column_stack([self.T[:, 0], self.T[:, 1:] / scale])
        origin, low, high = ((end - shift) / scale for end in (self.origin, self.low, self.high))
        return Factor(T, origin, self.n, low, high)

    def columns(self, kept: np.ndarray) -> Factor:
        """The factor of some columns, by their numbers or a mask (q,)."""
        T = _triangle(np.column_stack([self.T[:, :1], self.T[:, 1:][:, kept]]))
        return Factor(T, self.origin[kept], self.n, self.low[kept], self.high[kept])


def _triangle(rows: np.ndarray) -> np.ndarray:
    """The triangular factor of rows (m, k), by those of small blocks: they stay in the cache and on one thread.

    Threads of OpenBLAS only wait for each other on matrices so slim, ten times as long where other work is going on.
    """
    k = rows.shape[1]
    size = max(2 * k, SMALL // k)
    while len(rows) > size:
        blocks = len(rows) // size
        tops = np.linalg.qr(rows[: blocks * size].reshape(blocks, size, k), mode="r")
        rows = np.vstack([np.asarray(tops).reshape(-1, k), rows[blocks * size :]])
    return np.asarray(np.linalg.qr(rows, mode="r"))
