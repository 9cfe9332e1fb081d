"""Data to sufficient statistics: what they are, what they forget, and what cannot be used."""

import numpy as np
import pytest

import bayeslin as bl

# n, p, D, and whether one feature repeats another
SHAPES = [(7, 3, 2, False), (4, 9, 3, False), (5, 5, 1, False), (9, 4, 4, True), (6, 12, 2, True)]
by_shape = pytest.mark.parametrize(("n", "p", "D", "deficient"), SHAPES)
EPS = np.finfo(float).eps


def rows(rng, n, p, D, deficient=False):
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, D))
    if deficient:  # a repeated feature, or where features abound a repeated row
        X.T[-1] = X.T[0]
        if n <= p:
            X[-1] = X[0]
    return X, Y


@by_shape
def test_statistics_hold_the_kernel_and_its_features(n, p, D, deficient, rng):
    X, Y = rows(rng, n, p, D, deficient)
    spec = bl.Spectrum.from_rows(X, Y)
    r, scale = min(n, p) - deficient, 100 * EPS * spec.lam[0]
    assert (spec.rank, spec.outputs, spec.n) == (r, D, n)
    kernel = np.linalg.eigvalsh(X @ X.T / p)[::-1]
    np.testing.assert_allclose(spec.lam, kernel[:r], atol=scale)
    np.testing.assert_allclose(kernel[r:], 0, atol=scale)
    np.testing.assert_allclose(spec.V.T @ spec.V, np.eye(r), atol=100 * EPS)
    np.testing.assert_allclose(spec.V * spec.lam @ spec.V.T, X.T @ X / p, atol=scale)
    assert (np.diff(spec.lam) <= 0).all()


@by_shape
def test_statistics_hold_the_labels(n, p, D, deficient, rng):
    X, Y = rows(rng, n, p, D, deficient)
    spec = bl.Spectrum.from_rows(X, Y)
    scale = 100 * EPS * np.abs(Y.T @ Y).max()
    np.testing.assert_allclose(spec.Z.T @ spec.Z + spec.R, Y.T @ Y, atol=scale)
    np.testing.assert_allclose(spec.V * np.sqrt(spec.lam) @ spec.Z, X.T @ Y / np.sqrt(p), atol=10 * scale)
    unreached = Y - X @ np.linalg.lstsq(X, Y, rcond=1e-10)[0]
    np.testing.assert_allclose(spec.R, unreached.T @ unreached, atol=scale)


@pytest.mark.parametrize("p", [5, 6, 11])
def test_nothing_is_left_over_where_the_inputs_reach_every_row(p, rng):
    assert (bl.Spectrum.from_rows(*rows(rng, 5, p, 3)).R == 0).all()
    assert (bl.Spectrum.from_rows(*rows(rng, 7, 6, 3)).R != 0).all(), "the test can fail"


def test_the_remainder_is_never_indefinite(rng):
    X = rng.standard_normal((50, 4))
    Y = X @ rng.standard_normal((4, 3)) * 1e6 + 1e-6 * rng.standard_normal((50, 3))
    R = bl.Spectrum.from_rows(X, Y).R
    assert np.linalg.eigvalsh(R).min() > 0
    Z = np.linalg.svd(X, full_matrices=False)[0].T @ Y
    assert np.abs(Y.T @ Y - Z.T @ Z).max() > 1e6 * R.max(), "the difference of cross-products is all rounding"


def test_statistics_do_not_grow_with_the_rows(rng):
    spec = bl.Spectrum.from_rows(*rows(rng, 2000, 3, 2))
    assert [np.shape(field) for field in spec] == [(3,), (3, 2), (2, 2), (), (3, 3), ()]


def test_the_order_of_rows_and_the_sign_of_features_are_forgotten(rng):
    X, Y = rows(rng, 9, 4, 2)
    order, signs = rng.permutation(9), np.array([1, -1, -1, 1])
    plain, other = bl.Spectrum.from_rows(X, Y), bl.Spectrum.from_rows(X[order] * signs, Y[order])
    np.testing.assert_allclose(other.lam, plain.lam, rtol=100 * EPS)
    np.testing.assert_allclose(other.R, plain.R, rtol=1000 * EPS)
    np.testing.assert_allclose(
        np.einsum("ra,rb->rab", other.Z, other.Z), np.einsum("ra,rb->rab", plain.Z, plain.Z), atol=1000 * EPS
    )


def test_one_column_of_labels_may_come_as_a_vector_and_nothing_is_altered(rng):
    X, Y = rows(rng, 6, 2, 1)
    kept = X.copy(), Y.copy()
    spec = bl.Spectrum.from_rows(X.tolist(), Y[:, 0].tolist())
    np.testing.assert_array_equal(spec.Z, bl.Spectrum.from_rows(X, Y).Z)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Y, kept[1])


def test_the_tolerance_that_decided_the_rank_is_reported(rng):
    X, Y = rows(rng, 8, 3, 2)
    X[:, 2] = X[:, 0] + 1e-6 * X[:, 2]
    default = bl.Spectrum.from_rows(X, Y)
    assert (default.rank, default.tol) == (3, 8 * EPS)
    coarse = bl.Spectrum.from_rows(X, Y, tol=1e-4)
    assert (coarse.rank, coarse.tol) == (2, 1e-4)
    assert np.trace(coarse.R) > np.trace(default.R)
    for tol in (-1.0, np.nan, "small"):
        with pytest.raises(bl.InputError, match="tol"):
            bl.Spectrum.from_rows(X, Y, tol=tol)


@pytest.mark.parametrize("rank", range(1, 10))
def test_padding_brings_the_rank_to_a_power_of_two_and_keeps_the_statistics(rank, rng):
    spec = bl.Spectrum.from_rows(*rows(rng, 12, rank, 2))
    padded = spec.padded()
    assert padded.rank == {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8, 9: 16}[rank]
    np.testing.assert_array_equal(padded.lam[:rank], spec.lam)
    np.testing.assert_array_equal(padded.Z[:rank], spec.Z)
    assert (padded.lam[rank:] == 0).all()
    assert (padded.Z[rank:] == 0).all()
    assert padded.n == 12
    assert padded.tol is None
    np.testing.assert_array_equal(padded.R, spec.R)
    with pytest.raises(bl.InputError, match="padded"):
        padded.project(np.ones((1, rank)))


@by_shape
def test_projection_splits_inputs_into_what_rows_reached_and_the_rest(n, p, D, deficient, rng):
    X, Y = rows(rng, n, p, D, deficient)
    spec, X_new = bl.Spectrum.from_rows(X, Y), rng.standard_normal((5, p))
    T, u = spec.project(X_new)
    np.testing.assert_allclose(T, X_new @ spec.V / np.sqrt(p), atol=100 * EPS)
    residual = X_new - X_new @ np.linalg.lstsq(X, X, rcond=1e-10)[0]
    np.testing.assert_allclose(u, (residual**2).sum(1) / p, atol=1000 * EPS)
    T, u = spec.project(X)
    np.testing.assert_allclose(T @ T.T, X @ X.T / p, atol=100 * EPS * spec.lam[0])
    np.testing.assert_allclose(u, 0, atol=100 * EPS * spec.lam[0])
    assert (u >= 0).all()


X, Y = np.arange(12.0).reshape(4, 3) ** 2, np.arange(8.0).reshape(4, 2) ** 3
HOLED = X.copy()
HOLED[2, 1] = np.nan
BAD = {
    "transposed labels": (X, Y.T, r"X \(4, 3\), Y \(2, 4\); did you mean Y\.T\?"),
    "too few labels": (X, Y[:3], r"X \(4, 3\), Y \(3, 2\); give one row"),
    "hole in X": (HOLED, Y, r"X holds nan in row 2, column 1 \(counted from 0\)"),
    "infinite Y": (X, np.where(Y == 1, np.inf, Y), r"Y holds inf in row 0, column 1"),
    "constant label": (X, np.column_stack([Y, np.ones(4)]), r"column 2 of Y is constant"),
    "one row": (X[:1], Y[:1], "at least two rows, got 1"),
    "no rows": (X[:0], Y[:0], r"X is empty, shape \(0, 3\)"),
    "no features": (X[:, :0], Y, r"X is empty, shape \(4, 0\)"),
    "zero inputs": (0 * X, Y, "every entry of X is zero"),
    "text": ([["a", "b"]] * 4, Y, "X must hold numbers only"),
    "three axes": (X, Y[:, :, None], r"Y must be a matrix.*\(4, 2, 1\)"),
    "ragged": ([[1, 2], [3]], Y, "X must hold numbers only"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_by_name(name):
    inputs, labels, message = BAD[name]
    with pytest.raises(bl.InputError, match=message):
        bl.Spectrum.from_rows(inputs, labels)
