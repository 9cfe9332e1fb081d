"""Where the labels put Q and Sigma, roughly, and how firmly: what the sampler's coordinates are aligned with.

A guide changes no law. It only says around what, and in what units, the coordinates of a sampler are written down, so
that one parametrisation suits few labels, which leave Q to its prior, and many, which fix it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh, solve_triangular

from bayeslin.spectrum import Spectrum

ROUNDS = 200  # most steps of expectation maximisation
CLOSE = 0.02  # it ends where a step moves by less, in posterior standard deviations
FAR = 1e-8  # what is as small as this beside the labels' variance is taken to be no smaller
WARY = 20.0  # information below this is little trusted: with few directions the likelihood is far from quadratic


class Guide(NamedTuple):
    """Rough estimates and the expected information around them.

    Q is about C C^T, C = shape diag(exp(log_diag)) with a unit lower triangular `shape` (D, D). info : (D, D), of the
    labels about the entries of T on and below the diagonal where Q = C T T^T C^T; the effective number of directions.
    signal : (D,), the share of the signal in the labels' variance, in the directions that tell of it.
    noise : the sd (), the sds (D,), or for full noise (D, D) with Sigma about noise noise^T; noise_info : likewise,
    about their logarithms, or about the entries of T in Sigma = noise T T^T noise^T.
    """

    shape: Any
    shape_inverse: Any
    log_diag: Any
    info: Any
    signal: Any
    noise: Any
    noise_info: Any

    def divided(self, s2: Any) -> Guide:
        """The guide to Q where this one is to s2 Q."""
        return self._replace(log_diag=self.log_diag - jnp.log(s2) / 2.0)


def guide_to(spec: Spectrum, kind: str, sd: float | None) -> Guide:
    """The guide to the labels' statistics: estimates by expectation maximisation, and the information around them.

    kind : of the noise, "isotropic", "diagonal" or "full"; sd : the noise where it is known. Costs O(D^3 + r D^2) a
    round, beside a fit nothing.
    """
    lam, D = np.asarray(spec.lam)[:, None], spec.outputs
    kind = "diagonal" if kind == "full" and D == 1 else kind
    unit = _size(spec)
    Q, Sigma = _estimates(spec, kind, sd, unit)
    C = np.linalg.cholesky(Q)
    q, P = eigh(Q, Sigma)
    inverse = 1.0 / (1.0 + lam * np.maximum(q, 0.0))  # (r, D), of the covariances S_i of the directions, in the basis P
    share = np.minimum(lam * inverse @ np.square(C.T @ P).T, 1.0)  # (r, D), the diagonals of lam_i C^T S_i^-1 C
    info = share.T @ share
    signal = np.power(share, 3).sum(0) / np.maximum(np.square(share).sum(0), 1e-300)
    shape = C / np.diag(C)
    noise, noise_info = _noise(Sigma, P, inverse.T @ inverse + (float(spec.n) - len(lam)), kind)
    back = solve_triangular(shape, np.eye(D), lower=True)
    log_diag = np.log(np.diag(C)) + np.log(unit)
    return Guide(shape, back, log_diag, info**2 / (info + WARY), signal, unit * noise, noise_info)


def _noise(Sigma: np.ndarray, P: np.ndarray, together: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The noise and the information about it; together : (D, D), sums of products of the rows' inverse covariances."""
    if kind == "full":
        M = np.linalg.cholesky(Sigma)
        share = np.square(M.T @ P)
        return M, share @ together @ share.T
    sd = np.sqrt(np.diag(Sigma))
    if kind == "isotropic":
        return sd[0], 2.0 * np.trace(together)
    share = np.square(sd[:, None] * P)
    return sd, 2.0 * np.diag(share @ together @ share.T)


def _size(spec: Spectrum) -> float:
    """Root mean square of the labels."""
    return float(np.sqrt((np.square(spec.Z).sum() + np.trace(spec.R)) / float(spec.n) / spec.outputs)) or 1.0


def _estimates(spec: Spectrum, kind: str, sd: float | None, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Q drawn to I, and Sigma to half the labels' variance, over unit^2; nothing is smaller than FAR of it."""
    lam, Z, R, n = np.asarray(spec.lam)[:, None], spec.Z / unit, np.asarray(spec.R) / unit / unit, float(spec.n)
    D, few = spec.outputs, spec.outputs + 1.0
    half = np.maximum((np.square(Z).sum(0) + np.diag(R)) / n / 2.0, FAR)
    half = np.full(D, half.mean()) if kind == "isotropic" else half
    eye = np.eye(D) * np.clip(1.0 / unit, np.sqrt(FAR), 1.0 / np.sqrt(FAR)) ** 2
    Q = eye
    Sigma = np.diag(half) if sd is None else np.eye(D) * np.clip(sd / unit, FAR, 1.0 / FAR) ** 2
    prior = few * Sigma
    for _ in range(ROUNDS):
        q, P = eigh(Q, Sigma)  # P^T Q P = diag(q), P^T Sigma P = I
        q, M = np.maximum(q, 0.0), Sigma @ P
        inverse = 1.0 / (1.0 + lam * q)
        rest = Z @ P * inverse  # the noise's mean in this basis, and the function's
        signal = np.sqrt(lam) * q * rest
        new_Q = M @ (signal.T @ signal + np.diag((q * inverse).sum(0))) @ M.T
        new_Q = (new_Q + few * eye) / (len(lam) + few)
        new_Sigma = Sigma
        if sd is None:
            new_Sigma = M @ (rest.T @ rest + np.diag((lam * q * inverse).sum(0))) @ M.T + R + prior
            new_Sigma = new_Sigma / (n + few)
            if kind != "full":
                new_Sigma = np.diag(np.diag(new_Sigma))
            if kind == "isotropic":
                new_Sigma = np.eye(D) * np.trace(new_Sigma) / D
        moved = np.abs(P.T @ (new_Sigma - Sigma) @ P).max() * np.sqrt(n)
        moved = max(moved, np.abs(_relative(new_Q, Q)).max() * np.sqrt(len(lam)))
        Q, Sigma = new_Q, new_Sigma
        if moved < CLOSE:
            break
    return Q, Sigma


def _relative(change_to: np.ndarray, Q: np.ndarray) -> np.ndarray:
    L = np.linalg.cholesky(Q)
    half = solve_triangular(L, change_to - Q, lower=True)
    return solve_triangular(L, half.T, lower=True)
