"""`compare` and the command line: the main job, as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl
from bayeslin import cli, commands
from bayeslin.comparison import default_laws

COLUMNS = [
    *("law", "alpha", "alpha_lower", "alpha_upper", "output_a", "output_b"),
    *("scale_correlation", "scale_mcse", "scale_lower", "scale_upper"),
    *("function_within", "function_correlation", "function_mcse"),
    *("noise_correlation", "noise_lower", "noise_upper", "control_mean", "control_lower", "control_upper"),
    *("rhat_max", "ess_min", "divergences"),
]
SMALL = {"draws": 1000, "warmup": 500, "chains": 4, "progress": False}


@pytest.fixture(scope="module")
def teacher():
    return bl.data.teacher(40, 3, 2, seed=3, correlation=0.9, noise=0.5)


@pytest.fixture(scope="module")
def found(teacher):
    data = teacher.dataset.standardize()
    return bl.compare(data.X, data.Y, control=3, output_names=data.output_names, **SMALL)


def test_table_has_a_row_for_each_law_and_pair(found):
    assert list(found.table.columns) == COLUMNS
    assert list(found.table.law) == ["NNGP", "finite", "proportional"]
    assert found.table.alpha.tolist() == pytest.approx([0.0, 0.5, 0.5])
    assert list(found.posteriors) == ["NNGP", "finite", "proportional"]


def test_nngp_has_no_scale_correlation_and_no_function_correlation_within(found):
    row = found.table.iloc[0]
    assert row.scale_correlation == row.scale_mcse == row.scale_lower == row.scale_upper == 0
    assert row.function_within == row.control_mean == 0


def test_the_other_laws_follow_the_sign_of_the_teacher(found):
    for row in found.table.iloc[1:].itertuples():
        assert row.scale_correlation > 5 * row.scale_mcse
        assert row.function_within > 5 * row.function_mcse
        assert row.scale_correlation > row.control_upper


def test_the_sign_turns_with_the_teacher(teacher, found):
    data = teacher.dataset.standardize()
    laws = {"finite": found.posteriors["finite"].law}
    turned = bl.compare(data.X, data.Y * [1.0, -1.0], laws=laws, **SMALL).table.iloc[0]
    straight = found.table.iloc[1]
    difference = turned.scale_correlation + straight.scale_correlation
    assert abs(difference) < 5 * np.hypot(turned.scale_mcse, straight.scale_mcse)
    assert np.isnan(turned.control_mean)


def test_the_sentence_names_the_pair_and_the_control(found):
    sentence = found.sentence()
    assert "output 0" in sentence.replace("_", " ") or found.table.output_a[0] in sentence
    assert "permuted" in sentence
    assert "NNGP it is 0" in sentence


def test_known_noise_leaves_the_nngp_without_any_function_correlation(teacher):
    data = teacher.dataset.standardize()
    table = bl.compare(data.X, data.Y, laws={"gp": bl.NNGP()}, noise=0.5, **SMALL).table
    assert table.function_correlation[0] == table.function_mcse[0] == 0
    assert np.isnan(table.rhat_max[0])


@pytest.mark.parametrize("name", ["penguins", "linnerud"])
def test_nngp_correlations_are_exactly_zero_on_shipped_sets(name):
    data = bl.load_dataset(name).standardize()
    table = bl.compare(data.X, data.Y, laws={"gp": bl.NNGP()}, noise=0.7, **SMALL).table
    assert (table[["scale_correlation", "function_within", "function_correlation"]] == 0).all(axis=None)


def test_save_writes_table_posteriors_and_figure(found, tmp_path):
    paths = found.save(tmp_path / "deep" / "folder")
    assert sorted(paths) == sorted((tmp_path / "deep" / "folder").iterdir()), "nothing else is left there"
    assert {path.name for path in paths} == {
        "table.csv", "table.json", "NNGP.nc", "finite.nc", "proportional.nc", "correlations.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 500 for path in paths)
    read = pd.read_csv(tmp_path / "deep" / "folder" / "table.csv")
    np.testing.assert_allclose(read.scale_correlation, found.table.scale_correlation, rtol=1e-12)
    assert json.loads((tmp_path / "deep" / "folder" / "table.json").read_text())[1]["law"] == "finite"


def test_a_folder_that_is_a_file_is_refused(found, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(bl.InputError, match=r"cannot make the folder .*taken \(File exists\)"):
        found.save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_interrupted_save_leaves_what_was_there(found, tmp_path, monkeypatch):
    found.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bayeslin.plots.save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        found.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_output_has_nothing_to_correlate():
    data = bl.load_dataset("diabetes").standardize()
    with pytest.raises(bl.InputError, match=r"one column.*two outputs"):
        bl.compare(data.X, data.Y)


def test_exact_posteriors_are_no_cause_for_alarm(linnerud):
    found = bl.compare(*linnerud, laws={"flat": bl.Proportional(0.0)}, noise=0.5, control=2)
    assert found.control_unconverged == 0
    assert found.converged


def test_names_that_matplotlib_would_read_as_mathematics_are_drawn(linnerud, tmp_path):
    names = [r"$\bad$", "$", "100 %"]
    found = bl.compare(*linnerud, laws={r"$\law": bl.NNGP()}, noise=0.5, output_names=names)
    assert (tmp_path / "correlations.png") in found.save(tmp_path)


def test_small_alpha_still_has_a_layer():
    assert default_laws(0.01)["finite"].widths == (20,)
    assert default_laws(0.0)["finite"].widths == ()


@pytest.mark.parametrize(
    ("laws", "message"),
    [
        ([bl.NNGP()], "must map names to laws"),
        ({0.1: bl.NNGP()}, "need names"),
        ({"": bl.NNGP()}, "need names"),
        ({"a=1": bl.NNGP(), "A 1": bl.NNGP(2.0)}, "differ as file names"),
    ],
)
def test_laws_need_names_that_make_files(laws, message, linnerud):
    with pytest.raises(bl.InputError, match=message):
        bl.compare(*linnerud, laws=laws)


@pytest.mark.parametrize("seed", [-1, 1.5, 2**63])
def test_seeds_are_checked_before_the_work(seed, linnerud):
    with pytest.raises(bl.InputError, match="seed must be an integer of at least 0"):
        bl.compare(*linnerud, seed=seed)


def test_a_spectrum_is_sent_to_fit(linnerud):
    with pytest.raises(bl.InputError, match="without rows use fit"):
        bl.compare(bl.Spectrum.from_rows(*linnerud), None)


@pytest.mark.parametrize("laws", [{}, {"a": 0.5}, {"a": bl.NNGP}])
def test_laws_must_be_laws(laws, linnerud):
    with pytest.raises(bl.InputError, match=r"bl\.NNGP\(\)"):
        bl.compare(*linnerud, laws=laws)


# The command line


def test_compare_command_prints_what_it_read_the_table_and_a_sentence(tmp_path, capsys):
    code = cli.main(["compare", "linnerud", "--control", "0", "--noise", "0.8", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert code == commands.DONE
    for text in ("20 rows", "centred", "Weight and Waist", "NNGP", "finite", "proportional", "scale correlation"):
        assert text in printed.out
    assert "Proportional(0.5) sampling" in printed.err, "a progress bar per law"
    assert (tmp_path / "out" / "correlations.png").exists()


def test_json_is_the_table_alone_and_unconverged_draws_are_said(capsys):
    few = ["--draws", "20", "--control", "0", "--noise", "0.8", "--seed", "1"]
    code = cli.main(["compare", "linnerud", "--json", "--quiet", *few])
    printed = capsys.readouterr()
    assert code == commands.NOT_CONVERGED
    records = json.loads(printed.out)
    assert set(records[0]) == set(COLUMNS)
    assert "too few draws" in printed.err


TABLES = {
    "text.csv": b"a,b,c\n1,2,x\n2,3,y\n4,1,z\n",
    "constant.csv": b"a,b,c\n1,2,5\n2,3,5\n4,1,5\n",
    "empty.csv": b"",
    "header.csv": b"a,b,c\n",
    "one_row.csv": b"a,b,c\n1,2,3\n",
    "infinite.csv": b"a,b,c\n1,2,inf\n2,3,4\n3,1,2\n",
    "all.csv": b"b,c\n1,2\n2,3\n4,1\n",
    "hollow.csv": b"a,b,c,\n1,2,3,\n2,3,5,\n4,1,4,\n",
    "fine.csv": b"a,b,c\n1,2,3\n2,3,5\n4,1,4\n",
    "binary.csv": bytes(range(256)) * 4,
}
BAD = {
    "no such file": ("nowhere.csv --targets b,c", "nowhere.csv"),
    "a folder": (". --targets b,c", "folder"),
    "targets needed": ("fine.csv", "targets"),
    "unknown target": ("fine.csv --targets b,d", "d"),
    "repeated target": ("fine.csv --targets b,b", "b"),
    "target as feature": ("fine.csv --targets b,c --features a,b", "b"),
    "unknown feature": ("fine.csv --targets b,c --features q", "q"),
    "text in target": ("text.csv --targets b,c", "c"),
    "constant target": ("constant.csv --targets b,c", "constant"),
    "zero bytes": ("empty.csv --targets b,c", "empty"),
    "header only": ("header.csv --targets b,c", "row"),
    "one row": ("one_row.csv --targets b,c", "two"),
    "infinity": ("infinite.csv --targets b,c", "inf"),
    "not a table": ("binary.csv --targets b,c", "binary.csv"),
    "no feature left": ("all.csv --targets b,c", "no feature is left"),
    "an empty column": ("hollow.csv --targets b,c", "Unnamed: 3 (3)"),
    "long name": (f"{'x' * 300}.csv --targets b,c", "cannot be read"),
    "negative seed": ("fine.csv --targets b,c --seed -1", "seed"),
    "long out": (f"fine.csv --targets b,c --out {'x' * 300}", "--out"),
    "one target": ("fine.csv --targets b", "two outputs"),
    "negative alpha": ("fine.csv --targets b,c --alpha -1", "alpha"),
    "nan alpha": ("fine.csv --targets b,c --alpha nan", "alpha"),
    "zero width": ("fine.csv --targets b,c --width 0", "width"),
    "negative depth": ("fine.csv --targets b,c --depth -2", "depth"),
    "unknown noise": ("fine.csv --targets b,c --noise loud", "noise"),
    "zero noise": ("fine.csv --targets b,c --noise 0", "noise"),
    "no draws": ("fine.csv --targets b,c --draws 0", "draws"),
    "negative control": ("fine.csv --targets b,c --control -1", "control"),
    "out is a file": ("fine.csv --targets b,c --out fine.csv", "--out"),
    "out is below a file": ("fine.csv --targets b,c --out fine.csv/deep", "fine.csv is a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_on_standard_error_and_writes_nothing(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, content in TABLES.items():
        (tmp_path / name).write_bytes(content)
    arguments, named = BAD[case]
    out = [] if "--out" in arguments else ["--out", "written"]
    assert cli.main(["compare", *arguments.split(), *out]) == commands.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("bayeslin: ")
    assert named in printed.err
    assert {path.name for path in tmp_path.iterdir()} == set(TABLES)


def test_missing_matplotlib_is_said_before_the_long_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert cli.main(["compare", "linnerud", "--out", str(tmp_path / "out")]) == commands.BAD_INPUT
    assert capsys.readouterr().err == "bayeslin: pictures need matplotlib: pip install 'bayeslin[plots]'\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [([], "table"), (["penguins", "--alpha", "much"], "'much'"), (["penguins", "--size", "3"], "--size")],
    ids=str,
)
def test_wrong_options_are_one_line_too(arguments, named):
    command = [sys.executable, "-m", "bayeslin", "compare", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == commands.BAD_INPUT
    assert process.stderr.count("\n") == 1
    assert named in process.stderr
