"""Many data sets in one program: the posteriors of a loop of fits, each with its own data, names and state."""

import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl
from bayeslin import many, sampler
from bayeslin.diagnostics import mcse

FEW = {"draws": 40, "warmup": 60, "chains": 2, "progress": False}
LAW = bl.Proportional(0.5)
quiet = pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")


@pytest.fixture(scope="module")
def sets():
    """Five regressions of two outputs that differ in rows, features and truth."""
    shapes = [(30, 3), (25, 2), (40, 4), (12, 5), (30, 3)]
    return [
        bl.data.teacher(n, p, 2, seed=k, correlation=(-1) ** k * 0.8).dataset.standardize()
        for k, (n, p) in enumerate(shapes)
    ]


@quiet
def test_draws_begin_as_those_of_fit_with_seeds_in_turn(sets):
    settings = FEW | {"draws": 2, "warmup": 0, "max_tree_depth": 3}
    unlike = [sets[0], sets[3]]
    together = bl.fit_many(LAW, unlike, seed=5, **settings)
    for index, (post, data) in enumerate(zip(together, unlike, strict=True)):
        alone = bl.fit(LAW, data, seed=5 + index, **settings)
        np.testing.assert_allclose(post.scale, alone.scale, rtol=1e-5, atol=1e-8)
        assert post.settings == alone.settings
        assert (post.feature_names, post.output_names) == (alone.feature_names, alone.output_names)


def test_posteriors_are_those_of_a_loop(sets):
    settings = FEW | {"draws": 2000, "warmup": 500, "chains": 4}
    together = bl.fit_many(LAW, sets[:2], seed=100, **settings)
    alone = [bl.fit(LAW, data, **settings) for data in sets[:2]]

    def same(one, other):
        error = np.hypot(mcse(one.scale), mcse(other.scale))
        return bool((np.abs(one.scale.mean((0, 1)) - other.scale.mean((0, 1))) < 5 * error).all())

    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert not same(together[0], alone[1]), "the test can fail"


@quiet
def test_groups_keep_the_order_and_the_last_is_filled_up(sets, monkeypatch):
    monkeypatch.setattr(many, "CHAINS", 4)  # two data sets a group
    monkeypatch.setattr(sampler, "cores", lambda: 1)
    X, Y = sets[0].X, sets[0].Y
    sizes = np.array([1.0, 0.2, 1.0, 0.2, 1.0])
    posts = bl.fit_many(LAW, [(X, size * Y) for size in sizes], **FEW)
    slopes = np.array([post.predict(X[:1]).mean[0, 0] for post in posts])
    noise = np.array([np.sqrt(post.noise_cov[..., 0, 0]).mean() for post in posts])
    np.testing.assert_allclose(slopes / slopes[0], sizes, rtol=0.3)
    np.testing.assert_allclose(noise / noise[0], sizes, rtol=0.3)
    assert all(post.scale.shape == (2, 40, 2, 2) for post in posts)


@quiet
@pytest.mark.parametrize(
    ("law", "noise"),
    [
        (bl.NNGP(2.0), 0.5),
        (bl.NNGP(2.0), "diagonal"),
        pytest.param(bl.FiniteNetwork((4, 3)), "full", marks=pytest.mark.slow),
        (bl.FiniteNetwork(()), 0.5),
    ],
    ids=repr,
)
def test_every_law_and_noise_can_be_fitted(law, noise, sets):
    posts = bl.fit_many(law, sets[:2], noise=noise, **FEW)
    assert [post.exact for post in posts] == [noise == 0.5] * 2
    assert all(np.isfinite(post.predict(data.X[:2]).mean).all() for post, data in zip(posts, sets, strict=False))


@quiet
def test_trees_are_as_deep_as_asked_for(sets):
    posts = [bl.fit_many(LAW, sets[:2], **FEW, max_tree_depth=depth)[0] for depth in (1, 2)]
    assert [post.stats["n_steps"].max() for post in posts] == [1, 3]
    with pytest.raises(bl.InputError, match="max_tree_depth must be an integer of at least 1, got 0"):
        bl.fit_many(LAW, sets[:2], **FEW, max_tree_depth=0)


@quiet
def test_each_can_be_saved_loaded_and_resumed(sets, tmp_path):
    post = bl.fit_many(LAW, sets[:2], **FEW)[1]
    post.save(tmp_path / "second.nc")
    loaded = bl.Posterior.load(tmp_path / "second.nc")
    longer, same = (bl.resume(each, 10, progress=False) for each in (post, loaded))
    assert longer.scale.shape == (2, 50, 2, 2)
    np.testing.assert_array_equal(longer.scale, same.scale)
    np.testing.assert_array_equal(longer.scale[:, :40], post.scale)
    assert longer.stats["n_steps"].max() == 7, "trees are not deeper than those of fit_many"
    assert (longer.scale[0, 40:] != longer.scale[1, 40:]).any(), "each chain goes on from its own state"


@quiet
def test_frames_and_statistics_are_data_too(sets):
    frame = pd.DataFrame(sets[0].X, columns=["a", "b", "c"])
    pair, spec = bl.fit_many(LAW, [(frame, sets[0].Y), bl.Spectrum.from_rows(sets[0].X, sets[0].Y)], **FEW)
    assert pair.feature_names == ("a", "b", "c")
    assert spec.rows is None


def test_those_that_have_not_converged_are_named_in_one_warning(sets):
    with pytest.warns(
        bl.ConvergenceWarning, match=r"data sets 0, 1 of 2 not converged; number \d: .* max_tree_depth"
    ) as caught:
        bl.fit_many(LAW, sets[:2], **FEW | {"draws": 4})
    assert len(caught) == 1


@quiet
def test_warnings_about_the_data_name_the_data_set(sets):
    X, Y = sets[0].X, sets[0].Y
    moved = X + np.array([0, 0, 9])
    with pytest.warns(
        UserWarning, match=r"^data set 1: column 2 of X has mean .* \(and likewise data set 2\)$"
    ) as caught:
        bl.fit_many(bl.NNGP(), [(X, Y), (moved, Y), (moved, Y)], noise=0.5)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="data set 1: ") as caught:
        bl.fit_many(bl.NNGP(), [(X, Y), (moved, 50 * Y), (2 * moved, Y)], noise=0.5)
    column, output = (str(each.message) for each in caught)
    assert column.startswith("data set 1: column 2 of X")
    assert column.endswith("(and likewise data set 2)"), "whatever the numbers"
    assert output.startswith("data set 1: output ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bl.fit_many(bl.NNGP(), [(X, Y)], noise=0.5)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([], "datasets is empty"),
        (bl.load_dataset("linnerud"), "must be a sequence of pairs .* got Dataset"),
        ("linnerud", "must be a sequence of pairs .* got str"),
        (3, "must be a sequence of pairs .* got int"),
        ([(np.eye(3), np.eye(3)), np.eye(3)], "data set 1 must be a pair .* got ndarray of length 3"),
        ([(np.eye(3), np.eye(3)), (np.eye(3), np.eye(2))], "data set 1: "),
        ([(np.eye(3), np.eye(3)), (np.eye(3), np.eye(3)[:, :2])], "data set 1 has 2 outputs, data set 0 has 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:column")
def test_unusable_data_sets_are_named(datasets, message):
    with pytest.raises(bl.InputError, match=message):
        bl.fit_many(bl.NNGP(), datasets, noise=0.5)


def test_wrong_laws_and_seeds_are_refused():
    with pytest.raises(bl.InputError, match="law must be a law"):
        bl.fit_many("nngp", [(np.eye(2), np.eye(2))])
    with pytest.raises(bl.InputError, match="seed"):
        bl.fit_many(bl.NNGP(), [(np.eye(2), np.eye(2))], seed=-1)
