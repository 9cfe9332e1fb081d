"""Fits and what follows from them, against brute force on a few draws."""

import re
import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import oracles
import pandas as pd
import pytest
import scipy.special
import scipy.stats as st

import bayeslin as bl
from bayeslin import diagnostics, prediction
from bayeslin.correlation import to_correlation
from bayeslin.diagnostics import diagnose, mcse, write_netcdf

SMALL = {"draws": 1000, "warmup": 500, "chains": 4, "progress": False}
QUIET = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    return bl.data.teacher(30, 4, 3, seed=5, correlation=0.6).dataset.standardize()


@pytest.fixture(scope="module")
def post(data):
    return bl.fit(bl.Proportional(0.5, signal_variance=1.5), data.X, data.Y, **SMALL)


@pytest.fixture(scope="module")
def few(data):
    """Ten draws, so that dense conditioning can follow each of them."""
    with pytest.warns(bl.ConvergenceWarning):
        return bl.fit(bl.Proportional(0.5, signal_variance=1.5), data.X, data.Y, **SMALL | {"draws": 5, "chains": 2})


def dense(post, X_new):
    """Conditional means (s, m, D) and covariances (s, m, D, D) of each draw."""
    X, Y = post.rows
    D = post.spec.outputs
    draws = zip(post.scale.reshape(-1, D, D), post.noise_cov.reshape(-1, D, D), strict=True)
    pairs = [oracles.condition(Q, Sigma, X, Y, X_new, post.law.signal_variance) for Q, Sigma in draws]
    return tuple(map(np.array, zip(*pairs, strict=True)))


@pytest.fixture(scope="module")
def X_new():
    return np.random.default_rng(1).standard_normal((6, 4))


@pytest.mark.parametrize("noise", [False, True])
def test_predictions_are_the_mixture_of_dense_conditionals(few, X_new, noise, monkeypatch):
    means, covs = dense(few, X_new)
    covs = covs + noise * few.noise_cov.reshape(-1, 1, 3, 3)
    moved = means - means.mean(0)
    expected = covs.mean(0) + np.einsum("sma,smb->mab", moved, moved) / len(means)
    for block in (prediction.BLOCK, 40):
        monkeypatch.setattr(prediction, "BLOCK", block)
        found = few.predict(X_new, noise=noise)
        np.testing.assert_allclose(found.mean, means.mean(0), atol=1e-10)
        np.testing.assert_allclose(found.cov, expected, atol=1e-10)
        np.testing.assert_allclose(found.std**2, np.diagonal(expected, axis1=1, axis2=2), atol=1e-10)
        sd = np.sqrt(np.diagonal(covs, axis1=2, axis2=3))
        lower, upper = found.interval(0.8)
        np.testing.assert_allclose(st.norm.cdf((lower - means) / sd).mean(0), 0.1, atol=1e-9)
        np.testing.assert_allclose(st.norm.cdf((upper - means) / sd).mean(0), 0.9, atol=1e-9)


def test_log_score_is_the_log_of_the_mean_dense_density(few, X_new, rng):
    Y_new = rng.standard_normal((6, 3))
    means, covs = dense(few, X_new)
    covs = covs + few.noise_cov.reshape(-1, 1, 3, 3)
    logs = np.array(
        [
            [st.multivariate_normal.logpdf(Y_new[row], means[draw, row], covs[draw, row]) for row in range(6)]
            for draw in range(len(means))
        ]
    )
    expected = scipy.special.logsumexp(logs, axis=0) - np.log(len(means))
    np.testing.assert_allclose(few.log_score(X_new, Y_new), expected, atol=1e-10)


def test_samples_have_the_moments_of_the_mixture_jointly_over_rows(few, X_new):
    found = few.predict(X_new[:3], noise=True)
    f = found.sample(jax.random.key(0), (40_000,))
    error = f.std(0) / 200
    assert (np.abs(f.mean(0) - found.mean) < 5 * error).all()
    products = (f - found.mean)[:, :, :, None] * (f - found.mean)[:, :, None, :]
    assert (np.abs(products.mean(0) - found.cov) < 5 * products.std(0) / 200).all()
    doubled = few.predict(np.vstack([X_new[:1], 2 * X_new[:1]])).sample(jax.random.key(1), (10,))
    np.testing.assert_allclose(doubled[:, 1], 2 * doubled[:, 0], rtol=1e-9)  # one function for all rows


def test_the_origin_is_known(few):
    found = few.predict(np.zeros((1, 4)))
    assert (found.mean == 0).all()
    assert (found.std == 0).all()
    assert (found.interval(0.9) == 0).all()


def test_function_correlations_are_sums_of_dense_covariances(few, X_new):
    means, covs = dense(few, X_new)
    within = covs.sum(1).mean(0)
    moved = means - means.mean(0)
    total = within + np.einsum("sma,smb->ab", moved, moved) / len(means)
    found = few.output_correlation(X_new)
    np.testing.assert_allclose(found.function_within, to_correlation(within), atol=1e-10)
    np.testing.assert_allclose(found.function, to_correlation(total), atol=1e-10)
    np.testing.assert_allclose(found.scale, to_correlation(few.scale).mean((0, 1)), atol=1e-12)
    at_rows, by_default = few.output_correlation(few.rows[0]), few.output_correlation()
    np.testing.assert_allclose(at_rows.function, by_default.function, atol=1e-12)


@QUIET
@pytest.mark.slow
def test_function_mcse_is_the_spread_over_seeds(data):
    law, seeds = bl.Proportional(0.5), range(40)
    found = [bl.fit(law, data.X, data.Y, **SMALL | {"seed": seed}).output_correlation() for seed in seeds]
    for what in ("function", "scale"):
        spread = np.std([getattr(corr, what)[0, 1] for corr in found], ddof=1)
        told = np.mean([getattr(corr, f"{what}_mcse")[0, 1] for corr in found])
        assert spread / 1.6 < told < spread * 1.6  # sd of an sd over 40 fits is about 11 %


@QUIET
@pytest.mark.parametrize("noise", ["isotropic", "diagonal", 0.5], ids=str)
def test_nngp_outputs_are_exactly_independent_within_draws(data, noise):
    found = bl.fit(bl.NNGP(), data.X, data.Y, noise=noise, **SMALL).output_correlation()
    off = ~np.eye(3, dtype=bool)
    assert (found.scale[off] == 0).all()
    assert (found.function_within[off] == 0).all()
    assert (found.function[off] == 0).all() == (noise == 0.5), "with inferred noise the outputs share it"


def test_nngp_with_known_noise_is_exact(data, X_new):
    post = bl.fit(bl.NNGP(signal_variance=1.3), data.X, data.Y, noise=0.4, **SMALL)
    assert post.exact
    assert (post.predict(data.X).cov[:, ~np.eye(3, dtype=bool)] == 0).all()
    assert post.scale.shape == post.noise_cov.shape == (4, 1000, 3, 3)
    assert post.alpha.shape == post.signal_variance.shape == (4, 1000)
    mean, cov = oracles.condition(np.eye(3), 0.16 * np.eye(3), data.X, data.Y, X_new, 1.3)
    np.testing.assert_allclose(post.predict(X_new).mean, mean, atol=1e-12)
    np.testing.assert_allclose(post.predict(X_new).cov, cov, atol=1e-12)
    assert "exact" in repr(post)
    for law in (bl.FiniteNetwork(()), bl.Proportional(0)):
        assert bl.fit(law, data.X, data.Y, noise=0.4).exact


def test_a_spectrum_stands_for_its_rows(data, post, X_new):
    again = bl.fit(bl.Proportional(0.5, signal_variance=1.5), bl.Spectrum.from_rows(data.X, data.Y), **SMALL)
    np.testing.assert_allclose(again.predict(X_new).mean, post.predict(X_new).mean, rtol=1e-12)
    assert again.rows is None


def test_the_order_of_rows_does_not_matter(data, post, rng):
    order = rng.permutation(len(data.X))
    again = bl.fit(bl.Proportional(0.5, signal_variance=1.5), data.X[order], data.Y[order], **SMALL)
    error = np.hypot(mcse(again.scale), mcse(post.scale))
    assert (np.abs(again.scale.mean((0, 1)) - post.scale.mean((0, 1))) < 5 * error).all()


def test_rotated_labels_give_the_rotated_scale(data, post, rng):
    R, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turned = R @ bl.fit(bl.Proportional(0.5, signal_variance=1.5), data.X, data.Y @ R, **SMALL).scale @ R.T
    error = np.hypot(mcse(turned), mcse(post.scale))
    assert (np.abs(turned.mean((0, 1)) - post.scale.mean((0, 1))) < 5 * error + 0.01).all(), "0.01: the O(h^2) bias"


@QUIET
@pytest.mark.slow
def test_every_hyperparameter_may_be_random(data):
    law = bl.Proportional(dist.LogNormal(-1.0, 0.5), signal_variance=dist.LogNormal(0.0, 0.5))
    post = bl.fit(law, data.X, data.Y, noise="full", **SMALL)
    for draws in (post.alpha, post.signal_variance, post.noise_cov[..., 0, 1]):
        assert draws.std() > 0.01
    assert {"alpha", "signal_variance", "noise_sd"} <= set(post.to_arviz().posterior.data_vars)


@pytest.mark.slow
def test_full_noise_finds_the_correlation_of_the_residuals(rng):
    X = rng.standard_normal((200, 2))
    L = np.array([[0.8, 0.0], [0.48, 0.36]])  # sds 0.8 and 0.6, correlation 0.8
    Y = X @ rng.standard_normal((2, 2)) * 0.3 + rng.standard_normal((200, 2)) @ L.T
    post = bl.fit(bl.Proportional(0.5), X - X.mean(0), Y - Y.mean(0), noise="full", **SMALL)
    low, high = np.quantile(to_correlation(post.noise_cov)[..., 0, 1], [0.0005, 0.9995])
    assert low < 0.8 < high
    assert 0.05 < high - low < 0.4


# Names, warnings, errors


def test_names_come_from_data_frames(data):
    X = pd.DataFrame(data.X, columns=list("abcd"))
    post = bl.fit(bl.NNGP(), X, pd.DataFrame(data.Y, columns=["u", "v", "w"]), noise=0.5)
    assert post.feature_names == ("a", "b", "c", "d")
    assert post.output_names == ("u", "v", "w")


def test_data_frames_to_predict_need_the_columns_of_the_fit(data):
    X = pd.DataFrame(data.X, columns=list("abcd"))
    post = bl.fit(bl.NNGP(), X, data.Y, noise=0.5)
    np.testing.assert_array_equal(post.predict(X).mean, post.predict(data.X).mean)
    np.testing.assert_array_equal(post.predict(X[list("abdc")].assign(e=1.0)).mean, post.predict(data.X).mean)
    with pytest.raises(bl.InputError, match=r"X_new has the columns.*'b', 'd', 'z'.*give those"):
        post.predict(X.rename(columns={"c": "z"})[list("abdz")])


@QUIET
@pytest.mark.parametrize(
    ("factor", "law", "noise", "message"),
    [
        (50.0, bl.NNGP(), "isotropic", r"root mean square 50.*half-normal with scale 1: standardise the labels"),
        (0.01, bl.NNGP(2.0), "isotropic", r"root mean square 0.01.*half-normal"),
        (50.0, bl.NNGP(), 10.0, r"root mean square 50.*signal variance is 1: standardise the labels"),
        (50.0, bl.NNGP(), dist.HalfNormal(50.0), r"signal variance is 1"),
        (50.0, bl.NNGP(2500.0), dist.HalfNormal(50.0), None),
        (0.01, bl.NNGP(), 0.01, None),
    ],
)
def test_labels_far_from_what_priors_expect_are_said(factor, law, noise, message, data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bl.fit(law, data.X, factor * data.Y, noise=noise, **SMALL | {"draws": 5, "warmup": 5})
    said = [str(one.message) for one in caught if one.category is UserWarning]
    assert len(said) == (message is not None)
    assert message is None or re.search(message, said[0])


def test_too_few_draws_are_said_in_plain_words(data):
    with pytest.warns(bl.ConvergenceWarning, match=r"too few draws.*raise warmup and draws"):
        bl.fit(bl.NNGP(), data.X, data.Y, **SMALL | {"draws": 20})


def test_one_chain_is_judged_by_its_halves(rng, capsys, caplog):
    still = rng.standard_normal((1, 2001, 2))
    found = diagnose([still], np.zeros((1, 2001), bool))
    assert found.converged
    assert not diagnose([np.cumsum(still, 1)], np.zeros((1, 2001), bool)).converged
    assert np.isnan(diagnose([still[:, :5]], np.zeros((1, 5), bool)).rhat_max)
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_symmetric_matrices_are_judged_once_for_each_entry(rng, monkeypatch):
    lower = rng.standard_normal((4, 100, 6))
    Q = np.zeros((4, 100, 3, 3))
    Q[..., *np.tril_indices(3)] = lower
    Q[..., *np.triu_indices(3)] = np.swapaxes(Q, 2, 3)[..., *np.triu_indices(3)]
    judged, rhat = [], diagnostics._rhat
    monkeypatch.setattr(diagnostics, "_rhat", lambda column: judged.append(column) or rhat(column))
    diverging = np.zeros((4, 100), bool)
    whole = diagnose([Q, 2.0 * np.ones((4, 100, 2))], diverging)
    assert len(judged) == 6
    assert whole == diagnose([lower], diverging)
    judged.clear()
    diagnose([lower[..., :1, None] ** 2 * np.eye(3)], diverging)  # isotropic noise
    assert len(judged) == 1


def test_uncentred_columns_are_said_with_the_remedy(data):
    with pytest.warns(UserWarning, match=r"column 1 of Y has mean 3.*standardize"):
        bl.fit(bl.NNGP(), data.X, data.Y + np.array([0.0, 3.0, 0.0]), noise=0.5)


ROWS = np.random.default_rng(0).standard_normal((8, 2))
LABELS = np.random.default_rng(1).standard_normal((8, 3))
ROWS, LABELS = ROWS - ROWS.mean(0), LABELS - LABELS.mean(0)


def changed(array, row, column, value):
    array = array.copy()
    array[row, column] = value
    return array


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.fit(0.5, ROWS, LABELS), r"law must be a law such as bl\.Proportional"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS.T), "one row per example"),
        (lambda: bl.fit(bl.NNGP(), LABELS.T[:, :2], LABELS[:2]), "one row per example"),
        (lambda: bl.fit(bl.NNGP(), ROWS.T, ROWS[:3]), "one row per example"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS[:, :0]), "Y is empty"),
        (lambda: bl.fit(bl.NNGP(), ROWS[:1], LABELS[:1]), "at least two rows"),
        (lambda: bl.fit(bl.NNGP(), changed(ROWS, 2, 1, np.nan), LABELS), "X holds nan in row 2, column 1"),
        (lambda: bl.fit(bl.NNGP(), ROWS, changed(LABELS, 7, 0, np.inf)), "Y holds inf in row 7, column 0"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS * [1, 1, 0]), "column 2 of Y is constant"),
        (lambda: bl.fit(bl.NNGP(), [["a", "b"]], [[1.0]]), "numbers only"),
        (lambda: bl.fit(bl.NNGP(), np.zeros((8, 2)), LABELS), "every entry of X is zero"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=0), "noise must be a finite number above"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise="loud"), "isotropic"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=np.nan), "noise"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, draws=0), "draws must be an integer of at least 1"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, warmup=-1), "warmup"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, chains=1.5), "chains"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, seed=-1), "seed"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, space="function"), '"scale" or "weights"'),
        (lambda: bl.fit(bl.Proportional(0.5), ROWS, LABELS, space="weights"), "needs a FiniteNetwork"),
        (lambda: bl.fit(bl.NNGP(), bl.Spectrum.from_rows(ROWS, LABELS), LABELS), "leave Y out"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, output_names=["a", "b"]), "3 distinct output names"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, feature_names=["a", "a"]), "2 distinct feature names"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(LABELS), "X_new has 3 columns"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(ROWS).interval(1.2), "coverage"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(ROWS).quantile(0), "probability"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).log_score(ROWS, ROWS), r"shape \(8, 3\)"),
        (lambda: bl.fit(bl.NNGP(), ROWS), "labels Y are missing"),
        (lambda: bl.fit(bl.NNGP(), np.ma.masked_greater(ROWS, 0), LABELS), "masked entries"),
        (lambda: bl.fit(bl.NNGP(), ROWS * 1j, LABELS), "real numbers, got complex128"),
        (lambda: bl.fit(bl.NNGP(), ROWS.astype("datetime64[s]"), LABELS), "real numbers, got datetime64"),
        (lambda: bl.fit(bl.NNGP(), ROWS * 1e200, LABELS), "rescale the columns"),
        (lambda: bl.fit(bl.NNGP(), ROWS * 1e-200, LABELS), "rescale the columns"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1e-170), "noise must be a finite number above"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, seed=2**70), "seed"),
        (lambda: bl.fit(bl.NNGP(), bl.Spectrum.from_rows(ROWS, LABELS).padded()), "padded for sampling"),
        (lambda: bl.Spectrum.from_rows(ROWS, LABELS, tol=2.0), "below 1"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(ROWS[:0]), "at least one row"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(ROWS[0]), r"one row is X_new\[None\]"),
        (lambda: bl.fit(bl.NNGP(), ROWS, LABELS, noise=1).predict(ROWS).sample(jax.random.key(0), 5), "a tuple"),
        (lambda: bl.NNGP().sample_scale(jax.random.key(0), outputs=2, shape=5), "a tuple"),
        (lambda: bl.models.functions(ROWS, law=bl.NNGP(), outputs=0), "outputs"),
        (lambda: bl.models.network(ROWS, widths=(3,), outputs=2, signal_variance=-1.0), "signal_variance"),
        (lambda: bl.models.scale_mixture(bl.Spectrum.from_rows(ROWS, LABELS), law=bl.NNGP(), outputs=2), "outputs=3"),
        (lambda: bl.models.scale_mixture(ROWS, LABELS, law=bl.NNGP(), outputs=2), r"\(8, 2\)"),
    ],
)
def test_bad_input_is_refused_at_the_door(call, message):
    with pytest.raises(bl.InputError, match=message):
        call()


# ArviZ


def test_arviz_groups_names_and_round_trip(data, post, tmp_path):
    import arviz as az

    found = post.to_arviz()
    assert found["posterior"]["scale"].dims == ("chain", "draw", "output", "output_other")
    assert found["posterior"]["scale"].shape == (4, 1000, 3, 3)
    assert found["observed_data"]["Y"].dims == ("obs", "output")
    assert found["constant_data"]["X"].dims == ("obs", "feature")
    assert list(found["posterior"]["output"].values) == ["0", "1", "2"]
    assert set(found["sample_stats"].data_vars) >= {"diverging", "energy", "tree_depth", "step_size", "n_steps", "lp"}
    attributes = found["posterior"].attrs
    assert attributes["law"] == "Proportional(0.5, signal_variance=1.5)"
    assert (attributes["package"], attributes["seed"]) == ("bayeslin", 0)
    write_netcdf(found, tmp_path / "post.nc")
    again = az.from_netcdf(str(tmp_path / "post.nc"))
    np.testing.assert_array_equal(again["posterior"]["scale"].values, post.scale)
    entry = found["posterior"]["scale_correlation"].sel(output="0", output_other="1").values
    assert float(az.rhat(entry)) <= post.diagnosis.rhat_max
    assert float(az.ess(entry)) >= post.diagnosis.ess_min
    assert not az.summary(found, var_names=["noise_sd"]).empty


@QUIET
@pytest.mark.parametrize(
    ("law", "settings"),
    [
        (bl.FiniteNetwork((5, 4)), {"noise": "diagonal"}),
        (bl.FiniteNetwork((5, 4)), {"space": "weights"}),
        (bl.Proportional(dist.LogNormal(-1.0, 0.5), steps=2), {}),
    ],
    ids=["factors", "weights", "limit"],
)
@pytest.mark.slow
def test_every_site_arrives_in_arviz_with_named_dimensions(law, settings, data):
    post = bl.fit(law, data.X, data.Y, **SMALL | settings | {"draws": 10, "warmup": 10})
    found = post.to_arviz()["posterior"]
    assert set(post.sites) | {"scale_correlation"} == set(found.data_vars)
    assert not [dim for dim in found.dims if "_dim_" in str(dim)]
    if "W_1" in post.sites:
        assert [found[f"W_{layer}"].dims[2:] for layer in (1, 2, 3)] == [
            ("unit_1", "feature"), ("unit_2", "unit_1"), ("output", "unit_2"),
        ]  # fmt: skip
    elif isinstance(law, bl.FiniteNetwork):
        assert found["factors"].shape == (4, 10, 2, 3, 3)
        assert found["noise_sd"].dims == ("chain", "draw", "output")


def test_arviz_of_a_spectrum_and_of_an_exact_posterior(data):
    exact = bl.fit(bl.NNGP(), bl.Spectrum.from_rows(data.X, data.Y), noise=0.5, **SMALL).to_arviz()
    assert exact["observed_data"]["Z"].dims == ("direction", "output")
    assert exact["posterior"]["scale"].shape == (4, 1000, 3, 3)
