"""Data to sufficient statistics: all that any law of Q ever sees of X and Y (design section 4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayeslin import checks


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
        tol = max(X.shape) * np.finfo(np.float64).eps if tol is None else checks.number(tol, "tol", least=0.0)
        U, S, V = decompose(X)
        if S[0] == 0:
            raise checks.InputError("every entry of X is zero; a linear network has nothing to learn from")
        if tol >= 1:
            raise checks.InputError(f"tol is relative to the largest singular value and must be below 1, got {tol}")
        r = int((tol * S[0] < S).sum())
        Z, R = reduce_labels(U[:, :r], Y)
        with np.errstate(over="ignore", under="ignore"):
            lam = S[:r] ** 2
        if not (lam[-1] > 0 and np.isfinite(lam[0]) and np.isfinite(R).all()):
            raise checks.InputError("X or Y holds numbers too large or too small to be squared; rescale the columns")
        return cls(lam, Z, R, len(X), V[:, :r], tol)

    @property
    def rank(self) -> int:
        """Number of directions in which the inputs vary."""
        return self.lam.shape[0]

    @property
    def outputs(self) -> int:
        """Number of outputs D."""
        return self.Z.shape[1]

    def padded(self) -> Spectrum:
        """The same likelihood with the rank padded to a power of two, so that data sets share compiled programs.

        Exact: a direction with lam = 0 and z = 0 has density N(0; 0, Sigma), which n - r counts otherwise.
        """
        extra = (1 << (self.rank - 1).bit_length()) - self.rank
        lam, Z = np.pad(self.lam, (0, extra)), np.pad(self.Z, ((0, extra), (0, 0)))
        return Spectrum(lam, Z, np.asarray(self.R), np.float64(self.n))

    def project(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """New inputs X (m, p) as T = X V / sqrt(p) (m, r), and u = |x|^2 / p - |t|^2 (m,), what no row reached."""
        if self.V is None:
            raise checks.InputError("these statistics were padded for sampling; use the Spectrum that they came from")
        T = X @ self.V / np.sqrt(X.shape[1])
        return T, np.maximum((X**2).sum(1) / X.shape[1] - (T**2).sum(1), 0.0)


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
