"""Written-out products and factors of small matrices, against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayeslin import small

EPS = np.finfo(float).eps
SIZES = range(1, small.SMALL + 2)  # the last goes to the library
by_size = pytest.mark.parametrize("size", SIZES)


def positive(rng, size):
    G = rng.standard_normal((size, size + 2))
    return G @ G.T


@pytest.mark.parametrize(("a", "b", "c"), [(3, 3, 3), (200, 4, 4), (4, 200, 4), (4, 4, 200), (200, 3, 1), (7, 8, 9)])
def test_products(a, b, c, rng, float64):
    A, B = rng.standard_normal((a, b)), rng.standard_normal((b, c))
    bound = 4 * b * EPS * (np.abs(A) @ np.abs(B)).max()
    np.testing.assert_allclose(small.product(jnp.asarray(A), jnp.asarray(B)), A @ B, atol=bound, rtol=0)


@by_size
def test_factors_and_lower_triangular_systems(size, rng, float64):
    A, b = positive(rng, size), rng.standard_normal((size, 2))
    L = small.cholesky(jnp.asarray(A))
    np.testing.assert_allclose(L, np.linalg.cholesky(A), rtol=1e-11, atol=1e-13)
    for right in (b, b[:, 0]):
        np.testing.assert_allclose(small.solve_lower(L, jnp.asarray(right)), np.linalg.solve(L, right), rtol=1e-9)


@by_size
def test_what_is_not_positive_definite_has_no_factor(size, float64):
    assert np.isnan(small.cholesky(jnp.asarray(np.diag([1.0] * (size - 1) + [-1.0])))).any()


def symmetric(kind, size, rng):
    A = positive(rng, size) - 2.0 * np.eye(size)
    if kind == "identity":
        return np.eye(size)
    if kind == "zero":
        return np.zeros((size, size))
    if kind == "diagonal":
        return np.diag(np.arange(size, 0.0, -1.0))
    if kind == "graded":  # condition number 1e20
        scale = np.logspace(-5, 5, size)
        return positive(rng, size) * scale * scale[:, None]
    if kind == "equal eigenvalues":
        v = rng.standard_normal(size)
        return np.eye(size) + np.outer(v, v)
    if kind == "nearly equal eigenvalues":
        return np.eye(size) + 1e-13 * A
    if kind == "tiny":
        return 1e-300 * A
    return A


@by_size
@pytest.mark.parametrize(
    "kind", ["any", "identity", "zero", "diagonal", "graded", "equal eigenvalues", "nearly equal eigenvalues", "tiny"]
)
def test_eigenvectors(kind, size, rng, float64):
    for _ in range(20):
        A = symmetric(kind, size, rng)
        q, E = map(np.asarray, small.eigh(jnp.asarray(A)))
        unit = 10 * size * EPS
        largest = np.abs(A).max()
        np.testing.assert_allclose(E.T @ E, np.eye(size), atol=2 * small.SWEEPS * unit, rtol=0)
        np.testing.assert_allclose(E.T @ A @ E, np.diag(q), atol=2 * small.SWEEPS * unit * largest, rtol=0)
        np.testing.assert_allclose(np.sort(q), np.linalg.eigvalsh(A), atol=2 * small.SWEEPS * unit * largest, rtol=0)


@by_size
def test_derivatives_of_eigenvectors(size, rng, float64):
    A, towards = (jnp.asarray(positive(rng, size)) for _ in range(2))

    def inverse(A):  # by eigenvectors, whatever their order and signs
        q, E = small.eigh(A)
        return (E / q) @ E.T

    value, slope = jax.jvp(inverse, (A,), (towards,))
    np.testing.assert_allclose(value, jnp.linalg.inv(A), rtol=1e-8)
    np.testing.assert_allclose(slope, -value @ towards @ value, rtol=1e-7, atol=1e-9)


@by_size
def test_derivatives_are_symmetric_as_the_library_s(size, rng, float64):
    A, B = (jnp.asarray(positive(rng, size)) for _ in range(2))

    def through(factor):
        return jax.grad(lambda A: (B * factor(A)).sum())(A)

    np.testing.assert_allclose(through(small.cholesky), through(jnp.linalg.cholesky), rtol=1e-8, atol=1e-10)


def test_float32_stays_float32_whatever_the_default(rng, float64):
    A = jnp.asarray(positive(rng, 3), jnp.float32)
    (q, E), slopes = jax.jvp(small.eigh, (A,), (A,))
    for each in (q, E, *slopes, small.cholesky(A), small.product(A, A), small.diagonal(A), small.solve_lower(A, A)):
        assert each.dtype == jnp.float32
    np.testing.assert_allclose(E * q @ E.T, A, atol=1e-5)
