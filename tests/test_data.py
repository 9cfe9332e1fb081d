"""Tables become data sets that say what was done to them, and teachers have exactly the truth that was asked for."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl

SHAPES = {"penguins": (333, 9, 4), "linnerud": (20, 3, 3), "diabetes": (442, 10, 1)}


@pytest.mark.parametrize("name", SHAPES)
def test_shipped_files_are_the_documented_ones(name):
    path = bl.data.shipped_path(name)
    readme = (path.parent / "README.md").read_text()
    documented = re.search(rf"`{name}\.csv` \|.*`([0-9a-f]{{64}})`", readme)[1]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == documented
    data = bl.load_dataset(name)
    assert (*data.X.shape, data.Y.shape[1]) == SHAPES[name]


def test_standardize_is_visible_and_invertible():
    data = bl.load_dataset("penguins")
    once = data.standardize()
    twice = once.standardize()
    np.testing.assert_allclose([once.X.mean(), once.Y.mean()], 0, atol=1e-12)
    np.testing.assert_allclose(once.Y.std(0), 1, atol=1e-12)
    np.testing.assert_allclose(once.y_mean, data.Y.mean(0))
    for moved in (once, twice):
        np.testing.assert_allclose(moved.original().X, data.X, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moved.original().Y, data.Y, rtol=1e-12)


def test_a_constant_column_becomes_zero():
    X = np.column_stack([np.arange(3.0), np.full(3, 0.1)])  # the sd of the second rounds to 1e-17
    data = bl.Dataset(X, X, ("a", "b"), ("c", "d")).standardize()
    np.testing.assert_array_equal(data.X[:, 1], 0)
    np.testing.assert_array_equal(data.x_scale[1], 1)
    np.testing.assert_allclose(data.original().X, X, atol=1e-15)


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_numbers_that_cannot_be_squared_are_refused(factor):
    X = np.arange(6.0)[:, None]
    with pytest.raises(bl.InputError, match="Y holds numbers too large or too small to be squared"):
        bl.Dataset(X, X * factor, ("a",), ("b",)).standardize()


def test_text_keeps_all_its_levels_and_dropped_rows_are_counted():
    data = bl.load_dataset("penguins")
    species = [name for name in data.feature_names if name.startswith("species=")]
    assert species == ["species=Adelie", "species=Chinstrap", "species=Gentoo"]
    assert (data.X[:, :3].sum(1) == 1).all()
    assert data.notes[0].startswith("11 of 344 rows dropped, cells missing in sex (11)")


def test_new_tables_are_encoded_alike():
    data = bl.load_dataset("penguins").standardize()
    table = pd.read_csv(bl.data.shipped_path("penguins")).dropna()
    np.testing.assert_allclose(data.encode(table.iloc[:7]), data.X[:7], atol=1e-12)
    with pytest.raises(bl.InputError, match="Emperor"):
        data.encode(table.assign(species="Emperor"))
    with pytest.raises(bl.InputError, match="species"):
        data.encode(table.drop(columns="species"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_and_constant_features_are_named(tmp_path, delimiter):
    rows = ["a b c d", "1 2 3 0", "2 1 3 1", "3 2 3 2"]
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + "\n".join(rows).replace(" ", delimiter))
    data = bl.read_table(path, targets=["d"])
    assert data.feature_names == ("a", "b")
    assert data.notes == ("left out, constant: c",)


def test_quoted_headers_may_hold_other_delimiters(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('"a,b,c,d";x;y\n1;2;3\n2;5;1\n3;1;1\n')
    assert bl.read_table(path, targets="y").feature_names == ("a,b,c,d", "x")


def test_data_frames_may_have_numbers_for_names():
    frame = pd.DataFrame({0: [1.0, 2, 4], 1: [1.0, 1, 1], 2: [0.0, 3, 2]})
    data = bl.Dataset.from_frame(frame, [2])
    assert data.notes == ("left out, constant: 1",)
    assert "outputs 2" in repr(data)
    with pytest.raises(bl.InputError, match="names the column '2' twice"):
        bl.Dataset.from_frame(frame.set_axis([0, 2, 2], axis=1), [2])


def test_missing_cells_of_new_tables_are_said():
    data = bl.load_dataset("penguins")
    table = pd.read_csv(bl.data.shipped_path("penguins")).dropna().head(3)
    for column in ("species", "year"):
        with pytest.raises(bl.InputError, match=f"{column!r} has missing cells"):
            data.encode(table.assign(**{column: [None, *table[column][1:]]}))


def test_teachers_have_the_asked_correlation_and_noise():
    truth = bl.data.teacher(2000, 5, 3, seed=4, correlation=-0.3, noise=0.7)
    np.testing.assert_allclose(truth.map @ truth.map.T, np.where(np.eye(3), 1, -0.3), atol=1e-12)
    residual = truth.dataset.Y - truth.dataset.X @ truth.map.T
    error = 0.7 / np.sqrt(2 * residual.size)
    assert abs(residual.std() - 0.7) < 5 * error
    again = bl.data.teacher(2000, 5, 3, seed=4, correlation=-0.3, noise=0.7)
    assert (again.dataset.Y == truth.dataset.Y).all()


@pytest.mark.parametrize(
    ("content", "keywords", "message"),
    [
        ("a,b\n1,2\n3,4\n", {}, "which columns of table.csv are the targets.*a, b"),
        ("a,b\n1,2\n3,4\n", {"targets": ["c"]}, "no column 'c'"),
        ("apple,b\n1,2\n3,4\n", {"targets": ["aple"]}, "did you mean 'apple'"),
        ("a,b\n1,2\n3,4\n", {"targets": ["b", "b"]}, "named twice"),
        ("a,b\n1,2\n3,4\n", {"targets": []}, "no column named"),
        ("a,b\n1,2\n3,4\n", {"targets": ["b"], "features": ["a", "b"]}, "both a target and a feature"),
        ("a,a\n1,2\n3,4\n", {"targets": ["a"]}, "twice; rename"),
        ("a,b\n1,x\n3,y\n", {"targets": ["b"]}, "target column 'b' holds text, 'x' in row 0"),
        ("a,b\n1,2\n3,2\n", {"targets": ["b"]}, "target 'b' is constant"),
        ("a,b\n1,2\n1,4\n", {"targets": ["b"]}, "no feature that varies"),
        ("a,b\n1,2\n,4\n", {"targets": ["b"]}, r"1 complete rows \(cells missing in a \(1\)\)"),
        ("a,b\n1,2\n3,4\n", {"targets": "a,b"}, "no column 'a,b'"),
        ("s,s=x,b\nx,5,2\ny,6,3\nx,9,1\n", {"targets": "b"}, "two features would be named 's=x'"),
        ("a,b\n1,2\n3,4\n", {"targets": ["a", "b"]}, "no feature is left"),
        ("a,b\n1,2\n", {"targets": ["b"]}, "at least two"),
        ("a,b\n", {"targets": ["b"]}, "no rows"),
        ("", {"targets": ["b"]}, "empty"),
        ("a,b\n1,2\n3,inf\n", {"targets": ["b"]}, "'b' holds infinity.*row 1"),
        ("a,b\n-inf,2\n3,1\n", {"targets": ["b"]}, "'a' holds infinity"),
        ("a,b\n1,2,3\n3,4\n", {"targets": ["b"]}, "not a csv table"),
        ("a,b\n1,2\n3,4,5\n", {"targets": ["b"]}, "not a csv table"),
        (bytes(range(256)), {"targets": ["b"]}, "not a csv table"),
        ("id,b\n" + "".join(f"p{i},{i}\n" for i in range(60)), {"targets": ["b"]}, "60 levels"),
    ],
)
def test_bad_tables_are_refused_by_name(content, keywords, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(bl.InputError, match=message):
        bl.read_table(path, **keywords)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.load_dataset("iris"), "penguins, linnerud, diabetes"),
        (lambda: bl.read_table("nowhere.csv"), "nowhere.csv does not exist"),
        (lambda: bl.read_table(None), "None cannot be read"),
        (lambda: bl.read_table("~nobody-of-this-name/a.csv"), "cannot be read"),
        (lambda: bl.data.teacher(5, 3, 2, seed=-1), "seed"),
        (lambda: bl.data.teacher(5, 1, 2, seed=0), "at least 2 features"),
        (lambda: bl.data.teacher(5, 3, 3, seed=0, correlation=-0.9), "positive semidefinite"),
        (lambda: bl.data.teacher(5, 3, 2, seed=0, correlation=np.eye(3)), "symmetric 2 x 2"),
        (lambda: bl.data.teacher(1, 3, 2, seed=0), "n must be"),
        (lambda: bl.data.teacher(5, 3, 2, seed=0, noise=-1), "noise"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(bl.InputError, match=message):
        call()
