"""What a user may change without changing the answer: the order of rows and columns, names, and units."""

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl

FEW = {"draws": 40, "warmup": 60, "chains": 2, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    truth = bl.data.teacher(30, 3, 2, seed=5, correlation=0.5).dataset
    frame = pd.DataFrame(np.hstack([truth.X, truth.Y]), columns=["a", "b", "c", "y", "z"])
    frame["group"] = np.where(truth.X[:, 0] > 0, "left", "right")
    return frame


def fit(frame, targets=("y", "z"), law=None, **options):
    data = bl.Dataset.from_frame(frame, targets).standardize()
    return bl.fit(bl.Proportional(0.5) if law is None else law, data, **FEW | options)


@pytest.fixture(scope="module")
def post(table):
    return fit(table)


def test_predictions_are_in_label_units_with_names(table, post):
    found = post.predict(table, noise=True)
    inside = bl.fit(post.law, post.dataset.X, post.dataset.Y, **FEW).predict(post.dataset.X, noise=True)
    shift, scale = table[["y", "z"]].mean().to_numpy(), table[["y", "z"]].std(ddof=0).to_numpy()
    assert found.output_names == ("y", "z")
    np.testing.assert_allclose(found.mean, inside.mean * scale + shift, rtol=1e-12)
    np.testing.assert_allclose(found.cov, inside.cov * np.outer(scale, scale), rtol=1e-12)
    np.testing.assert_allclose(found.std, inside.std * scale, rtol=1e-12)
    np.testing.assert_allclose(found.interval(0.5), inside.interval(0.5) * scale + shift, rtol=1e-10)
    import jax

    drawn = found.sample(jax.random.key(0), (5,))
    np.testing.assert_allclose(drawn, inside.sample(jax.random.key(0), (5,)) * scale + shift, rtol=1e-10)
    frame = found.to_frame(0.5)
    assert list(frame.columns) == [f"{name}_{what}" for name in "yz" for what in ("mean", "sd", "lower", "upper")]
    np.testing.assert_array_equal(frame["z_lower"], found.interval(0.5)[0, :, 1])


def test_scores_are_densities_of_labels_in_their_own_units(table, post):
    labels = table[["y", "z"]]
    found = post.log_score(table, labels)
    np.testing.assert_array_equal(post.log_score(table, table), found, "the labels are found by their names")
    np.testing.assert_allclose(post.log_score(post.dataset.original().X, labels.to_numpy()), found, rtol=1e-12)
    inside = bl.fit(post.law, post.dataset.X, post.dataset.Y, **FEW)
    expected = inside.log_score(post.dataset.X, post.dataset.Y) - np.log(labels.std(ddof=0)).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


EXACT = {"law": bl.NNGP(), "noise": 0.5}


def test_another_unit_of_a_label_changes_its_column_only(table, post):
    one, two = (fit(frame, **EXACT).predict(table, noise=True) for frame in (table, table.assign(z=table.z * 1e3 - 17)))
    np.testing.assert_allclose(two.mean, one.mean * [1.0, 1e3] - [0.0, 17.0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(two.cov, one.cov * np.outer([1.0, 1e3], [1.0, 1e3]), rtol=1e-10, atol=1e-10)
    sampled = fit(table.assign(z=table.z * 1024.0))  # a power of two leaves every bit of the chains alone
    np.testing.assert_array_equal(sampled.scale, post.scale)
    np.testing.assert_array_equal(sampled.predict(table).mean, post.predict(table).mean * [1.0, 1024.0])


def test_another_unit_of_a_feature_changes_nothing(table):
    moved = table.assign(b=table.b * 1e-4 + 3.0)
    one, two = fit(table, **EXACT).predict(table), fit(moved, **EXACT).predict(moved)
    np.testing.assert_allclose(two.mean, one.mean, atol=1e-10)


def test_names_are_only_names(table, post):
    renamed = table.rename(columns={"a": "alpha", "y": "first", "group": "side"})
    again = fit(renamed, ("first", "z"))
    np.testing.assert_array_equal(again.predict(renamed).mean, post.predict(table).mean)
    assert again.predict(renamed).output_names == ("first", "z")


def test_order_of_rows_and_columns_changes_nothing_but_the_order(table, rng):
    """Exactly so where nothing is sampled; draws of NUTS would only agree in law."""
    post = fit(table, **EXACT)
    order = rng.permutation(len(table))
    shuffled = fit(table.iloc[order], **EXACT)
    np.testing.assert_allclose(shuffled.predict(table).mean, post.predict(table).mean, atol=1e-12)
    columns = fit(table[["group", "z", "c", "b", "y", "a"]], **EXACT)
    np.testing.assert_allclose(columns.predict(table).mean, post.predict(table).mean, atol=1e-12)
    swapped = fit(table, ("z", "y"), **EXACT)
    np.testing.assert_allclose(swapped.predict(table).mean[:, ::-1], post.predict(table).mean, atol=1e-12)
    np.testing.assert_allclose(swapped.predict(table).cov[:, ::-1, ::-1], post.predict(table).cov, atol=1e-12)


def test_permuted_outputs_agree_in_law(table):
    """The triangular coordinates single out an order of the outputs; the posterior must not."""
    long = {"draws": 2000, "warmup": 500, "chains": 4}
    one, two = fit(table, **long), fit(table, ("z", "y"), **long)
    a, b = one.output_correlation(), two.output_correlation()
    assert abs(a.scale[0, 1] - b.scale[0, 1]) < 5 * np.hypot(a.scale_mcse[0, 1], b.scale_mcse[0, 1])
    diagonal = np.diagonal(one.scale, axis1=2, axis2=3), np.diagonal(two.scale, axis1=2, axis2=3)[..., ::-1]
    from bayeslin.diagnostics import mcse

    error = np.hypot(*(mcse(values) for values in diagonal))
    assert (np.abs(diagonal[0].mean((0, 1)) - diagonal[1].mean((0, 1))) < 5 * error).all()


def test_thinning_is_every_so_manieth_draw(post):
    thin = post.thin(7)
    np.testing.assert_array_equal(thin.scale, post.scale[:, ::7])
    assert thin.stats["diverging"].shape == (2, 6)
    assert thin.predict(np.zeros((1, 5))).mean.shape == (1, 2)


def test_predictions_do_not_depend_on_the_blocks_of_draws(table, post, monkeypatch):
    import jax

    from bayeslin import prediction

    def everything():
        found = post.thin(1).predict(table, noise=True)  # a fresh posterior has nothing cached
        parts = found.mean, found.cov, found.interval(0.8), found.sample(jax.random.key(1), (60,))
        return (*parts, post.thin(1).log_score(table, table))

    whole = everything()
    monkeypatch.setattr(prediction, "BLOCK", 300)  # 30 draws of 5 x 2 numbers, a single row
    for one, two in zip(whole, everything(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-10)


# Names


def exact(table, **columns):
    return fit(table.assign(**columns), **EXACT)


def test_labels_are_found_by_name_or_refused(table):
    post = exact(table)
    found = post.log_score(table, table[["y", "z"]])
    np.testing.assert_array_equal(post.log_score(table, table[["z", "y"]]), found)
    with pytest.raises(bl.InputError, match=r"Y_new has the columns \('Z', 'Y'\), the fit had \('y', 'z'\)"):
        post.log_score(table, table[["z", "y"]].rename(columns={"z": "Z", "y": "Y"}))


def test_columns_with_numbers_for_names_are_found_too(rng):
    X, Y = pd.DataFrame(rng.standard_normal((9, 3))), pd.DataFrame(rng.standard_normal((9, 2)))
    X, Y = X - X.mean(), Y - Y.mean()
    post = bl.fit(bl.NNGP(), X, Y, noise=0.5)
    np.testing.assert_array_equal(post.predict(X[[2, 0, 1]]).mean, post.predict(X).mean)
    np.testing.assert_array_equal(post.log_score(X, Y[[1, 0]]), post.log_score(X, Y))
    frame = X.join(Y.set_axis([" y", "z"], axis=1)).rename(columns={0: " a"})
    post = bl.fit(bl.NNGP(), bl.Dataset.from_frame(frame, ["y", "z"]), noise=0.5)
    assert post.predict(frame).mean.shape == (9, 2)
    with pytest.raises(bl.InputError, match="names the column '1' twice"):
        post.predict(frame[[" a", 1, 1, 2]])


def test_columns_that_did_not_vary_are_not_asked_for_again(table):
    post = exact(table, c=1.0, group="same")
    assert post.feature_names == ("a", "b")
    found = post.predict(table.drop(columns=["c", "group"])).mean
    np.testing.assert_array_equal(post.predict(table.assign(c=np.nan, group="new")).mean, found)


def test_predictions_keep_the_index_of_the_rows(table):
    rows = table.iloc[[7, 3]].set_axis(["x", "y"])
    assert exact(table).predict(rows).to_frame().index.tolist() == ["x", "y"]


def test_a_dataset_brings_its_names(table):
    data = bl.Dataset.from_frame(table, ["y", "z"]).standardize()
    with pytest.raises(bl.InputError, match="brings its names"):
        bl.fit(bl.NNGP(), data, noise=0.5, output_names=["A", "B"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0,03"] * 15 + ["1,5"] * 15, "decimal commas, such as '0,03'"),
        (pd.date_range("2020-01-01", periods=30), "holds datetime64"),
        (np.arange(30) * 1j, "holds complex128"),
        ([f"id {row}" for row in range(30)], "names rows rather than groups"),
    ],
    ids=["commas", "dates", "complex", "identifiers"],
)
def test_columns_that_would_be_misread_are_refused(values, message, table):
    with pytest.raises(bl.InputError, match=message):
        bl.Dataset.from_frame(table.assign(c=values), ["y", "z"])
    with pytest.raises(bl.InputError, match="column 'y'"):
        bl.Dataset.from_frame(table.assign(y=values), ["y", "z"])


def test_numbers_in_an_object_column_are_numbers(table):
    data = bl.Dataset.from_frame(table.assign(c=table.c.astype(object)), ["y", "z"])
    assert data.feature_names == bl.Dataset.from_frame(table, ["y", "z"]).feature_names
