"""Parquet read in batches: the data set that all rows in memory give, without the rows, and what is refused alike."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_rows import EPS, assert_same

import bayeslin as bl
from bayeslin import cli, commands, scan

FEW = {"draws": 40, "warmup": 60, "chains": 2, "progress": False}


@pytest.fixture
def table(rng):
    """400 rows: numbers far from zero, whole numbers, truth values, text, numbers as text, a constant, and holes."""
    n = 400
    frame = pd.DataFrame(
        {
            "a": 1e6 + rng.standard_normal(n),
            "count": rng.integers(0, 9, n),
            "flag": rng.random(n) < 0.3,
            "group": rng.choice(["red", "green", "blue"], n),
            "digits": rng.integers(0, 300, n).astype(str),
            "still": 4.0,
            " spaced": rng.random(n).astype(np.float32),
        }
    )
    frame["y"] = frame.a * 2 - (frame.group == "red") + rng.standard_normal(n)
    frame["z"] = frame["count"] + rng.standard_normal(n)
    frame.loc[[3, 200], "a"] = np.nan
    frame.loc[300, "group"] = None
    frame.loc[301, ["y", "z"]] = np.nan
    frame.loc[[3, 300], "group"] = ["only where a is missing", None]
    return frame


@pytest.fixture
def path(table, tmp_path):
    table.to_parquet(tmp_path / "t.parquet", row_group_size=70)
    return tmp_path / "t.parquet"


@pytest.fixture(params=[1 << 20, 300], ids=["one batch", "many batches"])
def cells(request, monkeypatch):
    monkeypatch.setattr(scan, "CELLS", request.param)


def same_statistics(scanned, kept, atol=1000 * EPS):
    whole = bl.Spectrum.from_rows(kept.X, kept.Y, tol=1e-10)
    found = bl.Spectrum.from_factor(scanned.factor, len(scanned.feature_names), tol=1e-10)
    assert_same(found, whole, kept.X, kept.Y, atol)


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("features", [None, ["group", "a"], ["digits", "spaced", "still"]])
def test_it_is_the_data_set_of_all_rows_without_the_rows(features, path):
    kept = bl.read_table(path, targets=["z", "y"], features=features)
    scanned = bl.scan_table(path, targets=["z", "y"], features=features)
    assert repr(scanned) == repr(kept)
    assert scanned.n == kept.n == 400 - (1 if features == ["digits", "spaced", "still"] else 4)
    for name in ("feature_names", "output_names", "columns", "notes", "name"):
        assert getattr(scanned, name) == getattr(kept, name), name
    assert (scanned.X.shape, scanned.Y.shape) == ((0, kept.X.shape[1]), (0, 2))
    same_statistics(scanned, kept)
    one, two = scanned.standardize(), kept.standardize()
    same_statistics(one, two, atol=1e-10)  # entries of 1e6 are known to 1e-10
    for name in ("x_mean", "x_scale", "y_mean", "y_scale"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-10, err_msg=name)
    again = one.standardize()
    np.testing.assert_allclose(again.y_scale, one.y_scale, rtol=1e-12)
    same_statistics(again.original(), kept, atol=1e-10)


def test_levels_are_those_of_complete_rows(path, table):
    scanned = bl.scan_table(path, targets=["y", "z"])
    assert scanned.columns[3].levels == ("blue", "green", "red")
    assert scanned.notes == (
        "4 of 400 rows dropped, cells missing in a (2), group (1), y (1), z (1)",
        "group one-hot: blue, green, red",
        "left out, constant: still",
    )
    assert "only where a is missing" in bl.scan_table(path, targets="z", features="group").columns[0].levels


def test_new_rows_are_encoded_alike(path, table):
    kept, scanned = bl.read_table(path, targets=["y"]), bl.scan_table(path, targets=["y"])
    np.testing.assert_allclose(scanned.encode(table.dropna()), kept.X, rtol=0)


def test_an_index_that_pandas_kept_is_no_feature(tmp_path, table):
    table.set_axis([f"row {k}" for k in range(400)], axis=0).rename_axis("id").to_parquet(tmp_path / "t.parquet")
    both = [read(tmp_path / "t.parquet", targets=["y"]) for read in (bl.read_table, bl.scan_table)]
    assert both[0].feature_names == both[1].feature_names


BAD = {
    "unknown target": ({}, {"targets": ["Y"]}),
    "no target": ({}, {}),
    "both": ({}, {"targets": "y", "features": ["a", "y"]}),
    "every column a target": ({}, {"targets": ["a", "y"]}),
    "constant target": ({"y": 1.0}, {"targets": "y"}),
    "text in a target": ({"y": ["1"] * 59 + ["x"]}, {"targets": "y"}),
    "infinity": ({"a": [0.0, 1.0] * 29 + [0.0, np.inf]}, {"targets": "y"}),
    "too large": ({"a": [0.0, 1e200] * 30}, {"targets": "y"}),
    "no feature varies": ({"a": 3}, {"targets": "y"}),
    "an identifier": ({"a": [f"id {k}" for k in range(60)]}, {"targets": "y"}),
    "a late word among numbers": ({"a": [*map(str, range(59)), "x"]}, {"targets": "y"}),
    "levels in most rows": ({"a": [f"{k // 2} of 30" for k in range(60)], "y": [1.0, *[np.nan] * 30, *range(29)]},
                            {"targets": "y"}),
    "decimal commas": ({"a": [f"0,{k % 7}" for k in range(60)]}, {"targets": "y"}),
    "dates": ({"a": pd.date_range("2020-01-01", periods=60)}, {"targets": "y"}),
    "a target of dates": ({"y": pd.date_range("2020-01-01", periods=60)}, {"targets": "y"}),
    "one complete row": ({"a": [1.0] + [np.nan] * 59}, {"targets": "y"}),
    "names twice": ({"s": list("xy") * 30, "s=x": range(60)}, {"targets": "y"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_tables_are_refused_in_the_words_of_read_table(name, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "CELLS", 40)  # batches of some rows
    columns, chosen = BAD[name]
    frame = pd.DataFrame({"a": np.arange(60.0) % 7, "y": np.arange(60.0) ** 2} | columns)
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(bl.InputError) as expected:
        bl.read_table(tmp_path / "t.parquet", **chosen)
    words = re.sub(r"has \d+ levels in \d+ rows", "has N levels in M rows", str(expected.value))  # so far
    with pytest.raises(bl.InputError) as found:
        bl.scan_table(tmp_path / "t.parquet", **chosen)
    assert re.sub(r"has \d+ levels in \d+ rows", "has N levels in M rows", str(found.value)) == words


def test_files_that_cannot_be_scanned_are_refused(tmp_path, table):
    with pytest.raises(bl.InputError, match=r"linnerud\.csv is not parquet.*use read_table"):
        bl.scan_table(bl.data.shipped_path("linnerud"))
    with pytest.raises(bl.InputError, match="does not exist"):
        bl.scan_table(tmp_path / "t.parquet", targets="y")
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(bl.InputError, match=r"text\.parquet is not a parquet table"):
        bl.scan_table(tmp_path / "text.parquet", targets="b")
    table[:0].to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(bl.InputError, match="empty has a header but no rows"):
        bl.scan_table(tmp_path / "empty.parquet", targets="y")
    pd.DataFrame({"a": [[1, 2]] * 5, "y": range(5)}).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(bl.InputError, match=r"column 'a' holds list.*leave it out"):
        bl.scan_table(tmp_path / "lists.parquet", targets="y")
    table[["z", "y"]].to_parquet(tmp_path / "damaged.parquet", row_group_size=50, compression=None)
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    content[4:2000] = bytes(1996)
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(bl.InputError, match=r"cannot be read after row 0 "):
        bl.scan_table(tmp_path / "damaged.parquet", targets="y")


def test_what_is_too_small_to_be_squared_is_refused(tmp_path):
    frame = pd.DataFrame({"a": np.arange(9.0), "y": 1e-200 * np.arange(9)})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(bl.InputError, match="Y holds numbers too large or too small to be squared"):
        bl.scan_table(tmp_path / "t.parquet", targets="y").standardize()


# Fits


@pytest.fixture
def both(path):
    return [read(path, targets=["y", "z"]).standardize() for read in (bl.read_table, bl.scan_table)]


def test_an_exact_fit_predicts_in_the_units_of_the_table(both, table):
    kept, scanned = (bl.fit(bl.NNGP(), data, noise=0.5).predict(table.dropna()[:9], noise=True) for data in both)
    np.testing.assert_allclose(scanned.mean, kept.mean, rtol=1e-9)
    np.testing.assert_allclose(scanned.cov, kept.cov, rtol=1e-9)


def test_it_warns_of_columns_far_from_zero_as_with_rows(path):
    said = []
    for read in (bl.read_table, bl.scan_table):
        with pytest.warns(UserWarning, match="the network has no bias") as seen:
            bl.fit(bl.NNGP(), read(path, targets=["z"]), noise=0.5)
        said.append([str(warning.message) for warning in seen])
    assert said[0] == said[1]
    assert said[0][0].startswith("column 0 of X has mean 1e+06 and sd ")


def test_what_needs_rows_says_so(both):
    data = both[1]
    post = bl.fit(bl.NNGP(), data, noise=0.5)
    with pytest.raises(bl.InputError, match="needs the rows"):
        post.log_likelihood_loo()
    with pytest.raises(bl.InputError, match="needs a FiniteNetwork and the rows"):
        bl.fit(bl.FiniteNetwork((3,)), data, space="weights")
    with pytest.raises(bl.InputError, match="compare permutes rows"):
        bl.compare(data)


@pytest.mark.filterwarnings("ignore::bayeslin.diagnostics.ConvergenceWarning")
def test_files_keep_units_and_factor(both, table, tmp_path):
    post = bl.fit(bl.NNGP(), both[1], **FEW)
    post.save(tmp_path / "m.nc")
    again = bl.Posterior.load(tmp_path / "m.nc")
    new = table.dropna()[:9]
    np.testing.assert_array_equal(again.predict(new).mean, post.predict(new).mean)
    np.testing.assert_array_equal(again.predict(new, noise=True).cov, post.predict(new, noise=True).cov)
    assert repr(again.dataset) == repr(post.dataset)
    assert again.dataset.columns == post.dataset.columns
    one, two = bl.resume(again, 10, progress=False), bl.resume(post, 10, progress=False)
    np.testing.assert_array_equal(one.scale, two.scale)
    refit = bl.fit(bl.NNGP(), again.dataset, noise=0.5)
    np.testing.assert_array_equal(refit.predict(new).mean, bl.fit(bl.NNGP(), both[1], noise=0.5).predict(new).mean)


def test_a_posterior_of_bare_statistics_with_no_data_set_is_as_before(both, tmp_path):
    spec = bl.Spectrum.from_factor(both[1].factor, len(both[1].feature_names))
    bl.fit(bl.NNGP(), spec, noise=0.5).save(tmp_path / "m.nc")
    assert bl.Posterior.load(tmp_path / "m.nc").dataset is None


def test_the_command_line_streams_large_files_only(path, table, tmp_path, monkeypatch, capsys):
    arguments = ["fit", str(path), "--targets", "y,z", "--law", "nngp", "--noise", "0.5", "--out"]
    assert cli.main([*arguments, str(tmp_path / "kept.nc")]) == commands.DONE
    assert "rows not kept" not in capsys.readouterr().out
    monkeypatch.setattr(scan, "LARGE", 400 * 9)
    assert not scan.is_large(path)
    monkeypatch.setattr(scan, "LARGE", 400 * 9 - 1)
    assert cli.main([*arguments, str(tmp_path / "streamed.nc")]) == commands.DONE
    printed = capsys.readouterr()
    for text in ("396 rows, 8 features, outputs y, z", "rows not kept", "4 of 400 rows dropped", "group one-hot"):
        assert text in printed.out
    assert "rows: 100%" in printed.err
    assert cli.main([*arguments, str(tmp_path / "quiet.nc"), "--quiet"]) == commands.DONE
    assert capsys.readouterr().err == ""
    assert bl.Posterior.load(tmp_path / "streamed.nc").rows is None

    table.dropna()[:7].drop(columns=["y", "z"]).to_csv(tmp_path / "new.csv", index=False)
    found = []
    for name in ("kept", "streamed"):
        assert cli.main(["predict", str(tmp_path / f"{name}.nc"), str(tmp_path / "new.csv"), "--json"]) == commands.DONE
        found.append(pd.DataFrame(json.loads(capsys.readouterr().out)))
        assert cli.main(["summary", str(tmp_path / f"{name}.nc"), "--json"]) == commands.DONE
        assert json.loads(capsys.readouterr().out)["rows"] == 396
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """1e6 rows of 53 numbers, 424 MB, in a single row group: never held whole."""
    rng = np.random.default_rng(0)
    names = [f"x{k}" for k in range(50)] + ["a", "b", "c"]
    pd.DataFrame({name: rng.standard_normal(1_000_000) for name in names}).to_parquet(tmp_path / "t.parquet")
    code = (
        "import re, resource, sys, bayeslin as bl; "  # on Linux ru_maxrss begins at that of the process of these tests
        "unit = 1024 if sys.platform == 'darwin' else 1; "
        "status = lambda: re.search('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[1]; "
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit; "
        "peak = (lambda: int(status())) if sys.platform == 'linux' else used; "
        "before = peak(); data = bl.scan_table(sys.argv[1], targets=['a', 'b', 'c']); assert data.n == 1_000_000; "
        "print((peak() - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.parquet")], check=True, capture_output=True)
    assert int(done.stdout) < 404  # MiB: the numbers alone; some 250, of which 66 are the import of pandas and pyarrow
