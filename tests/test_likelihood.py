"""The spectral likelihood is the dense one, and its derivative is right everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import oracles
import pytest

import bayeslin as bl
from bayeslin import likelihood
from bayeslin.distributions import LinearLabels, ReducedLabels

# n, p, D, and whether one feature repeats another
SHAPES = [(7, 3, 2, False), (4, 9, 3, False), (5, 5, 1, False), (9, 4, 4, True), (6, 12, 2, True)]
by_shape = pytest.mark.parametrize(("n", "p", "D", "deficient"), SHAPES)


def problem(rng, n, p, D, deficient=False):
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, D))
    if deficient:
        X[:, -1] = X[:, 0]
    return X, Y, oracles.wishart(rng, D), oracles.wishart(rng, D)


@by_shape
def test_spectral_is_dense(n, p, D, deficient, rng, float64):
    X, Y, Q, Sigma = problem(rng, n, p, D, deficient)
    spec = bl.Spectrum.from_rows(X, Y)
    assert spec.rank == min(n, p - deficient)
    for s2 in (1.0, 2.7):
        dense = oracles.log_marginal(Q, Sigma, X, Y, s2)
        assert likelihood.log_marginal(s2 * Q, Sigma, spec) == pytest.approx(dense, rel=1e-10)
        assert likelihood.log_marginal(s2 * Q, Sigma, spec.padded()) == pytest.approx(dense, rel=1e-10)


def test_singular_scale_is_no_trouble(rng, float64):
    X, Y, _, Sigma = problem(rng, 6, 3, 3)
    Q = oracles.wishart(rng, 3, degrees=1)
    value, slope = jax.value_and_grad(likelihood.log_marginal)(Q, Sigma, bl.Spectrum.from_rows(X, Y))
    assert value == pytest.approx(oracles.log_marginal(Q, Sigma, X, Y), rel=1e-10)
    assert np.isfinite(slope).all()


def central(function, at, direction, step=1e-5):
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


@by_shape
@pytest.mark.parametrize("at", ["random", "identity"])
def test_gradient_is_that_of_the_dense_density(n, p, D, deficient, at, rng, float64):
    X, Y, Q, Sigma = problem(rng, n, p, D, deficient)
    if at == "identity":  # all eigenvalues equal: where differentiating an eigendecomposition gives NaN
        Q, Sigma = np.eye(D), np.eye(D)
    spec = bl.Spectrum.from_rows(X, Y).padded()
    dQ, dSigma = jax.jit(jax.grad(likelihood.log_marginal, argnums=(0, 1)))(Q, Sigma, spec)
    direction = rng.standard_normal((D, D))
    direction = direction + direction.T
    slope = central(lambda Q: oracles.log_marginal(Q, Sigma, X, Y), Q, direction)
    np.testing.assert_allclose(np.vdot(dQ, direction), slope, rtol=1e-6, atol=1e-6)
    slope = central(lambda Sigma: oracles.log_marginal(Q, Sigma, X, Y), Sigma, direction)
    np.testing.assert_allclose(np.vdot(dSigma, direction), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("field", ["lam", "Z", "R", "n"])
def test_gradient_with_respect_to_the_statistics(field, rng, float64):
    X, Y, Q, Sigma = problem(rng, 8, 3, 2)
    spec = bl.Spectrum.from_rows(X, Y)
    start = np.asarray(getattr(spec, field), float)
    direction = rng.standard_normal(start.shape)

    def density(value):
        return likelihood.log_marginal(Q, Sigma, spec._replace(**{field: value}))

    _, forward = jax.jvp(density, (start,), (direction,))
    np.testing.assert_allclose(forward, central(density, start, direction), rtol=1e-7)
    np.testing.assert_allclose(np.vdot(jax.grad(density)(start), direction), forward, rtol=1e-12)


def test_hessian_is_right_where_eigenvalues_are_distinct(rng, float64):
    X, Y, Q, Sigma = problem(rng, 8, 3, 2)
    spec, direction = bl.Spectrum.from_rows(X, Y), np.array([[1.0, 0.3], [0.3, -0.5]])
    gradient = jax.grad(likelihood.log_marginal)
    hessian = jax.hessian(likelihood.log_marginal)(Q, Sigma, spec)
    numeric = central(lambda Q: gradient(Q, Sigma, spec), Q, direction)
    np.testing.assert_allclose(np.einsum("abcd,cd->ab", hessian, direction), numeric, rtol=1e-6, atol=1e-7)


def test_rotating_labels_scale_and_noise_together_changes_nothing(rng, float64):
    X, Y, Q, Sigma = problem(rng, 7, 3, 3)
    R, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    plain = likelihood.log_marginal(Q, Sigma, bl.Spectrum.from_rows(X, Y))
    rotated = likelihood.log_marginal(R.T @ Q @ R, R.T @ Sigma @ R, bl.Spectrum.from_rows(X, Y @ R))
    assert rotated == pytest.approx(float(plain), rel=1e-12)


def test_the_order_of_rows_changes_nothing(rng, float64):
    X, Y, Q, Sigma = problem(rng, 9, 3, 2)
    order = rng.permutation(9)
    plain = likelihood.log_marginal(Q, Sigma, bl.Spectrum.from_rows(X, Y))
    assert likelihood.log_marginal(Q, Sigma, bl.Spectrum.from_rows(X[order], Y[order])) == pytest.approx(
        float(plain), rel=1e-12
    )


def test_precision_follows_the_program_around_it(rng):
    X, Y, Q, Sigma = problem(rng, 9, 3, 2)
    spec = bl.Spectrum.from_rows(X, Y)
    single = likelihood.log_marginal(jnp.asarray(Q), jnp.asarray(Sigma), spec)
    assert single.dtype == jnp.float32
    assert single == pytest.approx(oracles.log_marginal(Q, Sigma, X, Y), rel=1e-4)


@by_shape
def test_functions_given_a_draw_are_dense_conditioning(n, p, D, deficient, rng, float64):
    X, Y, Q, Sigma = problem(rng, n, p, D, deficient)
    X_new, s2 = rng.standard_normal((4, p)), 1.9
    spec = bl.Spectrum.from_rows(X, Y)
    given = likelihood.conditional(s2 * Q, Sigma, spec)
    T, u = spec.project(X_new)
    mean = T @ given.coef @ given.M.T
    cov = np.einsum("ad,md,bd->mab", given.M, T**2 @ given.var + u[:, None] * given.q, given.M)
    dense_mean, dense_cov = oracles.condition(Q, Sigma, X, Y, X_new, s2)
    np.testing.assert_allclose(mean, dense_mean, atol=1e-10)
    np.testing.assert_allclose(cov, dense_cov, atol=1e-10)


def all_shapes(jaxpr):
    for equation in jaxpr.eqns:
        for variable in (*equation.invars, *equation.outvars):
            yield from variable.aval.shape
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from all_shapes(inner)


def test_compiled_gradient_has_no_axis_of_rows(rng, float64):
    n = 37
    X, Y = rng.standard_normal((n, 3)), rng.standard_normal((n, 2))
    law = bl.Proportional(0.5)

    def density(params, X, Y):
        model = numpyro.handlers.substitute(bl.models.scale_mixture, data=params)
        return numpyro.infer.util.log_density(model, (X, Y), {"law": law, "outputs": 2, "noise": 0.5}, {})[0]

    params = {"_diagonal": rng.standard_normal((9, 2)), "_lower": rng.standard_normal((8, 1))}
    assert n not in all_shapes(jax.make_jaxpr(jax.grad(lambda p: density(p, X, Y)))(params).jaxpr)
    traced = jax.make_jaxpr(lambda p, Y: density(p, X, Y))(params, Y).jaxpr
    assert n in all_shapes(traced), "the walk does see rows where they are"


# The distributions


def test_label_distribution_is_the_dense_density(rng, float64):
    X, Y, Q, Sigma = problem(rng, 6, 3, 2)
    labels = LinearLabels(Q, Sigma, X)
    dense = oracles.log_marginal(Q, Sigma, X, Y)
    assert labels.log_prob(Y) == pytest.approx(dense, rel=1e-10)
    batch = np.stack([Y, -Y, 2 * Y]).reshape(3, 1, 6, 2)
    assert labels.log_prob(batch).shape == (3, 1)
    np.testing.assert_allclose(jax.jit(labels.log_prob)(batch)[:2, 0], dense, rtol=1e-10)
    spec = bl.Spectrum.from_rows(X, Y)
    reduced = ReducedLabels(Q, Sigma, spec)
    assert reduced.log_prob(reduced.reduced(spec)) == pytest.approx(dense, rel=1e-10)


def within_standard_errors(draws, expected, count=5.0):
    """Means over the leading axis agree with what is expected, entry by entry."""
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    return (np.abs(draws.mean(0) - expected) <= count * error + 1e-12).all()


def test_label_draws_have_the_covariance_of_the_density(rng, float64):
    X, _, Q, Sigma = problem(rng, 4, 2, 2)
    Y = np.asarray(LinearLabels(Q, Sigma, X).sample(jax.random.key(1), (40_000,))).reshape(40_000, -1)
    products = Y[:, :, None] * Y[:, None, :]
    assert within_standard_errors(products, oracles.covariance(Q, Sigma, X))
    assert not within_standard_errors(products, oracles.covariance(Q, 1.1 * Sigma, X))


@pytest.mark.parametrize("n", [3, 4, 5, 12], ids=lambda n: f"n-r={n - 3}")
def test_reduced_draws_have_the_moments_of_reduced_labels(n, rng, float64):
    X, Y, Q, Sigma = problem(rng, n, 3, 3)
    spec = bl.Spectrum.from_rows(X, Y)
    draws = np.asarray(ReducedLabels(Q, Sigma, spec).sample(jax.random.key(2), (30_000,)))
    Z, R = draws[:, : spec.rank], draws[:, spec.rank :]
    for i, lam in enumerate(spec.lam):
        assert within_standard_errors(Z[:, i, :, None] * Z[:, i, None, :], lam * Q + Sigma)
    assert within_standard_errors(R, (n - 3) * Sigma)
    assert (np.linalg.matrix_rank(R[:100], tol=1e-9) == min(n - 3, 3)).all()
