"""The chain of triangular factors that either law of Q is, in coordinates that suit few labels and many alike.

C = F_1 F_2 ... F_m, factors lower triangular. Given the diagonals and the noise of the columns to the right, column j
of C below the diagonal is linear in its own noise, C_ij = sum_k H_k w_k (design section 3). A column is solved for row
by row, so that no S_j is formed and nothing costs more than the m products of the chain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayeslin.guide import Guide
from bayeslin.small import SMALL, product, solve_lower

TINY = 1e-36  # the variance of no noise


class Steps(NamedTuple):
    """All of a chain but its noise below the diagonal.

    before : (m, D), log C_ii when the noise of step k arrives; entry : (m, D), log of what column j has been multiplied
    by when that noise enters it; total : (D,), log C_ii at the end. sd : (m, D, D), of the noise, 0 where there is
    none. alive : (m + 1, D), which columns are there before each step and at the end. bend : what a noise matrix adds
    by its square, U = I + A + bend A^2.
    """

    before: Any
    entry: Any
    total: Any
    sd: Any
    alive: np.ndarray
    bend: float = 0.0


class Below(dist.Distribution):
    """The noise below the diagonal of a chain, (m, D (D - 1) / 2), columns of strictly lower matrices, as coordinates.

    The first of the m coordinates of an entry (i, j) places the endpoint C_ij: x = (C_ij - what the guide and the other
    noise expect) / (what both leave open). The other m - 1 are white noise across it. Without a guide all are white.
    """

    support = dist.constraints.real_matrix

    def __init__(self, steps: Steps, guide: Guide | None):
        self.steps, self.guide = steps, guide
        m, D = steps.before.shape
        self._known: tuple = (None, None)
        super().__init__(event_shape=(m, D * (D - 1) // 2))

    def path(self, value: Any) -> tuple[Any, Any]:
        """C (D, D) at the end, and the noise w (m, D, D) in units of its sds, of a value of the site."""
        C, noise, _, _ = self._solve(value)
        return C, noise

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw (*sample_shape, m, D (D - 1) / 2)."""
        white = jax.random.normal(key, (*sample_shape, *self.event_shape))
        if self.guide is None:
            return white
        place = jnp.vectorize(lambda one: _columns(one, self.steps, self.guide, True)[3], signature="(m,d)->(m,d)")
        return place(white)

    def log_prob(self, value: Any) -> Any:
        """Log density of values (..., m, D (D - 1) / 2)."""
        if jnp.ndim(value) == 2:
            return self._solve(value)[2]
        return jnp.vectorize(lambda one: _columns(one, self.steps, self.guide, False)[2], signature="(m,d)->()")(value)

    def _solve(self, value: Any) -> tuple:
        """Kept for the value at hand, so that model and density share the work."""
        if self._known[0] is not value:
            self._known = value, _columns(jnp.asarray(value), self.steps, self.guide, False)
        return self._known[1]


def turn_to_sum(normal: Any, weights: Any) -> Any:
    """Rotate along the first axis so that the first entry alone carries the sum weighted by `weights`, its sign turned.

    The labels inform sums over the layers well and differences hardly; in these coordinates each has its own scale, as
    NUTS with a diagonal mass matrix needs. A Householder reflection: its own inverse, and white noise stays white.
    Zero weights mark absent entries; the first is present where any is.
    """
    weights = jnp.asarray(weights)
    square = (weights**2).sum(0)
    present = square > 0
    mirror = (weights / jnp.sqrt(jnp.where(present, square, 1.0))).at[0].add(present)
    return normal - mirror * ((mirror * normal).sum(0) * 2.0 / jnp.where(present, (mirror**2).sum(0), 1.0))


def first_coordinate(centre: Any, spread: Any, guide: Guide | None) -> tuple[Any, Any]:
    """loc, scale (D,) of the standardised log C_ii = centre + spread (loc + scale x), by their guide; x is about white.

    Half the information on T_ii, in Q = C T T^T C^T, is that of a single entry, and log T_ii carries four times it.
    """
    if guide is None:
        return jnp.zeros_like(centre), jnp.ones_like(centre)
    open_ = 1.0 / (1.0 + 2.0 * jnp.diagonal(guide.info) * spread**2)
    return 2.0 * jnp.diagonal(guide.info) * spread * open_ * (guide.log_diag - centre), jnp.sqrt(open_)


class _Solved(NamedTuple):
    """A column below the diagonal, in the guide's basis: V C_>j,j / C_jj = end; moved (m, .), by each step."""

    end: Any
    moved: Any
    w: Any
    log_density: Any
    x: Any


def _columns(value: Any, steps: Steps, guide: Guide | None, white: bool) -> tuple[Any, Any, Any, Any]:
    """C, w (m, D, D), the log density and the coordinates, column by column from the right.

    value : coordinates, or, where `white`, the standard normals that C comes from.
    """
    D = steps.before.shape[1]
    V = jnp.eye(D, dtype=value.dtype) if guide is None else guide.shape_inverse.astype(value.dtype)
    info = None if guide is None else _information(guide, steps.total) * steps.alive[-1]
    below = np.tril(np.ones((D, D), bool), -1)
    reach = jnp.where(below, steps.before[:, :, None] - steps.entry[:, None, :], 0.0)  # of noise (i, j), beside C_jj
    share = steps.sd * jnp.exp(reach) * steps.alive[:-1, :, None]
    solve = _written_out if D <= SMALL else _looped
    N, w, log_density, x = solve(value, share, steps.bend, V, info, white)
    C = N if guide is None else product(guide.shape, N)
    log_density = log_density - 0.5 * value.size * np.log(2.0 * np.pi)
    return C * (jnp.exp(steps.total) * steps.alive[-1]), w, log_density, x


def _information(guide: Guide, total: Any) -> Any:
    """About C_ij / C_jj, (D, D), where the diagonal of C is exp(total): less as an output sinks into the noise."""
    ratio = jnp.exp(2.0 * (total - guide.log_diag))
    open_ = (1.0 - guide.signal) + guide.signal * ratio  # the labels' variance over that at the guide
    return guide.info * (ratio**2 / open_) / open_[:, None]


def _written_out(value, share, bend, V, info, white):
    m, D = share.shape[:2]
    ends = np.cumsum(np.arange(D - 1, 0, -1))
    P = jnp.ones((m, 1, 1), value.dtype)  # V C before each step, of the columns so far, each over its diagonal entry
    M = jnp.zeros_like(P)  # and V C A
    N, w, xs, log_density = [V[:, -1]], [jnp.zeros((m, D), value.dtype)], [], 0.0
    for j in range(D - 2, -1, -1):
        b = slice(j + 1, D)
        y = value[:, ends[j] - (D - 1 - j) : ends[j]]
        H = P + bend * M if bend else P
        found = _column(H, share[:, b, j], y, V[b, j], None if info is None else info[b, j], white)
        N.append(jnp.concatenate([V[: j + 1, j], found.end]))
        w.append(jnp.pad(found.w, ((0, 0), (j + 1, 0))))
        xs.append(found.x)
        log_density = log_density + found.log_density
        if j:
            column = V[b, j] + _earlier(found.moved)
            P = jnp.pad(jnp.concatenate([column[:, :, None], P], 2), ((0, 0), (1, 0), (0, 0))).at[:, 0, 0].set(1.0)
            if bend:
                M_j = (P[:, 1:, 1:] * (share[:, b, j] * found.w)[:, None, :]).sum(2)
                M = jnp.pad(jnp.concatenate([M_j[:, :, None], M], 2), ((0, 0), (1, 0), (0, 0)))
    x = jnp.concatenate(xs[::-1], 1) if xs else value
    return jnp.stack(N[::-1], 1), jnp.stack(w[::-1], 2), log_density, x


def _looped(value, share, bend, V, info, white):
    m, D = share.shape[:2]
    row, column = np.triu_indices(D, 1)[::-1]
    place = np.zeros((D, D), int)
    place[column, row] = np.arange(len(row))
    below = np.tril(np.ones((D, D), bool), -1)
    info = None if info is None else (info * below).T
    inputs = (
        jnp.arange(D),
        jnp.moveaxis(value[:, place] * below.T, 1, 0),  # (column, m, row)
        jnp.moveaxis(share * below, 2, 0),
        V.T,
        info,
    )

    def solve(carry, inputs):
        P, M, log_density = carry
        j, y, share, V_j, info = inputs
        found = _column(P + bend * M, share, y, V_j, info, white)
        P = P.at[:, :, j].set(V_j + _earlier(found.moved))
        M = M.at[:, :, j].set((P * (share * found.w)[:, None, :]).sum(2))
        return (P, M, log_density + found.log_density), (found.end, found.w, found.x)

    P = jnp.broadcast_to(V, (m, D, D))
    carry = (P, jnp.zeros_like(P), jnp.zeros((), value.dtype))
    carry, (N, w, x) = jax.lax.scan(solve, carry, inputs, reverse=True)
    return N.T, jnp.moveaxis(w, 0, 2), carry[2], x[column, :, row].T


def _column(P: Any, share: Any, y: Any, V_j: Any, info: Any, white: bool) -> _Solved:
    H = P * share[:, None, :]  # V C_>j,j / C_jj = V_j + sum_k H_k w_k
    spread = jnp.sqrt(jnp.maximum((share**2).sum(0), TINY))  # of an entry given the rows above it
    unit = share / spread
    rest = y.at[0].set(0.0)
    fold = (unit * rest).sum(0) / (1.0 + unit[0])
    across = rest.at[0].add(-fold) - unit * fold  # `turn_to_sum` of what leaves the sum as it is
    x = along = y[0]
    log_density = -0.5 * (across**2).sum()
    if info is not None:
        start = V_j + (H * across[:, None, :]).sum((0, 2))
        T = (H * unit[:, None, :]).sum(0)
        weight = spread * info
        gain = jnp.sqrt(1.0 + weight * spread)
        log_density = log_density - jnp.log(gain).sum()
        if white:
            x = (along + weight * ((T * along).sum(1) + start)) / gain
        else:
            along = solve_lower(jnp.eye(len(V_j), dtype=y.dtype) + weight[:, None] * T, gain * x - weight * start)
    w = across + unit * along
    moved = (H * w[:, None, :]).sum(2)
    return _Solved(V_j + moved.sum(0), moved, w, log_density - 0.5 * (along**2).sum(), y.at[0].set(x))


def _earlier(values: Any) -> Any:
    """Sums over earlier steps, (m, .); of many entries as one product, since a scan over few steps costs more."""
    if values.shape[1] < SMALL:  # a column of at most SMALL outputs, below the diagonal
        return jnp.cumsum(jnp.pad(values[:-1], ((1, 0), (0, 0))), 0)
    return jnp.asarray(np.tril(np.ones((len(values),) * 2), -1), values.dtype) @ values
