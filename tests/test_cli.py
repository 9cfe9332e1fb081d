"""The command line: fit, keep, predict, resume; its examples, its exit codes, and what Ctrl-C leaves."""

import argparse
import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import bayeslin as bl
from bayeslin import cli, commands

FEW = ["--draws", "40", "--warmup", "60", "--quiet"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A converged model of linnerud and what the command printed; a posterior by NUTS in a second or two."""
    path = tmp_path_factory.mktemp("model") / "linnerud.nc"
    assert cli.main(["fit", "linnerud", "--law", "nngp", "--out", str(path), "--quiet"]) == commands.DONE
    return path


def parsers():
    """Every command's parser by name."""
    actions = cli._parser()._actions
    return next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices


def test_every_help_text_has_an_example():
    assert set(parsers()) == {"compare", "fit", "predict", "summary", "resume", "datasets"}
    for name, parser in parsers().items():
        assert parser.epilog.startswith(f"example: bayeslin {name}")
        assert name in parser.format_help()


def test_the_examples_work_in_this_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {
        "compare": ["--control", "1", "--noise", "0.5", "--targets", "bill_length_mm,body_mass_g", *FEW],
        "fit": FEW,
        "resume": ["--draws", "40", "--quiet"],
    }
    for name in ("datasets", "fit", "predict", "summary", "resume", "compare"):
        arguments = parsers()[name].epilog.removeprefix("example: bayeslin ").split()
        code = cli.main(arguments + small.get(name, []))
        assert code in (commands.DONE, commands.NOT_CONVERGED), capsys.readouterr().err
    assert bl.Posterior.load("linnerud.nc").scale.shape == (4, 80, 3, 3)
    assert len(pd.read_csv("predictions.csv")) == 20
    assert {path.name for path in tmp_path.iterdir()} == {"linnerud.nc", "predictions.csv", "results"}


def test_fit_prints_what_it_read_and_found(tmp_path, capsys):
    code = cli.main(["fit", "linnerud", "--law", "nngp", "--noise", "0.8", "--out", str(tmp_path / "m.nc")])
    assert code == commands.DONE
    printed = capsys.readouterr()
    for text in ("20 rows", "centred", "NNGP()", "exact", "noise sd, Weight", "Weight and Waist", "wrote"):
        assert text in printed.out
    post = bl.Posterior.load(tmp_path / "m.nc")
    assert post.output_names == ("Weight", "Waist", "Pulse")
    np.testing.assert_allclose(post.dataset.original().Y, bl.load_dataset("linnerud").Y)


def test_json_of_fit_and_summary_is_the_same_and_alone(tmp_path, capsys, model):
    capsys.readouterr()
    arguments = ["fit", "linnerud", "--law", "nngp", "--out", str(tmp_path / "m.nc"), "--quiet", "--json"]
    assert cli.main(arguments) == commands.DONE
    fitted = json.loads(capsys.readouterr().out)
    assert cli.main(["summary", str(model), "--json"]) == commands.DONE
    assert json.loads(capsys.readouterr().out) == fitted
    assert fitted["converged"]
    assert fitted["correlations"][0]["scale"] == 0
    sd = fitted["noise_sd"]
    labels = bl.load_dataset("linnerud").Y
    assert sd["Weight"]["mean"] / sd["Pulse"]["mean"] == pytest.approx(labels[:, 0].std() / labels[:, 2].std())


def test_learned_hyperparameters_and_full_noise_are_reported(tmp_path, capsys):
    arguments = [
        "fit",
        "linnerud",
        "--targets",
        "Weight,Pulse",
        "--alpha",
        "learn",
        "--signal-variance",
        "learn",
        "--noise",
        "full",
    ]
    assert cli.main([*arguments, "--out", str(tmp_path / "m.nc"), *FEW]) == commands.NOT_CONVERGED
    printed = capsys.readouterr().out
    for text in ("alpha ", "signal_variance", "noise sd, Pulse", "R-hat", "wrote"):
        assert text in printed
    assert cli.main(["summary", str(tmp_path / "m.nc"), "--json"]) == commands.NOT_CONVERGED
    summary = json.loads(capsys.readouterr().out)
    assert set(summary["hyperparameters"]) == {"alpha", "signal_variance"}
    assert all(row["noise"] != 0 for row in summary["correlations"])


def test_predictions_are_those_of_the_posterior_with_names_and_units(tmp_path, capsys, model):
    table = bl.data.read_frame(bl.data.shipped_path("linnerud"))
    new = table[["Jumps", "Chins", "Situps"]].iloc[:5]  # the order of columns does not matter
    new.to_csv(tmp_path / "new.csv", index=False)
    new.to_parquet(tmp_path / "new.parquet")
    post = bl.Posterior.load(model)
    for source in ("new.csv", "new.parquet"):
        for target in ("out.csv", "out.parquet"):
            arguments = ["predict", str(model), str(tmp_path / source), "--out", str(tmp_path / target)]
            assert cli.main([*arguments, "--coverage", "0.5"]) == commands.DONE
            found = bl.data.read_frame(tmp_path / target)
            expected = post.predict(new, noise=True)
            assert list(found.columns[:4]) == ["Weight_mean", "Weight_sd", "Weight_lower", "Weight_upper"]
            np.testing.assert_allclose(found[[f"{name}_mean" for name in post.output_names]], expected.mean, rtol=1e-9)
            np.testing.assert_allclose(found[[f"{name}_sd" for name in post.output_names]], expected.std, rtol=1e-9)
            upper = expected.interval(0.5)[1]
            np.testing.assert_allclose(found[[f"{name}_upper" for name in post.output_names]], upper, rtol=1e-9)
    capsys.readouterr()
    assert cli.main(["predict", str(model), str(tmp_path / "new.csv"), "--function", "--json"]) == commands.DONE
    records = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose([record["Pulse_sd"] for record in records], post.predict(new).std[:, 2], rtol=1e-6)


def test_predictions_do_not_replace_the_table_or_a_model(tmp_path, model, capsys):
    new = tmp_path / "new.csv"
    bl.data.read_frame(bl.data.shipped_path("linnerud")).to_csv(new, index=False)
    before = new.read_bytes()
    assert cli.main(["predict", str(model), str(new), "--out", str(new)]) == commands.BAD_INPUT
    assert "would overwrite the table" in capsys.readouterr().err
    assert new.read_bytes() == before


@pytest.mark.parametrize("cells", ["Chins,Situps\n1,2\n", "Chins,Situps,Jumps\n1,,2\n", "Chins,Situps,Jumps\n1,x,2\n"])
def test_new_rows_that_cannot_be_predicted_are_refused(cells, tmp_path, model, capsys):
    (tmp_path / "new.csv").write_text(cells)
    capsys.readouterr()
    arguments = ["predict", str(model), str(tmp_path / "new.csv"), "--out", str(tmp_path / "out.csv")]
    assert cli.main(arguments) == commands.BAD_INPUT
    assert capsys.readouterr().err.startswith("bayeslin: ")
    assert not (tmp_path / "out.csv").exists()


def test_a_posterior_that_has_not_converged_is_written_and_says_so(tmp_path, capsys):
    path = tmp_path / "m.nc"
    assert cli.main(["fit", "linnerud", "--law", "nngp", "--out", str(path), *FEW]) == commands.NOT_CONVERGED
    assert "too few draws" in capsys.readouterr().out
    arguments = ["predict", str(path), "linnerud", "--out", str(tmp_path / "p.csv")]
    assert cli.main(arguments) == commands.NOT_CONVERGED
    assert "too few draws" in capsys.readouterr().err
    assert (tmp_path / "p.csv").exists()
    assert cli.main(["resume", str(path), "--draws", "1000", "--quiet"]) == commands.DONE
    assert bl.Posterior.load(path).scale.shape == (4, 1040, 3, 3)


def test_a_single_draw_is_not_taken_for_an_exact_answer(tmp_path, capsys):
    few = ["--draws", "1", "--warmup", "5", "--chains", "1", "--quiet"]
    arguments = ["fit", "linnerud", "--law", "nngp", "--out", str(tmp_path / "m.nc"), *few]
    assert cli.main(arguments) == commands.NOT_CONVERGED
    printed = capsys.readouterr()
    assert "R-hat is not defined: too few draws" in printed.out
    assert printed.err == ""


def test_small_units_keep_their_digits_in_json(tmp_path, capsys):
    table = bl.data.read_frame(bl.data.shipped_path("linnerud"))
    table.assign(Weight=table.Weight * 1e-14).to_csv(tmp_path / "t.csv", index=False)
    model = str(tmp_path / "m.nc")
    arguments = ["fit", str(tmp_path / "t.csv"), "--targets", "Weight,Waist", "--law", "nngp", "--noise", "0.5"]
    assert cli.main([*arguments, "--out", model]) == commands.DONE
    capsys.readouterr()
    assert cli.main(["predict", model, str(tmp_path / "t.csv"), "--json"]) == commands.DONE
    record = json.loads(capsys.readouterr().out)[0]
    assert record["Weight_mean"] == pytest.approx(bl.Posterior.load(model).predict(table).mean[0, 0], rel=1e-12)
    assert 1e-12 < record["Weight_mean"] < 1e-11


WRONG = {
    "--noise banana": "noise must be a number",
    "--draws 0": "draws must be an integer of at least 1",
    "--chains 0": "chains must be",
    "--seed -1": "seed must be",
    "--alpha -1": "alpha must be",
    "--law nngp --alpha 0.5": "--law nngp has no --alpha",
    "--law nngp --width 3": "--law nngp has no --width",
    "--depth 10": "--law proportional has no --depth",
    "--law finite --width 0": "width must be",
    "--law finite --alpha 1e9": "makes 2e+10 layers; give a depth",
}


@pytest.mark.parametrize("options", WRONG)
def test_options_are_checked_before_the_table_is_read(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "_read", lambda *_, **__: pytest.fail("the table was read"))
    arguments = ["fit", "linnerud", "--out", str(tmp_path / "m.nc"), *options.split()]
    assert cli.main(arguments) == commands.BAD_INPUT
    assert WRONG[options] in capsys.readouterr().err


def test_a_finite_network_takes_width_depth_and_ratio(tmp_path):
    for options, widths in (("", (20,) * 10), ("--alpha 0.1 --width 30", (30,) * 3), ("--depth 2 --width 4", (4, 4))):
        path = tmp_path / "m.nc"
        arguments = ["fit", "linnerud", "--targets", "Pulse", "--law", "finite", "--out", str(path), *options.split()]
        assert cli.main([*arguments, "--draws", "1", "--warmup", "1", "--chains", "1", "--quiet"]) is not None
        assert bl.Posterior.load(path).law.widths == widths


@pytest.mark.parametrize("names", ["a\nb", '"a'])
def test_names_that_cannot_be_told_apart_are_refused_in_a_line(names, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["fit", "linnerud", "--targets", names, "--out", str(tmp_path / "m.nc")])
    assert end.value.code == commands.BAD_INPUT
    assert "needs names between commas" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["compiling", "sampling"])
def test_ctrl_c_ends_with_one_line_and_leaves_the_old_file(moment, tmp_path, model):
    path = tmp_path / "m.nc"
    path.write_bytes(model.read_bytes())
    code = (  # a job in the background of a shell inherits Ctrl-C ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bayeslin.cli import main; sys.exit(main())"
    )
    arguments = ["fit", "linnerud", "--law", "nngp", "--draws", "100000000", "--out", str(path)]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        seen = b""
        while moment.encode() not in seen:
            seen += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
    assert process.returncode == commands.INTERRUPTED
    assert rest.splitlines()[-1] == "bayeslin: interrupted; no file is half-written"
    assert "Traceback" not in rest
    assert path.read_bytes() == model.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
