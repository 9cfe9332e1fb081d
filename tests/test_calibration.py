"""Simulation-based calibration: ranks are uniform for the right model, and are not for a wrong one."""

import numpy as np
import numpyro.distributions as dist
import pytest

import bayeslin as bl
from bayeslin.calibration import calibrate

X = np.random.default_rng(0).standard_normal((12, 3))
LAWS = {"nngp": bl.NNGP(), "widths=4,4": bl.FiniteNetwork((4, 4)), "alpha=0.5": bl.Proportional(0.5)}
QUICK = {"outputs": 2, "warmup": 300, "thinning": 5, "progress": False}
ALL = {"log_det_scale", "scale_correlation", "noise_sd", "function"}


def check(name, simulations, noise="isotropic"):
    found = calibrate(LAWS[name], X, simulations=simulations, noise=noise, **QUICK)
    assert set(found.ranks) == (ALL if name != "nngp" else {"noise_sd", "function"})
    for ranks in found.ranks.values():
        assert ranks.shape == (simulations,)
        assert ((ranks >= 0) & (ranks <= 99)).all()
    assert min(found.pvalues().values()) > 1e-4, found.pvalues()


def test_ranks_are_uniform():
    check("alpha=0.5", 60)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["isotropic", "full"])
@pytest.mark.parametrize("name", LAWS)
def test_ranks_of_many_simulations_are_uniform(name, noise):
    check(name, 500, noise)


def test_another_alpha_in_the_fit_is_found_out():
    found = calibrate(LAWS["alpha=0.5"], X, fitted=bl.Proportional(2.0, steps=8), simulations=60, **QUICK)
    assert found.pvalues()["log_det_scale"] < 1e-6


@pytest.mark.slow
def test_random_hyperparameters_are_calibrated_together_and_the_picture_is_drawn(tmp_path):
    law = bl.Proportional(dist.LogNormal(-1.0, 0.3), signal_variance=dist.LogNormal(0.0, 0.5))
    found = calibrate(law, X, simulations=40, draws=19, **QUICK)
    assert set(found.ranks) == ALL
    assert min(found.pvalues(bins=5).values()) > 1e-4
    axes = found.plot()
    assert [ax.get_title() for ax in axes] == [name.replace("_", " ") for name in found.ranks]
    bl.plots.save(axes, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 5000


def test_bins_need_not_divide_the_number_of_ranks():
    even = bl.calibration.Calibration({"any": np.tile(np.arange(15), 300)}, draws=14, divergences=0)
    assert even.pvalues(bins=10)["any"] > 0.99
    assert even.pvalues(bins=40)["any"] > 0.99
    skewed = bl.calibration.Calibration({"any": np.tile(np.arange(14), 300)}, draws=14, divergences=0)
    assert skewed.pvalues(bins=10)["any"] < 1e-6


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"outputs": 0}, "outputs"),
        ({"simulations": 1}, "simulations"),
        ({"draws": 0}, "draws"),
        ({"noise": "x"}, "noise"),
        ({"fitted": "limit"}, "must be laws"),
    ],
)
def test_bad_arguments_are_refused_by_name(keywords, message):
    with pytest.raises(bl.InputError, match=message):
        calibrate(bl.NNGP(), X, **({"outputs": 2} | keywords))
