"""Cross-validation: one row left out is the closed form, folds know nothing of their own rows, units do not matter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl

LAW = bl.Proportional(0.5)


@pytest.fixture(scope="module")
def data():
    """Fifteen rows of two outputs that go together, in units of a table."""
    made = bl.data.teacher(15, 3, 2, seed=4, correlation=0.8).dataset
    return replace(made, X=5.0 + 3.0 * made.X, Y=2.0 - 7.0 * made.Y)


def test_leaving_out_one_row_is_the_closed_form(linnerud):
    X, Y = linnerud
    found = bl.cross_validate(bl.NNGP(), X, Y, folds=20, noise=0.9)
    expected = bl.fit(bl.NNGP(), X, Y, noise=0.9).log_likelihood_loo()[0, 0]
    np.testing.assert_allclose(found.log_score, expected, atol=1e-10)
    assert found.elpd == pytest.approx(expected.sum())
    assert found.se == pytest.approx(expected.std(ddof=1) * np.sqrt(20))
    assert sorted(found.fold) == list(range(20))


@pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
def test_sampled_folds_are_fits_of_the_other_rows(data):
    """Of the first draws, where the many in one program and the one alone differ by rounding only."""
    settings = {"draws": 2, "warmup": 0, "max_tree_depth": 3, "progress": False}
    found = bl.cross_validate(LAW, data.standardize(), folds=3, seed=3, **settings)
    for k in range(3):
        rest, held = (replace(data, X=data.X[rows], Y=data.Y[rows]) for rows in (found.fold != k, found.fold == k))
        post = bl.fit(LAW, rest.standardize(), seed=3 + k, **settings)
        np.testing.assert_allclose(found.log_score[found.fold == k], post.log_score(held.X, held.Y), rtol=1e-4)
        seen = bl.fit(LAW, data.standardize(), seed=3 + k, **settings).log_score(held.X, held.Y)
        assert np.abs(found.log_score[found.fold == k] / seen - 1).max() > 0.01, "the test can fail"
    assert len(found.diagnoses) == 3
    assert repr(found).startswith("CrossValidation(Proportional(0.5): elpd -")


def test_a_fold_is_standardised_without_its_own_rows(data):
    """A label moved far away moves the mean of all rows, but not the score of the others of its fold."""
    far = data.Y.copy()
    far[0] += 1000.0
    folds = np.arange(15) % 3
    near, moved = (
        bl.cross_validate(bl.NNGP(), replace(data, Y=Y).standardize(), folds=folds, noise=0.5) for Y in (data.Y, far)
    )
    others = (folds == folds[0]) & (np.arange(15) > 0)
    np.testing.assert_allclose(moved.log_score[others], near.log_score[others], rtol=1e-12)
    assert moved.log_score[0] < near.log_score[0] - 100


def test_units_of_the_table_only_shift_the_scores(data):
    other = replace(data, X=data.X * 10 - 4, Y=data.Y / [2.0, 50.0] + 3)
    one, two = (bl.cross_validate(bl.NNGP(), each.standardize(), folds=4, noise=0.5) for each in (data, other))
    np.testing.assert_allclose(two.log_score, one.log_score + np.log(100.0), atol=1e-9)


def test_rows_are_taken_as_they_are_without_standardisation(data):
    frames = pd.DataFrame(data.X), pd.DataFrame(data.Y)
    with pytest.warns(UserWarning, match="centre the columns"):
        one = bl.cross_validate(bl.NNGP(100.0), data, folds=5, noise=5.0)
    with pytest.warns(UserWarning, match="centre the columns"):
        two = bl.cross_validate(bl.NNGP(100.0), *frames, folds=5, noise=5.0)
    np.testing.assert_array_equal(one.log_score, two.log_score)
    kept = one.fold != 2
    with pytest.warns(UserWarning, match="centre the columns"):
        post = bl.fit(bl.NNGP(100.0), data.X[kept], data.Y[kept], noise=5.0)
    np.testing.assert_allclose(one.log_score[~kept], post.log_score(data.X[~kept], data.Y[~kept]), rtol=1e-12)


def test_scales_of_a_dataset_made_by_hand_are_kept(data):
    by_hand = replace(data, X=data.X / 2, Y=data.Y / 3, x_scale=2.0, y_scale=3.0)
    with pytest.warns(UserWarning, match="centre the columns"):
        found = bl.cross_validate(bl.NNGP(100.0), by_hand, folds=5, noise=5.0)
    kept = found.fold != 2
    with pytest.warns(UserWarning, match="centre the columns"):
        post = bl.fit(bl.NNGP(100.0), replace(by_hand, X=by_hand.X[kept], Y=by_hand.Y[kept]), noise=5.0)
    np.testing.assert_allclose(found.log_score[~kept], post.log_score(data.X[~kept], data.Y[~kept]), rtol=1e-10)


@pytest.mark.parametrize("marks", [["b", "a", "c"], [2.5, 1.0, 7.0], [1, "1", 2]], ids=repr)
def test_marks_leave_out_rows_together_and_count_as_one(data, marks):
    folds = [marks[i // 5] for i in range(15)]
    found = bl.cross_validate(bl.NNGP(), data.standardize(), folds=folds, noise=0.5)
    np.testing.assert_array_equal(found.fold, np.arange(15) // 5)
    sums = found.log_score.reshape(3, 5).sum(1)
    assert found.se == pytest.approx(np.sqrt(3) * sums.std(ddof=1))
    assert found.minus(found) == (0.0, 0.0)


def test_differences_are_row_by_row(data):
    one, two, elsewhere = (
        bl.cross_validate(bl.NNGP(), data.standardize(), noise=noise, seed=seed)
        for noise, seed in ((0.3, 0), (0.6, 0), (0.3, 1))
    )
    difference, error = one.minus(two)
    rows = one.log_score - two.log_score
    assert difference == pytest.approx(rows.sum())
    assert error == pytest.approx(np.sqrt(15) * rows.std(ddof=1))
    assert error < np.hypot(one.se, two.se)
    other = bl.cross_validate(bl.NNGP(), replace(data, Y=np.exp(data.Y / 10)).standardize(), noise=0.3)
    for each in (elsewhere, other):
        with pytest.raises(bl.InputError, match="same rows, folds and seed"):
            one.minus(each)


@pytest.mark.parametrize(
    ("folds", "match"),
    [
        (1, "folds must be an integer of at least 2"),
        ("three", "folds must be an integer"),
        (16, "16 folds need at least as many rows, got 15; give folds=15 or less"),
        ([0, 1], "a mark for each of the 15 rows"),
        (np.zeros((15, 1)), "a mark for each of the 15 rows"),
        (["a"] * 15, "the same mark"),
        ([0.0, 1.0, np.nan] * 5, "row 2 has no mark"),
        (pd.Categorical(["a", None, "b"] * 5), "row 1 has no mark"),
    ],
)
def test_unusable_folds_are_refused(data, folds, match):
    with pytest.raises(bl.InputError, match=match):
        bl.cross_validate(bl.NNGP(), data.standardize(), folds=folds, noise=0.5)


def test_what_does_not_vary_without_a_fold_is_said(data):
    folds, once = np.arange(15) % 3, np.where(np.arange(15) % 3 == 1, np.arange(15.0), 2.0)
    X, Y = data.X.copy(), data.Y.copy()
    X[:, 2], Y[:, 1] = once, once
    with pytest.warns(UserWarning, match=r"feature \S+ does not vary in the rows without fold 1") as caught:
        bl.cross_validate(bl.NNGP(), replace(data, X=X).standardize(), folds=folds, noise=0.5)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(bl.InputError, match="does not vary in the rows without fold 1"):
        bl.cross_validate(bl.NNGP(), replace(data, Y=Y).standardize(), folds=folds, noise=0.5)


def test_statistics_without_rows_are_refused(data):
    chunks = bl.scan_chunks([(data.X, data.Y)])
    for given in (chunks, bl.Spectrum.from_rows(data.X, data.Y)):
        with pytest.raises(bl.InputError, match="rows, which were not kept"):
            bl.cross_validate(bl.NNGP(), given, noise=0.5)
    with pytest.raises(bl.InputError, match="brings its labels"):
        bl.cross_validate(bl.NNGP(), data, data.Y, noise=0.5)
    with pytest.raises(bl.InputError, match="law must be a law"):
        bl.cross_validate("limit", data.standardize(), noise=0.5)
