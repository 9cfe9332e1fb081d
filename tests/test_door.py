"""The door: what cannot be used is refused in one sentence that names it and the remedy, and nothing is written."""

import warnings
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bayeslin as bl
from bayeslin import cli, commands, material

KEY = jax.random.key(0)
ROWS = np.random.default_rng(0).standard_normal((8, 2))
LABELS = np.random.default_rng(1).standard_normal((8, 3))
ROWS, LABELS = ROWS - ROWS.mean(0), LABELS - LABELS.mean(0)
FRAME = pd.DataFrame(np.hstack([ROWS, LABELS]), columns=list("abcde"))


def changed(array, row, column, value):
    array = array.copy()
    array[row, column] = value
    return array


def fit(X=ROWS, Y=LABELS, law=None, **options):
    return bl.fit(bl.NNGP() if law is None else law, X, Y, **{"noise": 1.0, "progress": False} | options)


def table(**columns):
    return bl.Dataset.from_frame(FRAME.assign(**columns), ["d", "e"])


# what is wrong -> the call, what the message names, the remedy that it offers
ARGUMENTS = {
    "law is a number": (lambda: fit(law=0.5), "law", r"such as bl\.Proportional"),
    "law is a class": (lambda: fit(law=bl.NNGP), "law", r"such as bl\.Proportional"),
    "labels transposed": (lambda: fit(Y=LABELS.T), r"Y \(3, 8\)", "one row per example"),
    "inputs transposed": (lambda: fit(ROWS.T, ROWS[:5]), r"X \(2, 8\)", "one row"),
    "no labels": (lambda: fit(Y=None), "labels Y", "give X and Y"),
    "no outputs": (lambda: fit(Y=LABELS[:, :0]), "Y is empty", "at least one row and one column"),
    "one row": (lambda: fit(ROWS[:1], LABELS[:1]), "got 1", "at least two rows"),
    "nan in X": (lambda: fit(changed(ROWS, 2, 1, np.nan)), "X holds nan in row 2, column 1", "drop or fill"),
    "inf in Y": (lambda: fit(Y=changed(LABELS, 7, 0, np.inf)), "Y holds inf in row 7, column 0", "drop or fill"),
    "constant label": (lambda: fit(Y=LABELS * [1, 1, 0]), "column 2 of Y is constant", "leave it out"),
    "text": (lambda: fit([["a", "b"]], [[1.0]]), "X must hold numbers only", "encode text"),
    "three dimensions": (lambda: fit(ROWS[None], LABELS), r"X .* shape \(1, 8, 2\)", "must be a matrix"),
    "a scalar": (lambda: fit(3.0, LABELS), r"X .* shape \(\)", "must be a matrix"),
    "zero inputs": (lambda: fit(np.zeros((8, 2))), "every entry of X is zero", "nothing to learn"),
    "masked": (lambda: fit(np.ma.masked_greater(ROWS, 0)), "X has masked entries", "drop or fill"),
    "complex": (lambda: fit(ROWS * 1j), "X must hold real numbers, got complex128", "convert"),
    "dates": (lambda: fit(ROWS.astype("datetime64[s]")), "X must hold real numbers, got datetime64", "convert"),
    "huge inputs": (lambda: fit(ROWS * 1e200), "too large", "rescale"),
    "tiny inputs": (lambda: fit(ROWS * 1e-200), "too small", "rescale"),
    "zero noise": (lambda: fit(noise=0), "noise", "finite number above"),
    "negative noise": (lambda: fit(noise=-1.0), "noise", "finite number above"),
    "noise unknown": (lambda: fit(noise="loud"), "'loud'", "isotropic"),
    "noise nan": (lambda: fit(noise=np.nan), "noise", "finite number"),
    "noise vanishes": (lambda: fit(noise=1e-170), "noise", "above"),
    "noise learn": (lambda: fit(noise="learn"), "'learn'", "isotropic"),
    "noise normal": (lambda: fit(noise=dist.Normal(0, 1)), "noise .*Normal", "positive numbers, such as"),
    "noise vector": (lambda: fit(noise=[1.0, 2.0]), "noise", "must be a number"),
    "no draws": (lambda: fit(draws=0), "draws", "integer of at least 1"),
    "draws a fraction": (lambda: fit(draws=10.5), "draws", "integer of at least 1"),
    "negative warm-up": (lambda: fit(warmup=-1), "warmup", "integer of at least 0"),
    "chains true": (lambda: fit(chains=True), "chains", "integer of at least 1"),
    "negative seed": (lambda: fit(seed=-1), "seed", "integer of at least 0"),
    "large seed": (lambda: fit(seed=2**70), "seed", "integer"),
    "space unknown": (lambda: fit(space="function"), "'function'", '"scale" or "weights"'),
    "weights of the limit": (lambda: fit(law=bl.Proportional(1.0), space="weights"), "weights", "FiniteNetwork"),
    "spectrum and labels": (lambda: fit(bl.Spectrum.from_rows(ROWS, LABELS)), "Spectrum", "leave Y out"),
    "dataset and labels": (lambda: fit(table()), "Dataset", "leave Y out"),
    "padded spectrum": (lambda: fit(bl.Spectrum.from_rows(ROWS, LABELS).padded(), None), "padded", "use the Spectrum"),
    "too few names": (lambda: fit(output_names=["a", "b"]), r"got \('a', 'b'\)", "3 distinct output names"),
    "repeated names": (lambda: fit(feature_names=["a", "a"]), r"got \('a', 'a'\)", "2 distinct feature names"),
    "tolerance": (lambda: bl.Spectrum.from_rows(ROWS, LABELS, tol=2.0), "tol", "below 1"),
    "negative alpha": (lambda: bl.Proportional(-0.5), "alpha", "at least 0"),
    "alpha text": (lambda: bl.Proportional("deep"), "alpha .*'deep'", "must be a number"),
    "alpha normal": (lambda: bl.Proportional(dist.Normal(0, 1)), "alpha .*Normal", "positive numbers, such as"),
    "alpha vector": (lambda: bl.Proportional(dist.LogNormal(0.0, np.ones(2))), r"alpha .*\(2,\)", "scalar"),
    "zero signal": (lambda: bl.NNGP(0.0), "signal_variance", "above 0"),
    "width zero": (lambda: bl.FiniteNetwork((20, 0)), r"widths\[1\]", "at least 1"),
    "widths a number": (lambda: bl.FiniteNetwork(20), "widths .* 20", r"such as \(20,\) \* 10"),
    "shape a number": (lambda: bl.NNGP().sample_scale(KEY, outputs=2, shape=5), "shape", r"such as \(1000,\)"),
    "moments of a random alpha": (lambda: bl.Proportional("learn").scale_moments(2), "alpha is random", "as a number"),
    "features missing": (lambda: fit().predict(LABELS), "3 columns", "give the same columns"),
    "no new rows": (lambda: fit().predict(ROWS[:0]), "X_new is empty", "at least one row"),
    "one row flat": (lambda: fit().predict(ROWS[0]), "X_new", r"X_new\[None\]"),
    "coverage": (lambda: fit().predict(ROWS).interval(1.2), "coverage", "between 0 and 1"),
    "probability": (lambda: fit().predict(ROWS).quantile(0), "probability", "above 0"),
    "sample shape": (lambda: fit().predict(ROWS).sample(KEY, 5), "shape", "must be a tuple"),
    "label shape": (lambda: fit().log_score(ROWS, ROWS), r"Y_new .*\(8, 2\)", r"must have shape \(8, 3\)"),
    "thin by zero": (lambda: fit().thin(0), "every", "at least 1"),
    "weights of a GP": (lambda: fit().sample_weights(KEY), r"NNGP\(\)", "only a FiniteNetwork"),
    "loo of a spectrum": (
        lambda: fit(bl.Spectrum.from_rows(ROWS, LABELS), None).log_likelihood_loo(),
        "needs the rows",
        "fit X and Y",
    ),
    "columns missing": (lambda: fit(table(), None).predict(FRAME[["a", "b"]]), "no column 'c'", "has a, b"),
    "target unknown": (lambda: bl.Dataset.from_frame(FRAME, ["dd"]), "no column 'dd'", "did you mean 'd'"),
    "target text": (lambda: table(e=list("xyxyxyxy")), "target column 'e' holds text", "give numbers"),
    "target constant": (lambda: table(e=1.0), "target 'e' is constant", "leave it out"),
    "an identifier": (
        lambda: bl.Dataset.from_frame(pd.DataFrame({"y": range(60), "id": [f"i{i}" for i in range(60)]}), "y"),
        "'id' has 60 levels",
        "leave it out",
    ),
    "unseen level": (
        lambda: fit(table(a=list("xyxyxyxy")).standardize(), None).predict(FRAME.assign(a="z")),
        "column 'a' holds 'z'",
        r"levels are \('x', 'y'\)",
    ),
    "missing cells in new rows": (
        lambda: fit(table(), None).predict(FRAME.assign(a=np.nan)),
        "column 'a' has missing cells",
        "fill them",
    ),
    "two outputs for compare": (lambda: bl.compare(ROWS, LABELS[:, :1]), "one column", "two outputs or more"),
    "laws a list": (lambda: bl.compare(ROWS, LABELS, laws=[bl.NNGP()]), "laws", "map names to laws"),
    "no such set": (lambda: bl.load_dataset("iris"), "'iris'", "penguins"),
    "resume an exact one": (lambda: bl.resume(fit(), 10), "exact", "nothing to add"),
}

FILES = {
    "fine.csv": b"a,b,c\n1,2,3\n2,3,5\n4,1,4\n",
    "text.csv": b"a,b,c\n1,2,x\n2,3,y\n4,1,z\n",
    "empty.csv": b"",
    "header.csv": b"a,b,c\n",
    "twice.csv": b"a,a,c\n1,2,3\n2,3,4\n",
    "binary.csv": bytes(range(256)) * 4,
    "binary.parquet": bytes(range(256)) * 4,
    "ragged.csv": b"a,b,c\n1,2,3\n1,2,3,4\n",
    "not.nc": b"a,b\n1,2\n",
}
FIT = "fit fine.csv --targets b,c --out model.nc --noise 0.5"
COMMANDS = {
    "no table": ("fit nowhere.csv --targets b --out m.nc", "nowhere.csv", "give a csv or parquet file"),
    "a folder": ("fit . --targets b --out m.nc", "folder", "give a csv or parquet file"),
    "targets needed": ("fit fine.csv --out m.nc", "targets", "it has a, b, c"),
    "zero bytes": ("fit empty.csv --targets b --out m.nc", "empty.csv", "name the columns"),
    "header only": ("fit header.csv --targets b --out m.nc", "no rows", "at least two rows"),
    "column twice": ("fit twice.csv --targets c --out m.nc", "'a' twice", "rename"),
    "not text": ("fit binary.csv --targets b --out m.nc", "binary.csv", "save it as UTF-8 csv"),
    "not parquet": ("fit binary.parquet --targets b --out m.nc", "binary.parquet", "not a parquet table"),
    "ragged": ("fit ragged.csv --targets b --out m.nc", "ragged.csv", "save it as UTF-8 csv"),
    "text target": ("fit text.csv --targets c --out m.nc", "'c' holds text", "give numbers"),
    "out is no model": (f"{FIT} --out model.txt", "model.txt", "end in .nc"),
    "out would replace the table": (f"{FIT} --out fine.csv", "fine.csv", "end in .nc"),
    "out in no folder": (f"{FIT} --out deep/model.nc", "no folder deep", "make it first"),
    "out has a long name": (f"{FIT} --out {'x' * 300}.nc", "name", "give another"),
    "alpha a word": (f"{FIT} --alpha much", "'much'", "must be a number"),
    "alpha negative": (f"{FIT} --alpha -1", "alpha", "at least 0"),
    "noise a word": (f"{FIT} --noise loud", "'loud'", "isotropic"),
    "width zero": (f"{FIT} --law finite --width 0", "width", "at least 1"),
    "draws zero": (f"{FIT} --draws 0", "draws", "at least 1"),
    "no model": ("predict nowhere.nc fine.csv", "nowhere.nc", "bayeslin fit"),
    "foreign model": ("predict not.nc fine.csv", "not.nc", "no netCDF file"),
    "foreign summary": ("summary not.nc", "not.nc", "no netCDF file"),
    "table for a model": ("summary fine.csv", "fine.csv", "no netCDF file"),
    "foreign resumed": ("resume not.nc", "not.nc", "no netCDF file"),
    "predictions as text": ("predict not.nc fine.csv --out p.txt", "p.txt", ".csv or .parquet"),
}


@pytest.mark.parametrize("case", [*ARGUMENTS, *(f"command: {name}" for name in COMMANDS)])
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    if case in ARGUMENTS:
        call, thing, remedy = ARGUMENTS[case]
        with pytest.raises(bl.InputError, match=thing) as caught:
            call()
        assert caught.match(remedy)
    else:
        line, thing, remedy = COMMANDS[case.removeprefix("command: ")]
        assert cli.main(line.split()) == commands.BAD_INPUT
        printed = capsys.readouterr()
        assert printed.out == "" or line.startswith("fit"), "what was read may be said before"
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("bayeslin: ")
        assert thing in printed.err
        assert remedy in printed.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FILES


def test_the_table_of_bad_input_is_long_enough():
    assert len(ARGUMENTS) + len(COMMANDS) >= 60


# Any finite table either fits or is refused


anything = st.floats(allow_nan=False, allow_infinity=False, width=64)
shapes = st.sampled_from([(2, 1, 1), (4, 3, 2), (3, 3, 2), (2, 4, 1)])
thorough = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def is_finite(post, X):
    found = [post.predict(X).mean, *(part for p in (post.predict(X, noise=True),) for part in (p.cov, p.interval(0.9)))]
    return all(np.isfinite(part).all() for part in found)


@thorough
@given(data=st.data(), elements=st.sampled_from([anything, st.floats(-1e3, 1e3), st.sampled_from([0.0, 1.0, -1.0])]))
def test_any_finite_arrays_either_fit_or_are_refused(data, elements):
    n, p, D = data.draw(shapes)
    X = data.draw(arrays.arrays(float, (n, p), elements=elements))
    Y = data.draw(arrays.arrays(float, (n, D), elements=elements))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # columns that are not centred are said
        try:
            post = fit(X, Y, noise=0.5)
        except bl.InputError:
            return
    assert is_finite(post, X)


@thorough
@given(data=st.data(), text=st.booleans())
def test_any_table_either_fits_or_is_refused(data, text):
    n = 5
    cells = st.one_of(st.none(), anything, st.integers(-3, 3)) if not text else st.sampled_from(["x", "y", None])
    frame = pd.DataFrame(
        {
            "a": data.draw(st.lists(cells, min_size=n, max_size=n)),
            "b": data.draw(st.lists(anything, min_size=n, max_size=n)),
            "y": data.draw(st.lists(anything, min_size=n, max_size=n)),
        }
    )
    try:
        table = bl.Dataset.from_frame(frame, ["y"]).standardize()
        post = fit(table, None, noise=0.5)
    except bl.InputError:
        return
    assert is_finite(post, frame.dropna())


FLAT = np.random.default_rng(2).standard_normal((6, 9))
FLAT = FLAT - FLAT.mean(0)  # rank 5


def read(noise, X, Y):
    return material.read(bl.NNGP(), bl.Noise(noise), X, Y - Y.mean(0))


@pytest.mark.parametrize(
    "noise", ["isotropic", "diagonal", "full", pytest.param(dist.HalfCauchy(1.0), id="half-Cauchy")]
)
def test_noise_that_nothing_keeps_from_zero_is_said(noise):
    with pytest.warns(
        UserWarning, match="6 rows of inputs of rank 5 leave no residual.*improper. Give noise as a number"
    ):
        read(noise, FLAT, LABELS[:6])


@pytest.mark.parametrize(
    ("noise", "X", "Y"),
    [
        (0.5, FLAT, LABELS[:6]),
        (dist.LogNormal(-1.0, 1.0), FLAT, LABELS[:6]),
        (bl.Noise("full", dist.LogNormal(-1.0, 1.0)), FLAT, LABELS[:6]),
        (dist.LogNormal(-1.0, 20.0), FLAT, LABELS[:6]),  # below any power, though slowly
        (dist.InverseGamma(2.0, 1.0), FLAT, LABELS[:6]),
        (dist.Uniform(0.1, 1.0), FLAT, LABELS[:6]),
        (dist.Gamma(4.0, 4.0), FLAT, LABELS[:6]),  # sd^3 against sd^-3
        ("full", ROWS, LABELS),
        ("isotropic", FLAT[:, :2], LABELS[:6]),
    ],
    ids=[
        "known",
        "log-normal",
        "full, log-normal",
        "wide",
        "inverse gamma",
        "bounded",
        "steep at zero",
        "two features",
        "two of nine features",
    ],
)
def test_noise_that_something_keeps_from_zero_is_not(noise, X, Y):
    read(noise, X, Y)
