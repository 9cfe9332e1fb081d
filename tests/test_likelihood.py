"""The spectral likelihood is the dense one, and its derivatives are right everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import oracles
import pytest

import bayeslin as bl
from bayeslin import likelihood
from bayeslin.distributions import LinearLabels

# n, p, D, and whether the inputs have a smaller rank than min(n, p)
SHAPES = {
    "tall": (7, 3, 2, False),
    "wide": (4, 9, 3, False),
    "square": (5, 5, 1, False),
    "tall, deficient": (9, 4, 4, True),
    "wide, deficient": (6, 12, 2, True),
    "one feature": (6, 1, 4, False),
    "one output": (8, 3, 1, True),
}
by_shape = pytest.mark.parametrize("shape", SHAPES)
FIELDS = ("lam", "Z", "R", "n")


def problem(rng, shape):
    n, p, D, deficient = SHAPES[shape]
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, D))
    if deficient:  # a repeated feature, or where features abound a repeated row
        X.T[-1] = X.T[0]
        if n <= p:
            X[-1] = X[0]
    return X, Y, oracles.wishart(rng, D), oracles.wishart(rng, D)


def statistics(X, Y):
    """A Spectrum of four float arrays, all of which can be differentiated."""
    spec = bl.Spectrum.from_rows(X, Y)
    return bl.Spectrum(spec.lam, spec.Z, spec.R, np.float64(spec.n))


density = jax.jit(likelihood.log_marginal)
slopes = jax.jit(jax.value_and_grad(likelihood.log_marginal, argnums=(0, 1, 2)))
forward = jax.jit(lambda primals, tangents: jax.jvp(likelihood.log_marginal, primals, tangents))


@by_shape
def test_spectral_is_dense(shape, rng, float64):
    X, Y, Q, Sigma = problem(rng, shape)
    n, p, _, deficient = SHAPES[shape]
    spec = statistics(X, Y)
    assert spec.rank == min(n, p) - deficient
    for s2 in (1.0, 2.7):
        dense = oracles.log_marginal(Q, Sigma, X, Y, s2)
        assert density(s2 * Q, Sigma, spec) == pytest.approx(dense, rel=1e-10)
        assert density(s2 * Q, Sigma, spec.padded()) == pytest.approx(dense, rel=1e-10)
        assert oracles.reduced_log_marginal(s2 * Q, Sigma, *spec[:4]) == pytest.approx(dense, rel=1e-10)
    assert density(Q, 1.001 * Sigma, spec) != pytest.approx(oracles.log_marginal(Q, Sigma, X, Y), rel=1e-10)


def symmetric(rng, D):
    A = rng.standard_normal((D, D))
    return A + A.T


@pytest.mark.parametrize("at", ["random", "identity", "singular", "zero"])
@by_shape
def test_gradients_are_those_of_the_dense_density(shape, at, rng, float64):
    X, Y, Q, Sigma = problem(rng, shape)
    D = len(Q)
    if at == "identity":  # all eigenvalues equal: where differentiating an eigendecomposition gives NaN
        Q, Sigma = np.eye(D), np.eye(D)
    elif at != "random":
        Q = oracles.wishart(rng, D, degrees=1) * (at == "singular")
    spec, dQ, dSigma = statistics(X, Y), symmetric(rng, D), symmetric(rng, D)
    value, (by_Q, by_Sigma, _) = slopes(Q, Sigma, spec)
    dense = oracles.log_marginal(Q, Sigma, X, Y)
    assert value == pytest.approx(dense, rel=1e-10)
    for found, function, start, direction in (
        (by_Q, lambda Q: oracles.log_marginal(Q, Sigma, X, Y), Q, dQ),
        (by_Sigma, lambda Sigma: oracles.log_marginal(Q, Sigma, X, Y), Sigma, dSigma),
    ):
        np.testing.assert_array_equal(np.isfinite(found), True)
        np.testing.assert_allclose(found, found.T, rtol=1e-10, atol=1e-10)
        step = 1e-3 * np.linalg.eigvalsh(Sigma)[0]
        expected = oracles.slope(function, start, direction, step)
        rounding = 100 * np.finfo(float).eps * abs(dense) / step
        np.testing.assert_allclose(np.vdot(found, direction), expected, rtol=1e-8, atol=1e-8 + rounding)


@by_shape
def test_gradients_with_respect_to_the_statistics(shape, rng, float64):
    X, Y, Q, Sigma = problem(rng, shape)
    spec = statistics(X, Y)
    by_spec = slopes(Q, Sigma, spec)[1][2]
    for field in FIELDS:
        start = np.asarray(getattr(spec, field))
        direction = symmetric(rng, len(Q)) if field == "R" else rng.standard_normal(start.shape)
        expected = oracles.slope(
            lambda value, field=field: oracles.reduced_log_marginal(
                Q, Sigma, *(value if field == name else getattr(spec, name) for name in FIELDS)
            ),
            start,
            direction,
            step=1e-3 * spec.lam.min(),
        )
        np.testing.assert_allclose(np.vdot(getattr(by_spec, field), direction), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("at", ["random", "identity"])
@by_shape
def test_forward_and_reverse_mode_agree(shape, at, rng, float64):
    X, Y, Q, Sigma = problem(rng, shape)
    if at == "identity":
        Q, Sigma = np.eye(len(Q)), np.eye(len(Q))
    primals = (Q, Sigma, statistics(X, Y))
    tangents = jax.tree.map(lambda leaf: rng.standard_normal(np.shape(leaf)), primals)
    value, gradient = slopes(*primals)
    also, change = forward(primals, tangents)
    assert also == value
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(tangents), strict=True)
    np.testing.assert_allclose(change, sum(np.vdot(slope, tangent) for slope, tangent in pairs), rtol=1e-11)


def test_plain_compiled_and_mapped_calls_agree(rng, float64):
    X, Y, _, Sigma = problem(rng, "tall")
    spec, Q = statistics(X, Y), oracles.wishart(rng, 2, size=(4,))
    alone = [slopes(each, Sigma, spec) for each in Q]
    together = jax.vmap(jax.value_and_grad(likelihood.log_marginal, argnums=(0, 1, 2)), (0, None, None))(Q, Sigma, spec)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12), together, stacked
    )
    plain = [likelihood.log_marginal(each, Sigma, spec) for each in Q]
    np.testing.assert_allclose(plain, stacked[0], rtol=1e-13)


def test_hessian_is_right_where_eigenvalues_are_distinct(rng, float64):
    X, Y, Q, Sigma = problem(rng, "tall")
    spec = statistics(X, Y)
    hessian = jax.jit(jax.hessian(likelihood.log_marginal, argnums=(0, 1)))(Q, Sigma, spec)
    flat = np.block([[np.reshape(block, (4, 4)) for block in row] for row in hessian])
    np.testing.assert_allclose(flat, flat.T, rtol=1e-10, atol=1e-10)
    for moved in range(2):  # Q, then Sigma
        direction = symmetric(rng, 2)
        for slope_of in range(2):

            def gradient(value, moved=moved, slope_of=slope_of):
                at = (value, Sigma) if moved == 0 else (Q, value)
                return np.asarray(slopes(*at, spec)[1][slope_of])

            numeric = oracles.slope(gradient, (Q, Sigma)[moved], direction, step=1e-4)
            found = np.einsum("abcd,cd->ab", hessian[slope_of][moved], direction)
            np.testing.assert_allclose(found, numeric, rtol=1e-7, atol=1e-7)


def test_rotating_labels_scale_and_noise_together_changes_nothing(rng, float64):
    X, Y, Q, Sigma = problem(rng, "wide")
    R, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    plain = float(density(Q, Sigma, statistics(X, Y)))
    rotated = R.T @ Q @ R, R.T @ Sigma @ R
    assert density(*rotated, statistics(X, Y @ R)) == pytest.approx(plain, rel=1e-12)
    assert density(*rotated, statistics(X, Y @ R.T)) != pytest.approx(plain, rel=1e-3), "the test can fail"


def test_the_order_of_rows_changes_nothing(rng, float64):
    X, Y, Q, Sigma = problem(rng, "tall, deficient")
    order = rng.permutation(9)
    plain = float(density(Q, Sigma, statistics(X, Y)))
    assert density(Q, Sigma, statistics(X[order], Y[order])) == pytest.approx(plain, rel=1e-12)
    assert density(Q, Sigma, statistics(X, Y[order])) != pytest.approx(plain, rel=1e-3), "the test can fail"


def test_precision_follows_the_program_around_it(rng):
    X, Y, Q, Sigma = problem(rng, "tall")
    value, gradient = slopes(Q, Sigma, statistics(X, Y))
    assert {leaf.dtype for leaf in jax.tree.leaves((value, gradient))} == {jnp.dtype("float32")}
    assert value == pytest.approx(oracles.log_marginal(Q, Sigma, X, Y), rel=1e-4)
    with jax.enable_x64(True):
        double = slopes(Q, Sigma, statistics(X, Y))
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {jnp.dtype("float64")}
        asked = slopes(jnp.asarray(Q, jnp.float32), jnp.asarray(Sigma, jnp.float32), statistics(X, Y))
        assert {leaf.dtype for leaf in jax.tree.leaves(asked[:1] + asked[1][:2])} == {jnp.dtype("float32")}
    np.testing.assert_allclose(gradient[0], double[1][0], rtol=1e-3, atol=1e-3)


# Functions given a draw


@by_shape
def test_functions_given_a_draw_are_dense_conditioning(shape, rng, float64):
    X, Y, Q, Sigma = problem(rng, shape)
    s2, X_new = 1.9, np.concatenate([rng.standard_normal((4, X.shape[1])), X[:2]])
    spec = bl.Spectrum.from_rows(X, Y)
    for scale in (Q, oracles.wishart(rng, len(Q), degrees=1), np.zeros_like(Q)):
        given = jax.jit(likelihood.conditional)(s2 * scale, Sigma, spec)
        T, u = spec.project(X_new)
        mean = T @ given.coef @ given.M.T
        cov = np.einsum("ad,md,bd->mab", given.M, T**2 @ given.var + u[:, None] * given.q, given.M)
        dense_mean, dense_cov = oracles.condition(scale, Sigma, X, Y, X_new, s2)
        np.testing.assert_allclose(mean, dense_mean, atol=1e-10)
        np.testing.assert_allclose(cov, dense_cov, atol=1e-10)
        np.testing.assert_allclose(given.M @ given.M.T, Sigma, atol=1e-12)
        np.testing.assert_allclose(given.M @ given.P.T, np.eye(len(Q)), atol=1e-11)


# No axis of rows


def all_sizes(jaxpr):
    """Sizes of every axis of every value in a program, inner programs included."""
    for equation in jaxpr.eqns:
        for variable in (*equation.invars, *equation.outvars):
            yield from variable.aval.shape
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")
        )
        for leaf in inner:
            program = getattr(leaf, "jaxpr", leaf)
            if hasattr(program, "eqns"):
                yield from all_sizes(program)
    for variable in (*jaxpr.constvars, *jaxpr.invars):
        yield from variable.aval.shape


N_ROWS = 37


@pytest.mark.parametrize("law", [bl.NNGP(1.5), bl.FiniteNetwork((5, 4)), bl.Proportional(0.5)], ids=repr)
def test_the_compiled_gradient_has_no_axis_of_rows(law, rng, float64):
    X, Y = rng.standard_normal((N_ROWS, 3)), rng.standard_normal((N_ROWS, 2))
    settings = {"law": law, "outputs": 2, "noise": "full"}
    model = bl.models.scale_mixture
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as sites:
        model(X, **settings)
    start = {name: site["value"] for name, site in sites.items() if site["type"] == "sample" and name != "Y"}

    def log_density(params, X, Y):
        return numpyro.infer.util.log_density(model, (X, Y), settings, params)[0]

    gradient = jax.make_jaxpr(jax.grad(lambda params: log_density(params, X, Y)))(start)
    assert N_ROWS not in all_sizes(gradient.jaxpr)
    traced = jax.make_jaxpr(lambda params, Y: log_density(params, X, Y))(start, Y)
    assert N_ROWS in all_sizes(traced.jaxpr), "the walk does see rows where they are"


def test_the_density_of_known_labels_has_no_axis_of_rows(rng, float64):
    X, Y = rng.standard_normal((N_ROWS, 3)), rng.standard_normal((N_ROWS, 2))
    program = jax.make_jaxpr(jax.grad(lambda Q: LinearLabels(Q, np.eye(2), X).log_prob(Y)))(np.eye(2))
    assert N_ROWS not in all_sizes(program.jaxpr)
