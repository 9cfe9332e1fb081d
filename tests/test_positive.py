"""Coordinates of positive numbers: a change of variables, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayeslin as bl
from bayeslin.positive import Around

FAR = [-1e4, -3.0, 0.0, 0.7, 1e6]


@pytest.mark.parametrize("x", FAR)
def test_it_is_a_change_of_variables(x, float64):
    around = Around(0.3, 0.8)
    s = around(x)
    assert s > 0
    assert float(around.inv(s)) == pytest.approx(x, rel=1e-9)
    assert float(around.log_abs_det_jacobian(x, s)) == pytest.approx(float(jnp.log(jax.grad(around)(x))), rel=1e-9)


def test_it_is_the_logarithm_at_the_centre_and_a_power_far_out(float64):
    around = Around(2.0, 0.1)
    np.testing.assert_allclose(np.log(around(0.01 * np.arange(-2, 3)) / 2.0), 0.001 * np.arange(-2, 3), rtol=1e-6)
    assert float(around(1e8)) == pytest.approx(2.0 * (2 * 0.1 * 1e8))
    assert float(around(-1e8)) == pytest.approx(2.0 * (2 * 0.1 * 1e8 / 4) ** -4)


@pytest.mark.parametrize("law", [bl.NNGP(), bl.Proportional(0.5)], ids=repr)
def test_three_rows_meet_no_wall(law):
    """By the logarithm of the noise some per cent of these transitions diverge."""
    post = bl.fit(law, [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]], progress=False)
    assert post.diagnosis.divergences == 0


def test_one_coordinate_is_stepped_warily():
    """At a target of 0.8 two or three of ten fits of three or four rows had a divergence."""
    X, Y = [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]]
    one, many = (bl.fit(law, X, Y, progress=False) for law in (bl.NNGP(), bl.Proportional(0.5)))
    assert one.stats["acceptance_rate"].mean() > 0.92
    assert many.stats["acceptance_rate"].mean() < 0.92


@pytest.mark.filterwarnings("ignore:column")  # centred, ten rows of rank nine would have no proper posterior
def test_interpolated_labels_leave_no_heavy_tail():
    """By 1/s ten rows and twenty features, which allow any small noise, give 2 effective draws per 1000 gradients."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 20))
    Y = X @ rng.standard_normal((20, 2)) / 4 + 0.2 * rng.standard_normal((10, 2))
    post = bl.fit(bl.Proportional(0.5), X, Y, noise="diagonal", progress=False)
    assert post.diagnosis.divergences == 0
    assert 1000 * post.diagnosis.ess_min > 15 * post.stats["n_steps"].sum()
