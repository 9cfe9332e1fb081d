"""A posterior as quadrature nodes: draws without error, with weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from bayeslin import checks
from bayeslin.correlation import to_correlation
from bayeslin.likelihood import conditional
from bayeslin.spectrum import Spectrum


@dataclass(frozen=True, eq=False, repr=False)
class ExactPosterior:
    """A posterior as quadrature nodes: draws without error, with weights that sum to one.

    Attributes
    ----------
    scale : (k, D, D), Q at the nodes; noise_cov : (k, D, D), Sigma there; weights : (k,).
    log_evidence : log density of the labels, Q and noise integrated out, in nats.
    errors : how much `mean`, `sd`, `correlation` and `log_evidence` moved, at most, from a coarser grid.
    grid, density : for one output, values of Q (g,) in ascending order and its marginal posterior density there.
    """

    scale: np.ndarray
    noise_cov: np.ndarray
    weights: np.ndarray
    log_evidence: float
    errors: dict[str, float]
    grid: np.ndarray | None
    density: np.ndarray | None
    _spec: Spectrum
    _s2: float

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of Q, (D, D)."""
        return self.expect(self.scale)

    @property
    def sd(self) -> np.ndarray:
        """Posterior standard deviation of every entry of Q, (D, D)."""
        return np.sqrt(self.expect((self.scale - self.mean) ** 2))

    @property
    def correlation(self) -> np.ndarray:
        """Posterior mean of rho_ab = Q_ab / sqrt(Q_aa Q_bb), (D, D)."""
        return self.expect(to_correlation(self.scale))

    def expect(self, values: Any) -> Any:
        """Posterior mean of any function of Q and Sigma, given by its values (k, ...) at the nodes."""
        return np.tensordot(self.weights, values, axes=1)

    def quantile(self, probability: float, values: Any = None) -> float:
        """Quantile of Q for one output; or of a function of Q and Sigma with values (k,) at the nodes.

        The first integrates the density; the second is as fine as the nodes are dense.
        """
        probability = checks.number(probability, "probability", above=0.0)
        if probability >= 1:
            raise checks.InputError(f"probability must lie between 0 and 1, got {probability}")
        if values is None and self.grid is not None and self.density is not None:
            u = np.log(self.grid)
            fine = np.linspace(u[0], u[-1], 64 * len(u))
            below = scipy.interpolate.CubicSpline(u, self.density * self.grid).antiderivative()(fine)
            return float(np.exp(np.interp(probability * below[-1], below, fine)))
        values = self.scale[:, 0, 0] if values is None else np.asarray(values)
        order = np.argsort(values)
        below = np.cumsum(self.weights[order]) - self.weights[order] / 2
        return float(np.interp(probability, below, values[order]))

    def predict(self, X_new: Any, *, noise: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m, D) and covariance (m, D, D) of f at X_new (m, p), or of labels there with noise=True."""
        X_new = checks.new_rows(X_new, len(self._spec.V))
        T, unreached = self._spec.project(X_new)
        kept = self.weights > 1e-16 * self.weights.max()
        nodes = self._s2 * self.scale[kept], self.noise_cov[kept]
        with jax.enable_x64(True):
            moments = _predict(*nodes, self.weights[kept], self._spec._replace(V=None, tol=None), T, unreached, noise)
        return np.asarray(moments[0]), np.asarray(moments[1])

    def __repr__(self) -> str:
        D, error = self.scale.shape[1], self.errors["log_evidence"]
        return f"ExactPosterior({D} x {D}, log evidence {self.log_evidence:.6g} +- {error:.1g})"


@partial(jax.jit, static_argnames="noise")
def _predict(Q: Any, Sigma: Any, weights: Any, spec: Spectrum, T: Any, unreached: Any, noise: bool) -> Any:
    given = jax.vmap(conditional, (0, 0, None))(Q, Sigma, spec)
    maps = given.coef @ jnp.swapaxes(given.M, 1, 2)
    mean_map = jnp.tensordot(weights, maps, axes=1)

    def one(row):
        t, u = row
        spread = (t**2) @ given.var + u * given.q + noise  # (k, D); labels: Sigma = M M^T
        moved = t @ (maps - mean_map)
        within = jnp.einsum("k,kad,kd,kbd->ab", weights, given.M, spread, given.M)
        return t @ mean_map, within + jnp.einsum("k,ka,kb->ab", weights, moved, moved)

    return jax.lax.map(one, (T, unreached))
