"""Leaving out one row: in closed form it is dense conditioning, and through ArviZ it is refitting without the row."""

import warnings

import jax
import numpy as np
import oracles
import pytest
import scipy.stats as st
from scipy.special import logsumexp

import bayeslin as bl
from bayeslin import loo
from bayeslin.diagnostics import mcse
from bayeslin.likelihood import conditional


def dense(Q, Sigma, X, Y, s2):
    """Log density of every row of labels given all the others."""
    found = []
    for i in range(len(X)):
        kept = np.arange(len(X)) != i
        mean, cov = oracles.condition(Q, Sigma, X[kept], Y[kept], X[i : i + 1], s2)
        found.append(st.multivariate_normal.logpdf(Y[i], mean[0], cov[0] + Sigma))
    return found


@pytest.mark.parametrize(("n", "p"), [(9, 3), (6, 11), (7, 7)], ids=["tall", "wide", "square"])
def test_densities_are_dense_conditioning_without_the_row(n, p, rng, float64):
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, 2))
    X[-1] = X[0]  # a repeated row
    Q, Sigma = oracles.wishart(rng, 2, size=(4,)), oracles.wishart(rng, 2, size=(4,))
    spec = bl.Spectrum.from_rows(X, Y)
    given = jax.vmap(conditional, (0, 0, None))(1.5 * Q, Sigma, spec._replace(V=None, tol=None))
    found = loo.log_likelihood_loo(given, spec, X, Y)
    expected = [dense(*draw, X, Y, 1.5) for draw in zip(Q, Sigma, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_an_exact_posterior_leaves_out_rows_exactly(linnerud):
    X, Y = linnerud
    post = bl.fit(bl.NNGP(), X, Y, noise=0.9)
    found = post.log_likelihood_loo()
    assert found.shape == (4, 1000, 20)
    assert (found == found[0, 0]).all()
    np.testing.assert_allclose(found[0, 0], dense(np.eye(3), 0.81 * np.eye(3), X, Y, 1.0), atol=1e-10)
    with pytest.raises(bl.InputError, match="needs the rows"):
        bl.fit(bl.NNGP(), bl.Spectrum.from_rows(X, Y), noise=0.9).log_likelihood_loo()


def relative_error(densities):
    """Of the mean over draws, row by row."""
    return mcse(densities) / densities.mean((0, 1))


def az_loo(post):
    import arviz as az

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter of Pareto distribution", UserWarning)
        return az.loo(post.to_arviz(), pointwise=True)


def pointwise(found):
    """Entries by row on both ArviZ lines."""
    entries = found.loo_i if hasattr(found, "loo_i") else found.elpd_i
    return np.asarray(entries), np.asarray(found.pareto_k)


@pytest.mark.filterwarnings("ignore:column .* has mean")
@pytest.mark.slow
def test_arviz_loo_is_refitting_without_the_row(linnerud):
    X, Y = linnerud
    law, settings = bl.Proportional(0.5), {"progress": False, "draws": 1000, "warmup": 500}
    post = bl.fit(law, X, Y, **settings)
    logs = post.log_likelihood_loo()
    ours, pareto_k = pointwise(az_loo(post))
    harmonic = -(logsumexp(-logs, axis=(0, 1)) - np.log(logs[..., 0].size))
    refitted, error = np.empty(20), relative_error(np.exp(-logs))
    for i in range(20):
        kept = np.arange(20) != i
        without = bl.fit(law, X[kept], Y[kept], **settings)
        refitted[i] = without.log_score(X[i : i + 1], Y[i : i + 1])[0]
        error[i] = np.hypot(error[i], relative_error(densities(without, X[i], Y[i])[..., None])[0])
    fine = pareto_k < 0.7
    assert fine.sum() >= 18
    assert (np.abs(ours - refitted)[fine] < 5 * error[fine]).all()
    assert (np.abs(harmonic - refitted)[fine] < 5 * error[fine]).all()
    arithmetic = logsumexp(logs, axis=(0, 1)) - np.log(logs[..., 0].size)
    assert not (np.abs(arithmetic - refitted)[fine] < 5 * error[fine]).all(), "the mean is not what PSIS smooths"


def densities(post, x, y):
    """Predictive density of one row of labels, draw by draw (chains, draws)."""
    T, unreached = post.spec.project(x[None])
    given = post.given
    error = y - np.einsum("i,csid,csad->csa", T[0], given.coef, given.M)
    spread = np.einsum("i,csid->csd", T[0] ** 2, given.var) + unreached[0] * given.q + 1.0
    cov = np.einsum("csad,csd,csbd->csab", given.M, spread, given.M)
    square = np.einsum("csa,csab,csb->cs", error, np.linalg.inv(cov), error)
    return np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * cov))


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values is deprecated")
@pytest.mark.slow
def test_pareto_k_is_small_on_penguins_and_arviz_compares_laws():
    import arviz as az

    data = bl.load_dataset("penguins").standardize()
    posts = {"NNGP": bl.NNGP(), "limit": bl.Proportional(0.5)}
    groups = {name: bl.fit(law, data.X, data.Y, progress=False).to_arviz() for name, law in posts.items()}
    for group in groups.values():
        assert group["log_likelihood"]["Y"].dims == ("chain", "draw", "obs")
        elpd, pareto_k = pointwise(az.loo(group, pointwise=True))
        assert len(elpd) == 333
        assert pareto_k.max() < 0.7
    table = az.compare(groups)
    assert set(table.index) == {"NNGP", "limit"}


def test_leaving_the_group_out_is_one_argument(linnerud):
    post = bl.fit(bl.NNGP(), *linnerud, noise=0.9)
    assert "log_likelihood" not in post.to_arviz(log_likelihood=False)
