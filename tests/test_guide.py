"""Guides are near the truth where labels tell it, and their information is the expected one."""

import jax
import numpy as np
import pytest

import bayeslin as bl
from bayeslin import guide as guides
from bayeslin.guide import guide_to

KINDS = ("isotropic", "diagonal", "full")


def regression(rng, n, p, D, Sigma):
    """Labels of a random map with output covariance Q, as statistics, and Q."""
    L = np.tril(rng.standard_normal((D, D)), -1) + np.diag(rng.uniform(0.5, 1.5, D))
    X = rng.standard_normal((n, p))
    W = rng.standard_normal((p, D)) @ L.T / np.sqrt(p)
    return bl.Spectrum.from_rows(X, X @ W + rng.standard_normal((n, D)) @ np.linalg.cholesky(Sigma).T), L @ L.T


@pytest.mark.parametrize("kind", KINDS)
def test_many_labels_are_followed(kind, rng):
    D, p = 3, 400
    Sigma = {"isotropic": 0.3 * np.eye(D), "diagonal": np.diag([0.1, 0.3, 0.9])}.get(kind, np.full((D, D), 0.2))
    Sigma = Sigma + (kind == "full") * 0.3 * np.eye(D)
    spec, Q = regression(rng, 4000, p, D, Sigma)
    found = guide_to(spec, kind, None)
    C = found.shape * np.exp(found.log_diag)
    error = 6 * np.sqrt(2 / p)  # of an entry, in units of the diagonal
    size = np.sqrt(np.outer(np.diag(Q), np.diag(Q)))
    assert (np.abs(C @ C.T - Q) < error * size).all()
    noise = found.noise @ found.noise.T if kind == "full" else found.noise**2 * np.eye(D)
    assert (np.abs(noise - Sigma) < 6 * np.sqrt(2 / (4000 - p)) * np.sqrt(np.outer(*[np.diag(Sigma)] * 2))).all()
    assert (found.info > p / 4).all()
    np.testing.assert_allclose(found.shape @ found.shape_inverse, np.eye(D), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_information_is_that_of_the_likelihood(kind, rng):
    """About entries of T: sums over rows of B_ii B_jj, B = C^T S^-1 C, each S inverted as such."""
    spec, _ = regression(rng, 60, 12, 3, 0.3 * np.eye(3))
    found = guide_to(spec, kind, None)
    C = found.shape * np.exp(found.log_diag)
    M = found.noise if kind == "full" else np.diag(np.broadcast_to(found.noise, 3))
    inverse = [np.linalg.inv(lam * C @ C.T + M @ M.T) for lam in np.pad(spec.lam, (0, int(spec.n) - spec.rank))]
    B = [lam * np.diag(C.T @ S @ C) for lam, S in zip(spec.lam, inverse[: spec.rank], strict=True)]
    info = sum(np.outer(b, b) for b in B)
    np.testing.assert_allclose(found.info, info**2 / (info + guides.WARY), rtol=1e-9)
    np.testing.assert_allclose(found.signal, sum(b**3 for b in B) / sum(b**2 for b in B), rtol=1e-9)
    if kind == "full":
        told = found.noise_info
        np.testing.assert_allclose(told.log_sd, sum(np.diag(M.T @ S @ M) ** 2 for S in inverse), rtol=1e-9)
        white = np.linalg.inv(M)
        np.testing.assert_allclose(
            told.labels.sum(0), np.diag(white @ (spec.Z.T @ spec.Z + spec.R) @ white.T), rtol=1e-9
        )
        np.testing.assert_allclose(told.labels[0], np.diag(white @ spec.R @ white.T), rtol=1e-9)  # the rest have signal
        ratio = np.diag(white @ C @ C.T @ white.T)
        for lam, z in zip(spec.lam, spec.Z @ white.T, strict=True):  # each direction is near the signal of its group
            group = np.abs(np.log(told.signal[:, 0] + 1e-9) - np.log(lam * ratio[0])).argmin()
            assert 0.1 < told.signal[group, 0] / (lam * ratio[0]) < 10.0
            assert (told.labels[group] >= z**2 * (1 - 1e-9)).all()
    elif kind == "diagonal":
        squares = sum((M @ S @ M) ** 2 for S in inverse)  # half the trace of two derivatives by log sd
        np.testing.assert_allclose(found.noise_info, 2 * np.diag(squares), rtol=1e-9)
    else:
        squares = sum(np.square(M @ S @ M).sum() for S in inverse)
        assert found.noise_info == pytest.approx(2 * squares, rel=1e-9)


def test_few_labels_and_none_that_tell_anything_leave_everything_near_the_prior(rng):
    spec = bl.Spectrum.from_rows(rng.standard_normal((3, 2)), 1e-3 * rng.standard_normal((3, 4)))
    found = guide_to(spec, "full", 1.0)
    assert (found.info < 1.0).all()
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(found))
    dark = spec._replace(lam=0.0 * spec.lam, Z=0.0 * spec.Z)
    found = guide_to(dark, "isotropic", None)
    np.testing.assert_allclose(found.shape * np.exp(found.log_diag), np.eye(4), atol=1e-6)
    assert (found.info == 0).all()


def test_a_known_noise_and_a_known_signal_are_taken(rng):
    spec, _ = regression(rng, 200, 20, 2, 0.25 * np.eye(2))
    known = guide_to(spec, "isotropic", 0.5)
    assert known.noise == pytest.approx(0.5)
    four = known.divided(4.0)
    np.testing.assert_allclose(four.log_diag, known.log_diag - np.log(2.0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
@pytest.mark.parametrize("noise", ["isotropic", "full"])
def test_more_rows_do_not_make_trajectories_longer(noise, rng):
    """At n = 1e9 the noise is known to 1e-5, the scale no better than before: the units must suit both."""
    X, W = rng.standard_normal((1000, 20)), rng.standard_normal((20, 2))
    spec = bl.Spectrum.from_rows(X, X @ W + rng.standard_normal((1000, 2)))
    many = spec._replace(lam=spec.lam * 1e6, Z=spec.Z * 1e3, R=spec.R * 1e6, n=spec.n * 10**6)
    for each in (spec, many):
        post = bl.fit(bl.Proportional(0.5), each, draws=200, warmup=300, noise=noise, progress=False)
        assert np.median(post.stats["n_steps"]) <= 15
        assert post.stats["diverging"].sum() == 0


def test_half_a_turn_takes_seven_leapfrogs():
    """At a target of 0.8 one tree in six doubles, and the smallest ESS per gradient falls by a quarter."""
    data = bl.load_dataset("linnerud").standardize()
    fits = [bl.fit(bl.FiniteNetwork((20,) * 10), data, seed=seed, progress=False) for seed in range(5)]
    assert np.mean([post.stats["n_steps"] for post in fits]) < 8.4


@pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
def test_as_many_features_as_rows_and_correlated_noise_leave_no_funnel():
    """A residual that may be small fixes its slopes; with slopes in fixed units 26, 17 and 16 draws diverge."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 12))
    noise = rng.standard_normal((12, 4)) @ np.linalg.cholesky(np.where(np.eye(4), 1.0, 0.95)).T / 2.0
    spec = bl.Spectrum.from_rows(X, X @ rng.standard_normal((12, 4)) / np.sqrt(12) + noise)
    options = dict(noise="full", draws=1000, warmup=700, progress=False)
    stats = [bl.fit(bl.NNGP(), spec, seed=seed, **options).stats for seed in range(3)]
    assert sum(each["diverging"].sum() for each in stats) <= 5
    assert max(np.median(each["n_steps"]) for each in stats) <= 15


@pytest.mark.parametrize("noise", [None, 0.5, 1e-9])
@pytest.mark.parametrize("size", [1e-160, 1e-8, 1e8, 1e12])
@pytest.mark.parametrize("labels", ["repeated", "one direction"])
def test_labels_of_any_size_and_deficient_ones_have_a_guide(labels, size, noise, rng):
    X = rng.standard_normal((8, 2))
    Y = np.repeat(X[:, :1], 2, 1) if labels == "repeated" else np.outer(X[:, 0], rng.standard_normal(4))
    found = guide_to(bl.Spectrum.from_rows(X, size * Y), "isotropic", noise)
    assert np.isfinite(np.concatenate([np.ravel(part) for part in found])).all()
    assert (found.info >= 0).all()
    assert ((found.signal >= 0) & (found.signal <= 1 + 1e-12)).all()


def test_the_unit_of_the_labels_only_moves_the_guide(rng):
    spec, _ = regression(rng, 200, 20, 3, 0.25 * np.eye(3))
    one, other = (guide_to(spec._replace(Z=unit * spec.Z, R=unit**2 * spec.R), "full", None) for unit in (1e6, 1e7))
    np.testing.assert_allclose(other.log_diag - one.log_diag, np.log(10.0), rtol=1e-9)
    np.testing.assert_allclose(other.noise, 10.0 * one.noise, rtol=1e-9)
    np.testing.assert_allclose(other.info, one.info, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning", "ignore:output")
def test_labels_that_fix_everything_leave_the_density_finite():
    X = np.random.default_rng(0).standard_normal((8, 2))
    labels = np.repeat(1e6 * X[:, :1], 2, 1)
    post = bl.fit(bl.Proportional(0.5), X, labels, noise=0.5, draws=5, warmup=5, progress=False)
    assert np.isfinite(post.stats["lp"]).all()
