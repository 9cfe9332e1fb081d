"""Dense, slow and independent: every fast path of the package is checked against one of these."""

import itertools

import numpy as np
import scipy.interpolate as interpolate
import scipy.stats as st


def covariance(Q, Sigma, X, s2=1.0):
    """Covariance of the stacked labels (n D, n D), rows outermost."""
    n, p = X.shape
    return np.kron(s2 * X @ X.T / p, Q) + np.kron(np.eye(n), Sigma)


def log_marginal(Q, Sigma, X, Y, s2=1.0):
    return st.multivariate_normal.logpdf(Y.ravel(), cov=covariance(Q, Sigma, X, s2))


def condition(Q, Sigma, X, Y, X_new, s2=1.0):
    """Mean (m, D) and covariance (m, D, D) of f at new inputs, by dense conditioning."""
    m, D, p = len(X_new), len(Q), X.shape[1]
    solve = np.linalg.solve(covariance(Q, Sigma, X, s2), np.column_stack([Y.ravel(), np.eye(Y.size)]))
    cross = np.kron(s2 * X_new @ X.T / p, Q)
    prior = np.kron(s2 * X_new @ X_new.T / p, Q)
    cov = prior - cross @ solve[:, 1:] @ cross.T
    return (cross @ solve[:, 0]).reshape(m, D), np.array([cov[i * D : i * D + D, i * D : i * D + D] for i in range(m)])


def wishart(rng, D, degrees=None, size=()):
    """Positive definite test matrices with a few degrees of freedom."""
    A = rng.standard_normal((*size, D, degrees or D + 3))
    return A @ np.swapaxes(A, -1, -2) / A.shape[-1]


def network_scale(rng, widths, outputs, count):
    """Q of literal random weights: H H^T with H = W_{L+1} ... W_2 / sqrt(N_1 ... N_L)."""
    H = np.broadcast_to(np.eye(outputs), (count, outputs, outputs))
    for width in reversed(widths):
        H = H @ rng.standard_normal((count, H.shape[2], width)) / np.sqrt(width)
    return H @ np.swapaxes(H, 1, 2)


def reduced_log_marginal(Q, Sigma, lam, Z, R, n):
    """The same density from the statistics alone, one row at a time."""
    rows = sum(
        st.multivariate_normal.logpdf(z, cov=eigenvalue * Q + Sigma) for eigenvalue, z in zip(lam, Z, strict=True)
    )
    rest = (n - len(lam)) * np.linalg.slogdet(2 * np.pi * Sigma)[1] + np.trace(np.linalg.solve(Sigma, R))
    return rows - rest / 2


def slope(function, at, direction, step=1e-3):
    """Derivative along a direction: central differences at three steps, extrapolated to an error of order step^6."""
    rough = [
        (function(at + size * direction) - function(at - size * direction)) / (2 * size)
        for size in (step, step / 2, step / 4)
    ]
    finer = [(4 * rough[1] - rough[0]) / 3, (4 * rough[2] - rough[1]) / 3]
    return (16 * finer[1] - finer[0]) / 15


def within(draws, expected, count=5.0):
    """Whether means over the leading axis agree with what is expected, every entry, within `count` standard errors."""
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    return bool((np.abs(draws.mean(0) - expected) <= count * error + 1e-12).all())


def agree(ours, theirs, count=5.0):
    """Whether the means of two independent samples agree, every entry, within `count` standard errors."""
    error = np.hypot(ours.std(0, ddof=1) / np.sqrt(len(ours)), theirs.std(0, ddof=1) / np.sqrt(len(theirs)))
    return bool((np.abs(ours.mean(0) - theirs.mean(0)) <= count * error + 1e-12).all())


# The discretised limit (design section 3), without sampling


def scheme_spans(alpha, steps):
    """Time spent in each diagonal factor: half a step at both ends."""
    h = alpha / steps
    return np.array([h / 2] + [h] * (steps - 1) + [h / 2])


def scheme_sd(h, D):
    """Standard deviations of A_ij, i > j, in the order of np.tril_indices."""
    i, j = np.tril_indices(D, -1)
    return np.sqrt(h + (i - j - 1) * h**2 / 4)


def scheme_step(A):
    """U = I + A + A^2 / 2, to second order the exponential of A, and that itself for up to three outputs."""
    return np.eye(A.shape[-1]) + A + A @ A / 2


def scheme_factor(alpha, diagonal, lower):
    """C from white noise: diagonal (m + 1, D) and lower (m, D, D), a dense product of its factors."""
    (points, D), h = diagonal.shape, alpha / len(lower)
    C = np.eye(D)
    for k, span in enumerate(scheme_spans(alpha, points - 1)):
        A = np.zeros((D, D))
        if k:
            A[np.tril_indices(D, -1)] = scheme_sd(h, D) * lower[k - 1][np.tril_indices(D, -1)]
        C = C @ scheme_step(A) @ np.diag(np.exp(np.sqrt(span / 2) * diagonal[k] - np.arange(1, D + 1) * span / 2))
    return C


def scheme_moments(alpha, steps, D):
    """E Q_ab and E Q_ab Q_cd of the discretised limit, exactly.

    A factor F that multiplies from the left carries E[S (x) S] linearly to E[FSF' (x) FSF']. A diagonal factor has
    lognormal moments; an entry of U has degree one in every entry of A, so that three Gauss-Hermite nodes for
    each are exact for products of four.
    """
    i, j = np.tril_indices(D, -1)
    nodes, weights = np.sqrt(3) * np.array([-1, 0, 1]), np.array([1, 4, 1]) / 6
    choices = np.array(list(itertools.product(range(3), repeat=len(i))))
    A = np.zeros((len(choices), D, D))
    A[:, i, j] = scheme_sd(alpha / steps, D) * nodes[choices]
    U, chance = scheme_step(A), weights[choices].prod(1)
    UU = np.einsum("nai,nbj->nabij", U, U).reshape(-1, D * D, D * D)
    four = np.einsum("nAI,nBJ,n->ABIJ", UU, UU, chance, optimize=True).reshape(D**4, D**4)
    two = np.einsum("nAI,n->AI", UU, chance)

    def stretch(span, indices):
        power = np.stack([sum(index == k for index in indices) for k in range(D)], -1)
        return np.exp((power**2 * span / 4 - power * np.arange(1, D + 1) * span / 2).sum(-1)).ravel()

    first, second = np.eye(D).ravel(), np.outer(np.eye(D), np.eye(D)).ravel()
    pairs, quadruples = np.indices((D,) * 2), np.indices((D,) * 4)
    for k, span in enumerate(scheme_spans(alpha, steps)):
        if k:
            first, second = two @ first, four @ second
        first, second = stretch(span, pairs) * first, stretch(span, quadruples) * second
    return first.reshape((D,) * 2), second.reshape((D,) * 4)


def scheme_corr_sq(alpha, steps, size=24):
    """E corr^2 of two outputs in the discretised limit, by backward recursion: C_21 / C_22 is a Markov chain."""
    x = np.linspace(0, 30, 751)  # asinh of the ratio
    value = np.tanh(x) ** 2
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    weights = weights / weights.sum()
    for span in scheme_spans(alpha, steps)[:0:-1]:
        shifted = np.sinh(x)[:, None, None] + np.sqrt(alpha / steps) * nodes[:, None]
        after = np.arcsinh(np.abs(shifted * np.exp(span / 2 + np.sqrt(span) * nodes)))
        value = interpolate.CubicSpline(x, value)(np.minimum(after, x[-1])) @ weights @ weights
    return value[0]


def limit_corr_sq(alpha):
    """E corr^2 of two outputs in the limit: the mean of 1 - 1/cosh r over the hyperbolic radius at time alpha."""
    r = np.linspace(0, 8 * np.sqrt(alpha) + alpha, 2001)[1:, None]
    w = np.linspace(0, np.sqrt(10 * np.sqrt(alpha)), 2001)[1:]
    w = w - w[0] / 2  # midpoints; u = r + w^2 takes the root's singularity away
    u = r + w**2
    root = np.sqrt(2 * np.sinh(r + w**2 / 2) * np.sinh(w**2 / 2))  # of cosh u - cosh r
    density = np.sinh(r[:, 0]) * (u * np.exp(-(u**2) / (2 * alpha)) * 2 * w / root).sum(1)
    return 1 - (density / np.cosh(r[:, 0])).sum() / density.sum()
