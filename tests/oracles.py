"""Dense, slow and independent: every fast path of the package is checked against one of these."""

import numpy as np
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
