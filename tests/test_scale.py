"""The three laws of Q: moments, consistency, invariance, and what the discretisation costs."""

import math
from functools import lru_cache

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import oracles
import pytest
import scipy.stats as st

import bayeslin as bl
from bayeslin import network

LAWS = {
    "nngp": bl.NNGP(),
    "widths=8,8": bl.FiniteNetwork((8, 8)),
    "widths=5,9,3": bl.FiniteNetwork((5, 9, 3)),
    "bottleneck=6,2,5": bl.FiniteNetwork((6, 2, 5)),
    "width=1": bl.FiniteNetwork((1,)),
    "alpha=0.1": bl.Proportional(0.1),
    "alpha=0.5": bl.Proportional(0.5),
}
E_CORR_SQ = {0.1: 0.08769, 0.25: 0.18817, 0.5: 0.31005, 1.0: 0.46957, 2.0: 0.64825, 4.0: 0.81358}  # design section 3


@lru_cache(maxsize=64)
def draw(law, outputs, count=40_000, seed=0):
    return law.sample_scale(jax.random.key(seed), outputs=outputs, shape=(count,))


ALIKE = ("widths=8,8", "width=1", "alpha=0.1")


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in LAWS])
def test_sampled_moments_are_the_exact_ones(name, outputs):
    law, Q = LAWS[name], draw(LAWS[name], outputs)
    moments = law.scale_moments(outputs)
    assert oracles.within(Q, np.eye(outputs))
    assert oracles.within(Q[:, 0, 0] ** 2, moments.diag_sq)
    if math.isfinite(moments.logdet_mean):
        logdet = np.linalg.slogdet(Q)[1]
        assert oracles.within(logdet, moments.logdet_mean)
        assert oracles.within((logdet - moments.logdet_mean) ** 2, moments.logdet_var)
    else:
        assert np.linalg.matrix_rank(Q[:200], tol=1e-9).max() == network.ranks(law.widths, outputs)[-1]
    if outputs > 1 and not isinstance(law, bl.Proportional):  # the limit's carry the error of its steps, see below
        assert oracles.within(Q[:, 0, 1] ** 2, moments.offdiag_sq)
        assert oracles.within(Q[:, 0, 0] * Q[:, -1, -1], moments.diag_product)


def test_a_wrong_width_or_alpha_fails_the_same_checks():
    moments = bl.FiniteNetwork((8, 8)).scale_moments(2)
    assert not oracles.within(draw(bl.FiniteNetwork((8, 14)), 2)[:, 0, 0] ** 2, moments.diag_sq)
    logdet = np.linalg.slogdet(draw(bl.Proportional(0.5), 2))[1]
    assert not oracles.within(logdet, bl.Proportional(0.52).scale_moments(2).logdet_mean)


@pytest.mark.parametrize("name", ["widths=5,9,3", "alpha=0.5"])
def test_no_output_axis_is_special(name, rng):
    Q = draw(LAWS[name], 3)
    R, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turned = R @ Q @ R.T
    bias = 0.003 if "alpha" in name else 0.0  # of E corr^2, design section 3
    for a, b in ((0, 1), (1, 2)):
        for here in (Q, turned):
            corr_sq = here[:, a, b] ** 2 / (here[:, a, a] * here[:, b, b])
            reference = Q[:, 0, 2] ** 2 / (Q[:, 0, 0] * Q[:, 2, 2])
            error = math.hypot(corr_sq.std(), reference.std()) / math.sqrt(len(Q))
            assert abs(corr_sq.mean() - reference.mean()) < 5 * error + bias


@pytest.mark.parametrize("name", [pytest.param("widths=5,9,3", marks=pytest.mark.slow), "alpha=0.5"])
def test_leading_blocks_have_the_law_of_fewer_outputs(name):
    large, small = draw(LAWS[name], 4, seed=1)[:, :2, :2], draw(LAWS[name], 2, seed=2)
    for statistic in (np.linalg.det, lambda Q: Q[:, 0, 1] ** 2, lambda Q: np.log(Q[:, 1, 1])):
        test = st.ks_2samp(statistic(large), statistic(small))
        assert test.pvalue > 1e-6
    assert st.ks_2samp(np.linalg.det(large), np.linalg.det(1.1 * small)).pvalue < 1e-6, "the test can fail"


# The limit


def turned(normal, weights):
    """White noise whose first row carries the sum along axis 0, weighted, its sign turned; a dense matrix a column."""
    found = []
    for column, weight in zip(normal.T, np.broadcast_to(np.array(weights).T, normal.T.shape), strict=True):
        mirror = weight / np.linalg.norm(weight) + np.eye(len(weight))[0]
        found.append(column - 2 * np.outer(mirror, mirror) @ column / (mirror @ mirror))
    return np.array(found).T


@pytest.mark.parametrize(("outputs", "steps"), [(1, 8), (2, 8), (3, 5), (4, 16), (7, 3)])
def test_the_factor_is_the_scheme_of_the_design(outputs, steps, rng, float64):
    alpha, D = 0.8, outputs
    diagonal, lower = rng.standard_normal((steps + 1, D)), rng.standard_normal((steps, D * (D - 1) // 2))
    with numpyro.handlers.substitute(data={"_diagonal": diagonal, "_lower": lower}), numpyro.handlers.trace():
        C = bl.Proportional(alpha, steps=steps).sample_factor(D)

    h = alpha / steps
    shares = np.array([0.5] + [1.0] * (steps - 1) + [0.5])[:, None]
    diagonal = turned(diagonal, np.repeat(np.sqrt(shares), D, 1))
    logs = np.sqrt(shares * h / 2) * diagonal - np.arange(1, D + 1) * shares * h / 2
    noise = np.zeros((steps, D, D))
    if D > 1:  # noise (k, i, j) reaches the end through C_ii before and C_jj after its step
        j, i = np.triu_indices(D, 1)  # column by column
        reach = [np.exp(logs[:k, i].sum(0) + logs[k:, j].sum(0)) for k in range(1, steps + 1)]
        lower[0] *= -1
        noise[:, i, j] = turned(lower, np.array(reach))
    expected = oracles.scheme_factor(alpha, diagonal, noise)
    np.testing.assert_allclose(C, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("outputs", [2, 3, 4])
def test_the_scheme_has_weak_order_two(outputs):
    exact = bl.Proportional(1.0).scale_moments(outputs)
    error = {}
    for steps in (4, 8, 16):
        first, second = oracles.scheme_moments(1.0, steps, outputs)
        last = outputs - 1
        assert second[0, 0, 0, 0] == pytest.approx(exact.diag_sq, rel=1e-12), "exact for every number of steps"
        error[steps] = np.array(
            [
                first[last, last] - 1,
                second[0, last, 0, last] / exact.offdiag_sq - 1,
                second[last, last, last, last] / exact.diag_sq - 1,
            ]
        )
    ratio = (error[4] / error[8])[np.abs(error[8]) > 1e-12]
    assert ((ratio > 3) & (ratio < 5)).all()
    assert (np.abs(error[16]) < 0.006).all()


def test_the_discretisation_error_is_the_one_stated():
    first, second = oracles.scheme_moments(1.0, 8, 4)
    assert first[3, 3] - 1 == pytest.approx(-0.0036, abs=1e-4)
    offdiag = bl.Proportional(1.0).scale_moments(4).offdiag_sq
    assert second[0, 1, 0, 1] / offdiag - 1 == pytest.approx(-0.006, abs=5e-4)


def test_sampled_second_moments_are_those_of_the_scheme():
    Q = draw(bl.Proportional(0.5), 3, count=200_000)
    first, second = oracles.scheme_moments(0.5, 8, 3)
    assert oracles.within(Q, first)
    for a, b, c, d in ((0, 1, 0, 1), (1, 2, 1, 2), (0, 0, 2, 2), (2, 2, 2, 2)):
        assert oracles.within(Q[:, a, b] * Q[:, c, d], second[a, b, c, d])


@pytest.mark.parametrize("alpha", E_CORR_SQ)
def test_mean_squared_correlation_by_quadrature_is_the_stated_value(alpha):
    assert oracles.limit_corr_sq(alpha) == pytest.approx(E_CORR_SQ[alpha], abs=6e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.5, -0.0004), (1.0, -0.0011), (2.0, -0.0024), (4.0, -0.0037)])
def test_eight_steps_cost_little_of_the_mean_squared_correlation(alpha, expected):
    error = [oracles.scheme_corr_sq(alpha, steps, size=48) - oracles.limit_corr_sq(alpha) for steps in (8, 16)]
    assert error[0] == pytest.approx(expected, abs=1e-4)
    assert 3 < error[0] / error[1] < 5, "order two"


@pytest.mark.parametrize("alpha", E_CORR_SQ)
def test_sampled_squared_correlations_are_those_of_the_scheme(alpha):
    law = bl.Proportional(alpha)
    Q = draw(law, 2, count=100_000)
    corr_sq = Q[:, 0, 1] ** 2 / (Q[:, 0, 0] * Q[:, 1, 1])
    assert oracles.within(corr_sq, oracles.scheme_corr_sq(alpha, law.steps, size=48))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_squared_correlations_of_the_last_outputs_carry_little_bias(alpha):
    Q = draw(bl.Proportional(alpha), 4, count=100_000)
    corr_sq = Q[:, -2, -1] ** 2 / (Q[:, -2, -2] * Q[:, -1, -1])
    error = corr_sq.std() / math.sqrt(len(Q))
    assert abs(corr_sq.mean() - E_CORR_SQ[alpha]) < 5 * error + 0.0005, "standard error, and the bias of the steps"


def test_finite_networks_approach_the_limit_at_rate_one_over_width():
    limit, alpha = bl.Proportional(0.25).scale_moments(3), 0.25
    errors = []
    for width in (20, 80, 320):
        moments = bl.FiniteNetwork((width,) * int(alpha * width)).scale_moments(3)
        errors.append(width * (np.array(moments) - np.array(limit)))
    errors = np.array(errors)
    np.testing.assert_allclose(errors[1], errors[2], rtol=0.08)
    assert (np.abs(errors) > 1e-3).all(), "the error is there, and is of that order"


def test_no_depth_is_the_nngp():
    for law in (bl.Proportional(0.0), bl.FiniteNetwork(()), bl.NNGP()):
        assert law.alpha == 0
        assert (law.sample_scale(jax.random.key(0), outputs=3, shape=(5,)) == np.eye(3)).all()


# Functions, hyperparameters, JAX


@pytest.mark.parametrize("name", ["nngp", "widths=8,8", "alpha=0.1"])
def test_functions_have_the_prior_covariance_and_kurtosis(name, rng):
    X, s2, count = rng.standard_normal((3, 2)), 1.7, 200_000
    law = LAWS[name]
    scaled = type(law)(*([law.widths] if name[0] == "w" else [0.1] if name[0] == "a" else []), signal_variance=s2)
    f = scaled.sample_functions(jax.random.key(3), X, outputs=2, shape=(count,))
    assert f.shape == (count, 3, 2)
    K = s2 * X @ X.T / 2
    assert oracles.within(np.einsum("sia,sja->sij", f, f) / 2, K)
    assert oracles.within(f[:, :, 0] * f[:, ::-1, 1], 0.0)
    kurtosis = law.scale_moments(2).output_kurtosis
    assert oracles.within(f[:, 0, 0] ** 4, kurtosis * K[0, 0] ** 2)


def test_shapes_default_to_one_draw_in_double_precision():
    assert LAWS["alpha=0.5"].sample_scale(jax.random.key(0), outputs=2).shape == (2, 2)
    f = LAWS["alpha=0.5"].sample_functions(jax.random.key(0), np.ones((4, 2)), outputs=3, shape=(2, 5))
    assert f.shape == (2, 5, 4, 3)
    assert f.dtype == np.float64
    assert isinstance(f, np.ndarray)


def test_a_random_alpha_is_drawn():
    law = bl.Proportional(dist.Gamma(4.0, 8.0))
    assert law.alpha.mean == 0.5
    assert law.steps == 16  # by the 99.9 % point of its prior
    log_Q = np.log(draw(law, 1)[:, 0, 0])
    assert oracles.within(log_Q, -0.5)  # E log Q = -E alpha
    assert oracles.within((log_Q + 0.5) ** 2, 2 * 0.5 + 4 / 64)
    with pytest.raises(bl.InputError, match="alpha is random"):
        law.scale_moments(2)


def test_alpha_is_a_leaf_and_steps_are_structure():
    leaves, structure = jax.tree.flatten(bl.Proportional(0.3, signal_variance=2.0))
    assert leaves == [0.3, 2.0]
    assert structure == jax.tree.structure(bl.Proportional(0.5))
    assert structure != jax.tree.structure(bl.Proportional(0.6))
    for law in LAWS.values():
        again = jax.tree.unflatten(*reversed(jax.tree.flatten(law)))
        assert repr(again) == repr(law)
        assert again.alpha == law.alpha


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: bl.Proportional(-0.1), "alpha"),
        (lambda: bl.Proportional(float("nan")), "alpha"),
        (lambda: bl.Proportional(math.inf), "alpha"),
        (lambda: bl.Proportional("0.5"), "alpha"),
        (lambda: bl.Proportional([0.5]), "alpha"),
        (lambda: bl.Proportional(dist.Normal(0, 1)), "positive"),
        (lambda: bl.Proportional(0.5, steps=0), "steps"),
        (lambda: bl.Proportional(0.5, signal_variance=0), "signal_variance"),
        (lambda: bl.NNGP(signal_variance=-1), "signal_variance"),
        (lambda: bl.FiniteNetwork(5), "widths"),
        (lambda: bl.FiniteNetwork("12"), "widths"),
        (lambda: bl.FiniteNetwork((3, 0)), r"widths\[1\]"),
        (lambda: bl.FiniteNetwork((3, -2)), r"widths\[1\]"),
        (lambda: bl.FiniteNetwork((2.5,)), r"widths\[0\]"),
        (lambda: bl.FiniteNetwork((True,)), r"widths\[0\]"),
        (lambda: bl.NNGP().sample_scale(jax.random.key(0), outputs=0), "outputs"),
        (lambda: bl.NNGP().sample_functions(jax.random.key(0), [[math.nan]], outputs=1), "X holds nan"),
    ],
)
def test_bad_laws_are_refused_by_name(make, named):
    with pytest.raises(bl.InputError, match=named):
        make()


def test_a_law_with_a_random_alpha_can_be_made_inside_a_traced_model():
    steps = jax.jit(lambda: jax.numpy.zeros(bl.Proportional(dist.HalfNormal(1.0)).steps))()
    assert len(steps) == 16
    with pytest.raises(bl.InputError, match="numbers of HalfNormal are traced here; give steps"):
        jax.jit(lambda scale: bl.Proportional(dist.HalfNormal(scale)).steps)(1.0)
