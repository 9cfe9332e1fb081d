"""ArviZ, whichever line is installed: the groups of `to_arviz`, and ArviZ's own functions on them."""

import math

import jax
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import bayeslin as bl
from bayeslin import simulation
from bayeslin.diagnostics import mcse, write_netcdf

SETTINGS = {"draws": 400, "warmup": 400, "chains": 4, "seed": 3, "progress": False}
QUIET = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
# What ArviZ 0.23 does that newer libraries warn about, and the R-hat of the ones on a correlation's diagonal.
pytestmark = [
    QUIET,
    pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping to normalize_kwargs:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values is deprecated:DeprecationWarning"),
]
DIAGONAL = pytest.mark.filterwarnings("ignore:invalid value encountered in scalar divide:RuntimeWarning")


@pytest.fixture(scope="module")
def posts():
    data = bl.data.teacher(20, 3, 3, seed=5, correlation=0.6).dataset.standardize()
    names = {"feature_names": data.feature_names, "output_names": data.output_names}
    laws = {"limit": bl.Proportional(0.5), "NNGP": bl.NNGP()}
    return {name: bl.fit(law, data.X, data.Y, **names, **SETTINGS) for name, law in laws.items()}


@pytest.fixture(scope="module")
def trees(posts):
    return {name: post.to_arviz() for name, post in posts.items()}


@pytest.fixture
def tree(trees):
    return trees["limit"]


@pytest.fixture
def az(tree):
    import arviz

    yield arviz
    plt.close("all")


# Groups

GROUPS = {
    "posterior": ("scale", ("chain", "draw", "output", "output_other"), (4, 400, 3, 3)),
    "sample_stats": ("energy", ("chain", "draw"), (4, 400)),
    "log_likelihood": ("Y", ("chain", "draw", "obs"), (4, 400, 20)),
    "prior": ("scale", ("chain", "draw", "output", "output_other"), (1, 400, 3, 3)),
    "prior_predictive": ("Y", ("chain", "draw", "obs", "output"), (1, 400, 20, 3)),
    "posterior_predictive": ("Y", ("chain", "draw", "obs", "output"), (4, 100, 20, 3)),
    "observed_data": ("Y", ("obs", "output"), (20, 3)),
    "constant_data": ("X", ("obs", "feature"), (20, 3)),
}


def names(tree):
    groups = tree.groups
    return {name.strip("/") for name in (groups() if callable(groups) else groups)} - {""}


def given(post):
    return post.law, post.noise, post.spec, post.rows, post.scale, post.noise_cov, post.settings


def test_every_group_that_applies_is_there_and_no_other(tree):
    assert names(tree) == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_groups_have_named_dimensions_coordinates_and_provenance(tree, group):
    name, dims, shape = GROUPS[group]
    found = tree[group]
    assert (found[name].dims, found[name].shape) == (dims, shape)
    coords = {
        "output": ["y0", "y1", "y2"],
        "feature": ["x0", "x1", "x2"],
        "obs": list(range(20)),
    }
    for dim in set(coords) & set(dims):
        assert list(found[dim].values) == coords[dim]
    attrs = {key: found.attrs[key] for key in ("package", "version", "law", "seed")}
    assert attrs == {"package": "bayeslin", "version": bl.__version__, "law": "Proportional(0.5)", "seed": 3}


def test_the_prior_has_the_variables_of_the_posterior(tree):
    assert set(tree["prior"].data_vars) == set(tree["posterior"].data_vars)


def test_the_prior_is_the_law(posts):
    post = posts["limit"]
    found = simulation.groups(*given(post), 400)
    Q = found["prior"]["scale"][0]
    assert len(Q) == 1600
    assert (np.abs(Q.mean(0) - np.eye(3)) < 5 * Q.std(0) / 40).all()
    logdet, moments = np.linalg.slogdet(Q)[1], post.law.scale_moments(3)
    assert abs(logdet.mean() - moments.logdet_mean) < 5 * logdet.std() / 40
    sd = found["prior"]["noise_sd"][0]
    assert abs(sd.mean() - math.sqrt(2 / math.pi)) < 5 * sd.std() / 40

    Y = found["prior_predictive"]["Y"][0]
    K = post.rows[0] @ post.rows[0].T / 3
    spread = np.einsum("sia,sja->ij", Y, Y) / (1600 * 3)
    products = Y[:, 0] * Y[:, 1]
    error = products.std() / np.sqrt(1600)
    assert abs(spread[0, 1] - K[0, 1]) < 5 * error
    assert abs((Y**2).mean() - (np.trace(K) / 20 + 1)) < 5 * (Y**2).mean((1, 2)).std() / 40  # E sd^2 = 1
    assert np.corrcoef((Y**2).mean((1, 2)), sd**2)[0, 1] > 0.2, "labels belong to the prior's draws"
    together = (Y[:, :, 0] * Y[:, :, 1]).mean(1) * Q[:, 0, 1]
    expected = np.trace(K) / 20 * moments.offdiag_sq  # E of Q_12 Y_i1 Y_i2 is K_ii E Q_12^2
    assert abs(together.mean() - expected) < 5 * together.std() / 40
    assert together.mean() > 5 * together.std() / 40, "labels that ignore their scale would be seen"


def standardised(post, Y, shift=0):
    """Squared errors of simulated labels, in units of the variance that draw k + shift gives them."""
    draws, count = post.given, Y.shape[1]
    X = post.rows[0]
    T = X @ post.spec.V / np.sqrt(X.shape[1])
    M, coef, var = (np.roll(leaf, shift, axis=1)[:, :count] for leaf in (draws.M, draws.coef, draws.var))
    mean = np.einsum("ni,csid,csad->csna", T, coef, M)
    spread = np.einsum("csad,csnd->csna", M**2, np.einsum("ni,csid->csnd", T**2, var) + 1)
    return ((Y - mean) ** 2 / spread).mean((2, 3))


def test_posterior_predictive_labels_are_those_of_the_first_draws(posts, trees):
    post = posts["limit"]
    found = simulation.groups(*given(post), 400)
    Y = found["posterior_predictive"]["Y"]
    expected = post.predict(post.rows[0], noise=True)
    assert (np.abs(Y.mean((0, 1)) - expected.mean) < 5 * Y.std((0, 1)) / 40).all()
    squares = (Y - expected.mean) ** 2
    assert (np.abs(squares.mean((0, 1)) - expected.std**2) < 5 * squares.std((0, 1)) / 40).all()
    own, other = standardised(post, Y), standardised(post, Y, shift=1)
    assert abs(own.mean() - 1) < 5 * own.std() / 40
    assert not abs(other.mean() - 1) < 5 * own.std() / 40, "another draw's labels would be seen"
    few = trees["limit"]["posterior_predictive"]["Y"].values
    assert few.shape[1] == 100
    assert abs(standardised(post, few).mean() - 1) < 5 * own.std() / 20


def test_rows_of_a_simulated_data_set_share_one_function(posts):
    """Covariance of the labels of two rows, per draw: the function's part is common to them."""
    post = posts["limit"]
    found = simulation.groups(*given(post), 400)
    Y = found["posterior_predictive"]["Y"].reshape(1600, 20, 3)
    samples = post.predict(post.rows[0], noise=True).sample(jax.random.key(0), (1600,))
    for one, two in ((0, 1), (3, 7)):
        ours, theirs = (np.prod(array[:, [one, two], 0] - expected, axis=1) for array, expected in
                        ((Y, Y[:, [one, two], 0].mean(0)), (samples, samples[:, [one, two], 0].mean(0))))  # fmt: skip
        assert abs(ours.mean() - theirs.mean()) < 5 * np.hypot(ours.std(), theirs.std()) / 40


def test_memory_is_bounded_unless_more_is_asked_for(posts, monkeypatch):
    post = posts["limit"]
    everything = given(post)
    assert simulation.groups(*everything, 0) == {}
    assert names(post.to_arviz(predictive=0)) == set(GROUPS) - {"prior", "prior_predictive", "posterior_predictive"}
    assert simulation.groups(*everything, 10_000)["prior"]["scale"].shape[1] == 1600, "no more than the posterior's"
    numbers = 20 * 3 + 9 + 9 + 1  # labels, scale, noise_cov, noise_sd
    monkeypatch.setattr(simulation, "MOST", 1000)
    monkeypatch.setattr(simulation, "BLOCK", 4 * 101 * numbers - 1)
    found = simulation.groups(*everything)
    assert found["posterior_predictive"]["Y"].shape == (4, 100, 20, 3)
    with pytest.raises(bl.InputError, match="predictive must be an integer of at least 0"):
        post.to_arviz(predictive=-1)


def test_without_rows_there_is_only_the_prior(posts):
    spec = posts["NNGP"].spec
    post = bl.fit(bl.NNGP(), bl.Spectrum.from_rows(*posts["NNGP"].rows), noise=0.5, **SETTINGS)
    assert post.spec.rank == spec.rank
    found = post.to_arviz()
    assert "prior" in names(found)
    assert not {"prior_predictive", "posterior_predictive", "log_likelihood"} & names(found)
    assert (found["prior"]["noise_cov"].values == 0.25 * np.eye(3)).all()


def test_an_exact_posterior_simulates_labels(posts):
    X, Y = posts["NNGP"].rows
    post = bl.fit(bl.NNGP(), X, Y, noise=0.5, **SETTINGS)
    labels = post.to_arviz()["posterior_predictive"]["Y"].values
    expected = post.predict(X, noise=True)
    assert labels.shape == (4, 100, 20, 3)
    assert (np.abs(labels.mean((0, 1)) - expected.mean) < 5 * expected.std / 20).all()


def test_the_prior_over_weights_is_standard_normal(posts):
    post = posts["limit"]
    _, *others, settings = given(post)
    found = simulation.groups(bl.FiniteNetwork((4,)), *others, settings | {"space": "weights"}, 100)
    for name, shape in {"W_1": (1, 400, 4, 3), "W_2": (1, 400, 3, 4)}.items():
        W = found["prior"][name]
        assert W.shape == shape
        assert abs(W.mean()) < 5 / np.sqrt(W.size)
        assert abs((W**2).mean() - 1) < 5 * np.sqrt(2 / W.size)
    W, scale = found["prior"]["W_2"], found["prior"]["scale"]
    np.testing.assert_allclose(scale, W @ np.swapaxes(W, -1, -2) / 4, atol=1e-12)
    assert found["prior_predictive"]["Y"].shape == (1, 400, 20, 3)


# ArviZ's functions


@DIAGONAL
def test_summary_agrees_with_the_package(az, tree, posts):
    table = az.summary(tree)
    assert set(table.index) >= {"noise_sd", "scale[y0, y1]", "scale_correlation[y0, y1]"}
    scale = posts["limit"].scale
    assert float(table.loc["scale[y0, y1]", "mean"]) == pytest.approx(scale[..., 0, 1].mean(), abs=0.01)
    worst = max(float(value) for name, value in table["r_hat"].items() if name.startswith("scale["))
    assert worst <= posts["limit"].diagnosis.rhat_max + 0.01
    assert float(table.loc["noise_sd", "mcse_mean"]) == pytest.approx(
        float(mcse(posts["limit"].sites["noise_sd"])),
        abs=0.001,  # rounded
    )


PICTURES = {
    "plot_trace": {"var_names": ["noise_sd", "scale"]},
    "plot_rank": {"var_names": ["noise_sd", "scale"], "coords": {"output": ["y0"]}},
    "plot_energy": {},
    "plot_forest": {"var_names": ["scale"]},
    "plot_pair": {
        "var_names": ["noise_sd", "scale"], "coords": {"output": ["y0"], "output_other": ["y0", "y1"]},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn(az, tree, name):
    getattr(az, name)(tree, **PICTURES[name])
    figures = [plt.figure(number) for number in plt.get_fignums()]
    drawn = [artist for figure in figures for ax in figure.axes for artist in (*ax.lines, *ax.collections, *ax.patches)]
    assert len(drawn) >= 3, "an artist for each pair, or more"
    for figure in figures:
        figure.canvas.draw()


def test_loo_is_the_harmonic_mean_of_the_densities(az, tree, posts):
    found = az.loo(tree, pointwise=True)
    logs = posts["limit"].log_likelihood_loo().reshape(-1, 20)
    harmonic = -(np.logaddexp.reduce(-logs, axis=0) - np.log(len(logs)))
    elpd = float(getattr(found, "elpd", None) or found["elpd_loo"])
    assert elpd == pytest.approx(harmonic.sum(), abs=0.3)
    assert float(np.max(found.pareto_k)) < 0.7


def test_compare_ranks_the_laws_by_their_loo(az, trees):
    table = az.compare(trees)
    assert set(table.index) == {"limit", "NNGP"}
    logs = {name: tree["log_likelihood"]["Y"].values for name, tree in trees.items()}
    elpd = {name: -np.log(np.exp(-log).mean((0, 1))).sum() for name, log in logs.items()}
    assert table["rank"].idxmin() == max(elpd, key=elpd.get)


def test_a_netcdf_file_holds_every_group(az, tree, tmp_path):
    write_netcdf(tree, tmp_path / "post.nc")
    again = az.from_netcdf(str(tmp_path / "post.nc"))
    assert names(again) == names(tree)
    for group, (name, dims, _) in GROUPS.items():
        assert again[group][name].dims == dims
        np.testing.assert_array_equal(again[group][name].values, tree[group][name].values)
        assert again[group].attrs["law"] == "Proportional(0.5)"
    assert list(again["posterior"]["output"].values) == ["y0", "y1", "y2"]
