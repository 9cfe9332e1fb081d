"""Data to sufficient statistics: all that any law of Q ever sees of X and Y (design section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayeslin import checks, chunks
from bayeslin.factor import Factor


class Spectrum(NamedTuple):
    """Sufficient statistics of a regression for every prior with Cov(f_a(x), f_b(x')) = Q_ab x.x' / p.

    Attributes
    ----------
    lam : (r,), eigenvalues of X X^T / p, largest first.
    Z : (r, D), labels in the eigenbasis, U^T Y, in label units.
    R : (D, D), what the inputs cannot reach, Y^T Y - Z^T Z, in label units squared.
    n : number of rows.
    V : (p, r), the eigenbasis among the features; None where only the likelihood is needed.
    tol : singular values up to `tol` times the largest count as zero; None after padding.

    Examples
    --------
    >>> spec = Spectrum.from_rows([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [[0.1], [0.2], [0.4]])
    >>> spec.rank, spec.outputs, spec.n
    (2, 1, 3)
    """

    lam: Any
    Z: Any
    R: Any
    n: Any
    V: Any = None
    tol: float | None = None

    @classmethod
    def from_rows(cls, X: Any, Y: Any, *, tol: float | None = None) -> Spectrum:
        """Statistics of inputs X (n, p) and labels Y (n, D); raises `InputError` for what cannot be used.

        tol: relative size below which a singular value of X counts as zero, max(n, p) times epsilon by default.
        """
        X, Y = checks.rows(X, Y)
        return cls._reduced(X, Y, len(X), tol)

    @classmethod
    def from_chunks(cls, parts: Iterable[Any], *, center: bool = False, tol: float | None = None) -> Spectrum:
        """Statistics of rows that come in chunks: those of `from_rows` on all of them, one chunk in memory at a time.

        parts : pairs (X, Y) of arrays (n_k, p), (n_k, D) or data frames, of any lengths, from a list or a generator.
        center : take out the columns' means; predictions then are of Y less its mean at X less its mean. A Spectrum
        keeps no means, so nothing warns of columns far from zero; `bl.scan_chunks` gives a `Dataset`, which does both.
        Each chunk becomes a triangular factor, and factors merge (design section 4), so that digits are not lost as by
        sums of products. Raises `InputError` that names the chunk, from 0.

        >>> X, Y = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([[0.1], [0.2], [0.4]])
        >>> parts = ((X[start : start + 2], Y[start : start + 2]) for start in (0, 2))
        >>> Spectrum.from_chunks(parts).lam.round(6), Spectrum.from_rows(X, Y).lam.round(6)
        (array([2.651388, 0.848612]), array([2.651388, 0.848612]))
        """
        tol = _relative(tol)
        factor, features, _ = chunks.of_chunks(parts)
        return cls.from_factor(factor, len(features), center=center, tol=tol)

    @classmethod
    def from_dask(cls, X: Any, Y: Any, *, center: bool = False, tol: float | None = None) -> Spectrum:
        """Statistics of dask arrays or data frames X (n, p) and Y (n, D), computed here by a tree of tasks.

        Runs on the scheduler that dask uses, with `distributed` on its workers, where dead workers' tasks are run
        again. Blocks are cut along rows, aligned in X and Y; lengths may be unknown. center, tol and errors as for
        `from_chunks`.

        >>> import dask.array as da
        >>> X = da.from_array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], chunks=(2, 1))
        >>> Spectrum.from_dask(X, X.sum(axis=1)).lam.round(6)
        array([2.651388, 0.848612])
        """
        tol = _relative(tol)
        factor, features, _ = chunks.of_dask(X, Y)
        return cls.from_factor(factor, len(features), center=center, tol=tol)

    @classmethod
    def from_factor(cls, factor: Factor, features: int, *, center: bool = False, tol: float | None = None) -> Spectrum:
        """Statistics of the rows [X Y] behind a factor, X its first columns: a rotation of rows changes none."""
        checks.informative(factor.n, factor.constant[features:])
        if center and factor.constant[:features].all():
            raise checks.InputError("every column of X is constant; a linear network has nothing to learn from")
        rows = factor.rows(center=center)
        return cls._reduced(rows[:, :features], rows[:, features:], factor.n, tol)

    @classmethod
    def _reduced(cls, X: np.ndarray, Y: np.ndarray, n: int, tol: float | None) -> Spectrum:
        """Statistics of n rows, given as themselves or as other rows with the same cross-products."""
        tol = max(n, X.shape[1]) * np.finfo(np.float64).eps if tol is None else _relative(tol)
        U, S, V = decompose(X)
        if S[0] == 0:
            raise checks.InputError("every entry of X is zero; a linear network has nothing to learn from")
        r = int((tol * S[0] < S).sum())
        Z, R = reduce_labels(U[:, :r], Y)
        with np.errstate(over="ignore", under="ignore"):
            lam = S[:r] ** 2
        if not (lam[-1] > 0 and np.isfinite(lam[0]) and np.isfinite(R).all()):
            raise checks.InputError("X or Y holds numbers too large or too small to be squared; rescale the columns")
        return cls(lam, Z, R, n, V[:, :r], tol)

    @property
    def rank(self) -> int:
        """Number of directions in which the inputs vary."""
        return self.lam.shape[0]

    @property
    def outputs(self) -> int:
        """Number of outputs D."""
        return self.Z.shape[1]

    def padded(self, rank: int = 1) -> Spectrum:
        """The same likelihood with the rank padded to a power of two, so that data sets share compiled programs.

        rank : one that it has to reach.

        Exact: a direction with lam = 0 and z = 0 has density N(0; 0, Sigma), which n - r counts otherwise.
        """
        extra = (1 << (max(rank, self.rank) - 1).bit_length()) - self.rank
        lam, Z = np.pad(self.lam, (0, extra)), np.pad(self.Z, ((0, extra), (0, 0)))
        return Spectrum(lam, Z, np.asarray(self.R), np.float64(self.n))

    def project(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """New inputs X (m, p) as T = X V / sqrt(p) (m, r), and u = |x|^2 / p - |t|^2 (m,), what no row reached."""
        if self.V is None:
            raise checks.InputError("these statistics were padded for sampling; use the Spectrum that they came from")
        T = X @ self.V / np.sqrt(X.shape[1])
        return T, np.maximum((X**2).sum(1) / X.shape[1] - (T**2).sum(1), 0.0)


def _relative(tol: Any) -> float | None:
    """The size below which a singular value counts as zero, relative to the largest; None for the default."""
    if tol is not None and checks.number(tol, "tol", least=0.0) >= 1:
        raise checks.InputError(f"tol is relative to the largest singular value and must be below 1, got {tol}")
    return None if tol is None else float(tol)


def decompose(X: Any) -> tuple[Any, Any, Any]:
    """Thin SVD X / sqrt(p) = U diag(S) V^T: U (n, r), S (r,), V (p, r); NumPy for data, JAX for traced values."""
    xp = array_module(X)
    U, S, Vt = xp.linalg.svd(X / np.sqrt(X.shape[1]), full_matrices=False)
    return U, S, Vt.T


def reduce_labels(U: Any, Y: Any) -> tuple[Any, Any]:
    """Z = U^T Y (r, D) and R = (Y - U Z)^T (Y - U Z) (D, D); R is exactly zero when the inputs reach every row."""
    Z = U.T @ Y
    if U.shape[0] == U.shape[1]:
        return Z, array_module(Y).zeros((Y.shape[1],) * 2, Y.dtype)
    rest = Y - U @ Z
    return Z, rest.T @ rest


def array_module(values: Any) -> Any:
    """NumPy where the values are known, JAX where they are traced."""
    return jnp if isinstance(values, jax.core.Tracer) else np
