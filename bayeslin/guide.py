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
FLAT = 0.1  # rows that half the labels' variance counts for, of full noise, whose prior is nearly flat in its entries
DOUBT = 1.0  # information about a residual's sd at which half of its output's squared correlations is kept
EDGES = 10.0 ** np.arange(-4, 3)  # of the groups of directions of like signal, by its variance over that of the noise
WARY = 20.0  # information below this is little trusted: with few directions the likelihood is far from quadratic


class Regressions(NamedTuple):
    """What the labels tell of full noise, as the regression of each output's noise on those before it.

    All in units of the noise M of the guide. log_sd : (D,), information about the logarithms of the residuals' sds.
    labels, signal : (groups, D), of directions of like signal, sums of squares of the labels and variances of the
    function: with noise of variances v the labels' share v_k / (v_k + signal_k) is noise of output k, and the
    information about its slope in the regression of output i, where the residual has the sd t, is the sum of squares
    of that share over t^2 + signal_i.
    """

    log_sd: Any
    labels: Any
    signal: Any


class Guide(NamedTuple):
    """Rough estimates and the expected information around them.

    Q is about C C^T, C = shape diag(exp(log_diag)) with a unit lower triangular `shape` (D, D). info : (D, D), of the
    labels about the entries of T on and below the diagonal where Q = C T T^T C^T; the effective number of directions.
    signal : (D,), the share of the signal in the labels' variance, in the directions that tell of it.
    noise : the sd (), the sds (D,), or for full noise (D, D), lower triangular with Sigma about noise noise^T;
    noise_info : likewise, about their logarithms; for full noise `Regressions`.
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
    P, inverse, together = _apart(Q, Sigma, spec)
    if kind == "full":
        Sigma = _doubted(Sigma, _about_residuals(Sigma, P, together))
        P, inverse, together = _apart(Q, Sigma, spec)
    share = np.minimum(lam * inverse @ np.square(C.T @ P).T, 1.0)  # (r, D), the diagonals of lam_i C^T S_i^-1 C
    info = share.T @ share
    signal = np.power(share, 3).sum(0) / np.maximum(np.square(share).sum(0), 1e-300)
    shape = C / np.diag(C)
    if kind == "full":
        noise, noise_info = _regressions(spec, unit, Q, Sigma, _about_residuals(Sigma, P, together))
    else:
        noise, noise_info = _sds(Sigma, P, together, kind)
    back = solve_triangular(shape, np.eye(D), lower=True)
    log_diag = np.log(np.diag(C)) + np.log(unit)
    return Guide(shape, back, log_diag, info**2 / (info + WARY), signal, unit * noise, noise_info)


def _sds(Sigma: np.ndarray, P: np.ndarray, together: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The sds of noise that is not correlated, and the information about their logarithms."""
    sd = np.sqrt(np.diag(Sigma))
    if kind == "isotropic":
        return sd[0], 2.0 * np.trace(together)
    share = np.square(sd[:, None] * P)
    return sd, 2.0 * np.diag(share @ together @ share.T)


def _apart(Q: np.ndarray, Sigma: np.ndarray, spec: Spectrum) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P (D, D) with P^T Sigma P = I, in whose basis the covariances S_i are diagonal, and their inverses (r, D) there.

    The third is (D, D), the sums over all rows, those without signal too, of the products of two inverses.
    """
    q, P = eigh(Q, Sigma)
    inverse = 1.0 / (1.0 + np.asarray(spec.lam)[:, None] * np.maximum(q, 0.0))
    return P, inverse, inverse.T @ inverse + (float(spec.n) - len(inverse))


def _about_residuals(Sigma: np.ndarray, P: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Information (D,) about the logarithms of the residual sds of each output on those before it."""
    share = np.square(np.linalg.cholesky(Sigma).T @ P)
    return np.diag(share @ together @ share.T)


def _doubted(Sigma: np.ndarray, info: np.ndarray) -> np.ndarray:
    """Sigma with smaller correlations where the labels say little, since the prior's sds are independent."""
    keep = np.sqrt(info / (info + DOUBT))
    return np.diag(np.diag(Sigma) * (1.0 - keep**2)) + Sigma * np.outer(keep, keep)


def _regressions(spec: Spectrum, unit: float, Q: np.ndarray, Sigma: np.ndarray, info: np.ndarray) -> Any:
    """The lower triangular factor of Sigma, and what the labels tell of noise in its units; info : about residuals."""
    M = np.linalg.cholesky(Sigma)
    white, lam = solve_triangular(M, np.eye(len(M)), lower=True) / unit, np.asarray(spec.lam)
    ratio = unit**2 * (white @ Q * white).sum(1)  # (D,), of signal to noise where lam is one
    group = np.digitize(lam * ratio.mean(), EDGES)
    of = group == np.arange(len(EDGES) + 1)[:, None]  # (groups, r)
    labels = of @ np.square(np.asarray(spec.Z) @ white.T)
    labels[0] += (white @ np.asarray(spec.R) * white).sum(1)  # rows without signal
    mean = of @ lam / np.maximum(of.sum(1), 1)
    return M, Regressions(info, labels, np.outer(mean, ratio))


def _size(spec: Spectrum) -> float:
    """Root mean square of the labels."""
    return float(np.sqrt((np.square(spec.Z).sum() + np.trace(spec.R)) / float(spec.n) / spec.outputs)) or 1.0


def _estimates(spec: Spectrum, kind: str, sd: float | None, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Q drawn to I, and Sigma to half the labels' variance, over unit^2; nothing is smaller than FAR of it."""
    lam, Z, R, n = np.asarray(spec.lam)[:, None], spec.Z / unit, np.asarray(spec.R) / unit / unit, float(spec.n)
    D, few = spec.outputs, spec.outputs + 1.0
    doubt = FLAT if kind == "full" else few
    half = np.maximum((np.square(Z).sum(0) + np.diag(R)) / n / 2.0, FAR)
    half = np.full(D, half.mean()) if kind == "isotropic" else half
    eye = np.eye(D) * np.clip(1.0 / unit, np.sqrt(FAR), 1.0 / np.sqrt(FAR)) ** 2
    Q = eye
    Sigma = np.diag(half) if sd is None else np.eye(D) * np.clip(sd / unit, FAR, 1.0 / FAR) ** 2
    prior = doubt * Sigma
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
            new_Sigma = new_Sigma / (n + doubt)
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
