"""The estimator: scikit-learn's own checks, a Gaussian process as the oracle, and the units of the labels."""

import pickle
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import bayeslin as bl
from bayeslin.estimator import DeepLinearRegressor

QUIET = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
# one of scikit-learn's checks has as many features as centred rows, which say nothing of the noise
SATURATED = pytest.mark.filterwarnings("ignore:11 rows of inputs of rank 10 leave no residual:UserWarning")
TINY = {"draws": 5, "warmup": 5, "chains": 1}
SD = 0.4  # known noise


def exact(**changed):
    """The infinitely wide network with a known noise: nothing is sampled."""
    return DeepLinearRegressor(**{"alpha": 0.0, "noise": SD} | changed)


@pytest.fixture(scope="module")
def data():
    """Features and labels far from standardised: X (40, 3), Y (40, 2)."""
    truth = bl.data.teacher(40, 3, 2, seed=3, correlation=0.5).dataset
    return truth.X * [1.0, 10.0, 0.1] + [5.0, 0.0, -2.0], truth.Y * [3.0, 0.5] + [100.0, -7.0]


@pytest.fixture(scope="module")
def X_new():
    return np.random.default_rng(0).standard_normal((6, 3)) * [1.0, 10.0, 0.1] + [5.0, 0.0, -2.0]


@pytest.fixture(scope="module")
def sampled(data):
    model = DeepLinearRegressor(noise="full", draws=30, warmup=30, chains=2, random_state=7)
    with pytest.warns(bl.ConvergenceWarning):
        return model.fit(*data)


def assert_passes_checks(estimator, refused=()):
    results = check_estimator(estimator, on_skip=None, expected_failed_checks=dict(refused))
    # one check is for arrays other than NumPy's, and scikit-learn runs it only where SCIPY_ARRAY_API is set
    assert {check["check_name"] for check in results if check["status"] != "passed"} <= {
        "check_array_api_input",
        *dict(refused),
    }
    assert len(results) > 45


@QUIET
def test_scikit_learn_s_checks_pass_where_the_posterior_is_exact():
    assert_passes_checks(exact(**TINY))  # one check sets alpha = 0.01, hence the draws


@pytest.mark.slow
@QUIET
@SATURATED
def test_scikit_learn_s_checks_pass_where_the_posterior_is_sampled():
    assert_passes_checks(DeepLinearRegressor(**TINY))


@pytest.mark.slow
@QUIET
@SATURATED
def test_scikit_learn_s_checks_pass_with_a_law_but_for_one_that_sets_alpha():
    reason = "it takes alpha for the penalty of a linear model and sets it, which is refused beside a law"
    model = DeepLinearRegressor(law=bl.FiniteNetwork((5, 4)), **TINY)
    assert_passes_checks(model, {"check_regressors_train": reason})


def test_an_infinitely_wide_network_is_a_gaussian_process_with_a_linear_kernel(data, X_new):
    """The dense oracle: another library, the same standardisation, predictions in the labels' units."""
    X, Y = data
    kernel = ConstantKernel(1 / 3) * DotProduct(1e-12)  # it cannot be 0, whose logarithm is taken
    process = GaussianProcessRegressor(kernel, alpha=SD**2, optimizer=None, normalize_y=True)
    process = make_pipeline(StandardScaler(), process).fit(X, Y)
    mean, std = process.predict(X_new, return_std=True)
    model = exact().fit(X, Y)
    found, f_std = model.predict(X_new, return_std=True, noise=False)
    np.testing.assert_allclose(found, mean, rtol=1e-8)
    np.testing.assert_allclose(f_std, std, rtol=1e-8)
    _, y_std = model.predict(X_new, return_std=True)
    np.testing.assert_allclose(y_std**2, std**2 + (SD * Y.std(0)) ** 2, rtol=1e-8)
    assert model.score(X, Y) == pytest.approx(process.score(X, Y), rel=1e-8)

    _, cov = process.predict(X_new, return_cov=True)  # (m, m, D), over rows
    draws = model.sample_y(X_new, 20_000, noise=False)
    assert draws.shape == (6, 2, 20_000)
    for output in range(2):
        true = cov[:, :, output]
        error = np.sqrt((true**2 + np.outer(np.diag(true), np.diag(true))) / 20_000)
        assert (np.abs(np.cov(draws[:, output]) - true) < 5 * error).all()


def test_the_log_score_is_the_density_in_the_labels_units(data, X_new):
    X, Y = data
    model = exact().fit(X, Y)
    mean, std = model.predict(X_new, return_std=True)
    Y_new = mean + std
    np.testing.assert_allclose(
        model.log_score(X_new, Y_new), st.norm.logpdf(Y_new, mean, std).sum(1).mean(), rtol=1e-10
    )


@pytest.mark.parametrize("noise", [False, True])
def test_predictions_are_the_posterior_s_in_other_units(sampled, data, X_new, noise):
    shift, scale = data[1].mean(0), data[1].std(0)
    standardised = replace(sampled.posterior_, dataset=None)
    inside = standardised.predict((X_new - data[0].mean(0)) / data[0].std(0), noise=noise)
    mean, std = sampled.predict(X_new, return_std=True, noise=noise)
    np.testing.assert_allclose(mean, inside.mean * scale + shift)
    np.testing.assert_allclose(std, inside.std * scale)
    _, cov = sampled.predict(X_new, return_cov=True, noise=noise)
    np.testing.assert_allclose(cov, inside.cov * np.outer(scale, scale))
    np.testing.assert_allclose(np.sqrt(np.diagonal(cov, axis1=1, axis2=2)), std)
    interval = sampled.predict_interval(X_new, 0.8, noise=noise)
    np.testing.assert_allclose(interval, inside.interval(0.8) * scale + shift)

    draws = sampled.sample_y(X_new, 4000, random_state=1, noise=noise)
    error = std / np.sqrt(4000)
    assert (np.abs(draws.mean(-1) - mean) < 5 * error).all()
    for row in range(len(X_new)):
        moved = (draws[row] - mean[row][:, None])[:, None] * (draws[row] - mean[row][:, None])[None]
        assert (np.abs(moved.mean(-1) - cov[row]) < 5 * moved.std(-1) / np.sqrt(4000)).all()
    outside = (draws < interval[0][..., None]) | (draws > interval[1][..., None])
    assert abs(outside.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000)  # rows and outputs are dependent: one counts


def test_the_function_is_surer_than_the_labels(sampled, X_new):
    _, function = sampled.predict(X_new, return_std=True, noise=False)
    _, labels = sampled.predict(X_new, return_std=True)
    assert (function < labels).all()
    assert np.ptp(sampled.predict_interval(X_new), axis=0).min() > 0


def test_other_units_of_a_label_change_predictions_exactly_so(data, X_new):
    X, Y = data
    factor, offset = np.array([2.54, -9 / 5]), np.array([0.0, 32.0])
    one, two = exact().fit(X, Y), exact().fit(X, Y * factor + offset)
    for first, second in zip(*(m.predict(X_new, return_cov=True) for m in (one, two)), strict=True):
        moved = first * np.outer(factor, factor) if first.ndim == 3 else first * factor + offset
        np.testing.assert_allclose(second, moved, rtol=1e-9)
    ends = np.sort(one.predict_interval(X_new) * factor + offset, axis=0)  # a negative factor swaps them
    np.testing.assert_allclose(two.predict_interval(X_new), ends, rtol=1e-9)
    change = one.log_score(X, Y) - two.log_score(X, Y * factor + offset)
    assert change == pytest.approx(np.log(np.abs(factor)).sum(), rel=1e-9)


@QUIET
def test_powers_of_two_in_the_units_leave_the_chains_bit_for_bit(sampled, data, X_new):
    X, Y = data
    other = clone(sampled).fit(X * [2.0, 0.5, 8.0], Y * [0.25, 4.0])
    np.testing.assert_array_equal(other.posterior_.scale, sampled.posterior_.scale)
    np.testing.assert_array_equal(other.predict(X_new * [2.0, 0.5, 8.0]), sampled.predict(X_new) * [0.25, 4.0])


def test_the_order_of_rows_does_not_matter(data, X_new):
    X, Y = data
    order = np.random.default_rng(1).permutation(len(X))
    one, two = exact().fit(X, Y), exact().fit(X[order], Y[order])
    np.testing.assert_allclose(one.predict(X_new), two.predict(X_new), rtol=1e-9)


@QUIET
def test_random_state_is_the_seed(sampled, data):
    X, Y = data
    same = clone(sampled).fit(X, Y)
    np.testing.assert_array_equal(same.posterior_.scale, sampled.posterior_.scale)
    inside = (X - X.mean(0)) / X.std(0), (Y - Y.mean(0)) / Y.std(0)
    direct = bl.fit(bl.Proportional(0.5), *inside, noise="full", seed=7, draws=30, warmup=30, chains=2, progress=False)
    np.testing.assert_allclose(direct.scale[:, 0], sampled.posterior_.scale[:, 0], rtol=1e-6)
    states = [np.random.RandomState(1), np.random.RandomState(1), np.random.RandomState(2), None, None]
    fits = [clone(sampled).set_params(random_state=state).fit(X, Y).posterior_.settings["seed"] for state in states]
    assert fits[0] == fits[1]
    assert len(set(fits)) == 4
    assert not np.array_equal(sampled.sample_y(X, random_state=1), sampled.sample_y(X, random_state=2))
    np.testing.assert_array_equal(sampled.sample_y(X), sampled.sample_y(X, random_state=0))


def test_a_vector_of_labels_gives_vectors(data, X_new):
    X, y = data[0], data[1][:, 0]
    vector, column = exact().fit(X, y), exact().fit(X, y[:, None])
    mean, std = vector.predict(X_new, return_std=True)
    _, variance = vector.predict(X_new, return_cov=True)
    assert mean.shape == std.shape == variance.shape == (6,)
    np.testing.assert_allclose(variance, std**2)
    assert vector.predict_interval(X_new).shape == (2, 6)
    assert vector.sample_y(X_new, 4).shape == (6, 4)
    assert vector.log_score(X, y) == vector.log_score(X, y[:, None]) == column.log_score(X, y[:, None])
    np.testing.assert_array_equal(column.predict(X_new), mean[:, None])
    assert column.predict(X_new, return_cov=True)[1].shape == (6, 1, 1)
    assert column.sample_y(X_new, 4).shape == (6, 1, 4)


def test_names_of_data_frames_are_kept(data):
    X = pd.DataFrame(data[0], columns=["warm", "wet", "windy"])
    Y = pd.DataFrame(data[1], columns=["wheat", "rye"])
    model = exact().fit(X, Y)
    assert model.feature_names_in_.tolist() == list(model.posterior_.feature_names) == list(X.columns)
    assert model.output_names_ == model.posterior_.output_names == ("wheat", "rye")
    np.testing.assert_allclose(model.predict(X), exact().fit(*data).predict(data[0]), rtol=1e-10)
    assert exact().fit(X, Y["rye"]).output_names_ == ("rye",)
    assert exact().fit(*data).output_names_ == ("0", "1")
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[["wet", "warm", "windy"]])
    with pytest.raises(bl.InputError, match="distinct output names"):
        exact().fit(X, Y.set_axis(["rye", "rye"], axis=1))
    refitted = model.fit(*data)
    assert refitted.output_names_ == ("0", "1")
    assert not hasattr(refitted, "feature_names_in_")


def test_a_feature_that_does_not_vary_is_ignored(data, X_new):
    X, Y = data
    constant = np.full((len(X), 1), 0.1)
    model = exact().fit(np.hstack([X, constant]), Y)
    first, second = (model.predict(np.hstack([X_new, np.full((6, 1), value)])) for value in (0.1, 9.0))
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_pipelines_and_cross_validation(data):
    X, Y = data
    plain, piped = exact(), make_pipeline(StandardScaler(), exact())
    one = cross_val_score(plain, X, Y, cv=4)
    np.testing.assert_allclose(cross_val_score(piped, X, Y, cv=4), one, rtol=1e-8)  # standardising twice is once
    np.testing.assert_array_equal(cross_val_score(plain, X, Y, cv=4, n_jobs=2), one)
    assert piped.fit(X, Y).predict(X, return_std=True)[1].shape == Y.shape
    scores = cross_val_score(plain, X, Y, cv=4, scoring=DeepLinearRegressor.log_score)
    inside = cross_val_score(
        piped, X, Y, cv=4, scoring=lambda model, X, Y: model[-1].log_score(model[:-1].transform(X), Y)
    )
    np.testing.assert_allclose(inside, scores, rtol=1e-8)


def test_a_search_finds_the_noise_that_the_labels_have():
    truth = bl.data.teacher(200, 3, 2, seed=1, noise=0.5).dataset
    share = 0.5 / truth.Y.std()
    grid = {"noise": [share / 4, share, 4 * share]}
    search = GridSearchCV(exact(), grid, scoring=DeepLinearRegressor.log_score).fit(truth.X, truth.Y)
    assert search.best_params_ == {"noise": share}


@QUIET
def test_a_search_goes_over_laws_alpha_and_noise(data):
    X, y = data[0], data[1][:, 0]
    laws = [bl.NNGP(2.0), bl.FiniteNetwork((3,))]
    grid = [{"alpha": np.array([0.0, 0.3]), "noise": [0.5, 0.8]}, {"law": laws}]
    model = DeepLinearRegressor(noise=0.7, random_state=0, **TINY)
    search = GridSearchCV(model, grid, scoring=DeepLinearRegressor.log_score, cv=2, error_score="raise").fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 6
    fits = [clone(model).set_params(**params).fit(X, y).posterior_ for params in search.cv_results_["params"]]
    assert {repr(post.law) for post in fits} == {"Proportional(0.0)", "Proportional(0.3)", *map(repr, laws)}
    assert [post.noise.sd for post in fits] == [0.5, 0.8, 0.5, 0.8, 0.7, 0.7]


def test_clones_are_equal_and_apart():
    law = bl.Proportional(dist.LogNormal(-1.0, 0.5), steps=4)
    model = DeepLinearRegressor(law=law, noise=dist.HalfNormal(0.3))
    copy = clone(model)
    assert copy.law is not law
    assert repr(copy.law) == repr(law)
    assert copy.law.steps == 4
    assert copy.noise.scale == 0.3
    assert model.get_params()["law"] is law
    assert DeepLinearRegressor().get_params() == clone(DeepLinearRegressor()).get_params()


def test_a_pickle_predicts_the_same_and_holds_the_chain(sampled, X_new):
    loaded = pickle.loads(pickle.dumps(sampled))
    for first, second in zip(*(m.predict(X_new, return_cov=True) for m in (sampled, loaded)), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(loaded.sample_y(X_new, 3), sampled.sample_y(X_new, 3))
    states = [jax.tree.leaves(model.posterior_.sampled.state) for model in (sampled, loaded)]
    assert not loaded.posterior_.exact
    for first, second in zip(*states, strict=True):
        assert first.dtype == second.dtype
        if first.dtype == np.float64:
            np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


X, Y = np.arange(12.0).reshape(6, 2) ** 2, np.arange(6.0) ** 3


@pytest.mark.parametrize(
    ("changed", "X", "Y", "message"),
    [
        ({}, X, np.ones(6), "column 0 of Y is constant"),
        ({}, X, np.column_stack([Y, np.full(6, 0.1)]), "column 1 of Y is constant"),
        ({}, np.full((6, 2), 0.1), Y, "no feature varies"),
        ({}, X, Y[:5], "inconsistent numbers of samples"),
        ({}, X[:1], Y[:1], "1 sample"),
        ({}, X, None, "requires y to be passed"),
        ({}, X, np.where(Y > 8, np.nan, Y), "Input y contains NaN"),
        ({"law": "nngp", "alpha": 0.5}, X, Y, "law must be a law such as"),
        ({"law": bl.NNGP(), "alpha": 0.1}, X, Y, r"alpha=0.1 would be ignored beside law=NNGP\(\)"),
        (
            {"law": bl.NNGP(), "alpha": 0.5, "signal_variance": dist.HalfNormal(1.0)},
            X,
            Y,
            "signal_variance=.* would be ignored",
        ),
        ({"alpha": -1.0}, X, Y, "alpha must be a finite number of at least 0"),
        ({"noise": "white"}, X, Y, "noise must be"),
        ({"draws": 0}, X, Y, "draws must be an integer"),
        ({"random_state": -1}, X, Y, "random_state must be an integer of at least 0"),
        ({"random_state": "x"}, X, Y, "cannot be used to seed"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changed, X, Y, message):
    with pytest.raises(ValueError, match=message):
        exact(**changed).fit(X, Y)


def test_what_cannot_be_predicted_is_refused():
    for method in ("predict", "predict_interval", "sample_y"):
        with pytest.raises(NotFittedError):
            getattr(exact(), method)(X)
    with pytest.raises(NotFittedError):
        exact().log_score(X, Y)
    model = exact().fit(X, Y)
    for call, message in [
        (lambda: model.predict(X, return_std=True, return_cov=True), "exclude each other"),
        (lambda: model.predict(X[:, :1]), "X has 1 features"),
        (lambda: model.predict_interval(X, 90), "coverage must lie between 0 and 1"),
        (lambda: model.sample_y(X, 0), "n_samples must be an integer of at least 1"),
        (lambda: model.log_score(X, X), "the fit had 1 outputs, Y has 2 columns"),
        (lambda: model.log_score(X, Y[:5]), "inconsistent numbers of samples"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_without_scikit_learn_the_package_works_and_the_estimator_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import bayeslin\n"
        "try:\n    import bayeslin.estimator\n"
        "except ImportError as error:\n    assert \"pip install 'bayeslin[sklearn]'\" in str(error), error\n"
        "else:\n    raise SystemExit('imported')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
