"""Rows in pieces: any partition, in any order, gives the statistics of all rows, to rounding."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayeslin as bl
from bayeslin import factor

EPS = np.finfo(float).eps
CONDITION = 1e5


def rows(rng, n, p, D, deficient=False):
    X = rng.standard_normal((n, p))
    if deficient and p > 1:
        X[:, -1] = X[:, 0] - X[:, 1]
    return X, X @ rng.standard_normal((p, D)) + rng.standard_normal((n, D))


def cut(X, Y, sizes):
    """Chunks of those sizes, and the rest."""
    ends = np.minimum(np.cumsum([0, *sizes]), len(X))
    return [(X[a:b], Y[a:b]) for a, b in zip(ends, [*ends[1:], len(X)], strict=True)]


def assert_same(found, whole, X, Y, atol=1000 * EPS):
    """The same likelihood and predictions, in what the signs and rotations of Z and V leave alone.

    atol : relative to the norms of the columns; QR and SVD err by some multiples of epsilon times a root of the size.
    """
    assert (found.rank, found.outputs, found.n, found.tol) == (whole.rank, whole.outputs, whole.n, whole.tol)
    x, y = np.linalg.norm(X, 2) / np.sqrt(X.shape[1]), np.linalg.norm(Y, 2)
    np.testing.assert_allclose(np.sqrt(found.lam), np.sqrt(whole.lam), rtol=0, atol=atol * x)
    for of in (
        lambda s: (s.V * s.lam) @ s.V.T / x**2,  # X^T X / p
        lambda s: (s.V * np.sqrt(s.lam)) @ s.Z / (x * y),  # X^T Y / sqrt p
        lambda s: s.Z.T @ s.Z / y**2,
        lambda s: s.R / y**2,
    ):
        np.testing.assert_allclose(of(found), of(whole), rtol=0, atol=atol)
    np.testing.assert_allclose(found.V.T @ found.V, np.eye(found.rank), atol=atol)
    assert np.linalg.eigvalsh(found.R).min() >= -10 * EPS * np.trace(found.R)  # what eigvalsh itself errs by


partitions = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(2, 60),
        "p": st.integers(1, 12),
        "D": st.integers(1, 4),
        "deficient": st.booleans(),
        "sizes": st.lists(st.integers(0, 25), max_size=12),
        "center": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(partitions)
def test_any_partition_gives_the_statistics_of_all_rows(case):
    rng = np.random.default_rng(case["seed"])
    X, Y = rows(rng, case["n"], case["p"], case["D"], case["deficient"])
    chunks = cut(X, Y, case["sizes"])
    if case["center"]:
        X, Y = X - X.mean(0), Y - Y.mean(0)
    tol = 1e-10  # some 20 rows and columns leave rounding of 1e-15 where the rank is deficient
    assert_same(
        bl.Spectrum.from_chunks(chunks, center=case["center"], tol=tol), bl.Spectrum.from_rows(X, Y, tol=tol), X, Y
    )


def test_the_order_and_the_grouping_of_merges_do_not_matter(rng):
    W = rng.standard_normal((40, 5)) + 1e3
    a, b, c = (factor.Factor.of(part) for part in (W[:3], W[3:20], W[20:]))
    whole = factor.Factor.of(W)
    for merged in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)):
        assert merged.n == 40
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=10 * EPS)
        np.testing.assert_allclose(merged.sd, whole.sd, rtol=1000 * EPS)
        for center in (False, True):
            one, two = merged.rows(center=center), whole.rows(center=center)
            np.testing.assert_allclose(one.T @ one, two.T @ two, rtol=0, atol=1000 * EPS * np.square(two).sum())
        np.testing.assert_array_equal((merged.low, merged.high), (W.min(0), W.max(0)))


def test_blocks_inside_a_large_chunk_change_nothing(rng, monkeypatch):
    X, Y = rows(rng, 500, 4, 2)
    whole = bl.Spectrum.from_rows(X, Y)
    monkeypatch.setattr(factor, "CELLS", 100)  # 14 rows of 7 numbers
    assert_same(bl.Spectrum.from_chunks([(X, Y)]), whole, X, Y)


def ill_conditioned(rng, n=3000, p=8):
    """X with singular values from 1 to 1e-5."""
    U, V = (np.linalg.qr(rng.standard_normal(shape))[0] for shape in ((n, p), (p, p)))
    return U * np.geomspace(1, 1 / CONDITION, p) @ V.T


def test_small_eigenvalues_keep_their_digits_where_cross_products_lose_them(rng):
    """A backward error of epsilon moves the smallest singular value by epsilon times the condition number, 2e-11."""
    X, Y = ill_conditioned(rng), rng.standard_normal((3000, 2))
    whole = bl.Spectrum.from_rows(X, Y)
    found = bl.Spectrum.from_chunks(cut(X, Y, [7, 100, 0, 900, 500]))
    error = np.abs(found.lam / whole.lam - 1).max()
    assert found.rank == 8
    assert error < EPS * CONDITION
    products = sum(x.T @ x for x, _ in cut(X, Y, [7, 100, 0, 900, 500])) / 8
    assert np.abs(np.linalg.eigvalsh(products)[::-1] / whole.lam - 1).max() > 100 * EPS * CONDITION


@pytest.mark.parametrize("first", ["like the others", "one row far away"])
def test_columns_far_from_zero_keep_their_digits(first, rng):
    """Mean 1e6, sd 1, centred: the entries are known to 1e-10, but what is given is centred without another loss."""
    X, Y = rows(rng, 2000, 5, 2)
    X, Y = X + 1e6 * rng.choice([-1, 1], 5), Y + 1e6
    if first == "one row far away":
        X[0] = 0.0
    center = [W - W.mean(0) for W in (X, Y)]
    center = [W - W.mean(0) for W in center]  # the mean itself was rounded
    found = bl.Spectrum.from_chunks(cut(X, Y, [1, 300, 2, 700]), center=True)
    condition = 1.0 if first == "like the others" else 1e5  # of X: one row of 1e6 against 45 standard deviations
    assert_same(found, bl.Spectrum.from_rows(*center), *center, atol=max(1000.0, condition) * EPS)
    if first == "like the others":
        products = sum(x.T @ x for x, _ in cut(X, Y, [1, 300, 2, 700])) - len(X) * np.outer(X.mean(0), X.mean(0))
        worst = np.abs(np.linalg.eigvalsh(products / 5)[::-1] / found.lam - 1).max()
        assert worst > 1e-6, "cross-products lose nine digits: the test can fail"


def test_rows_that_drift_are_centred_over_all_chunks(rng):
    X, Y = rows(rng, 900, 3, 1)
    X += np.linspace(0, 100, 900)[:, None]
    center = X - X.mean(0), Y - Y.mean(0)
    assert_same(bl.Spectrum.from_chunks(cut(X, Y, [300, 300]), center=True), bl.Spectrum.from_rows(*center), *center)


def test_the_remainder_is_never_indefinite(rng):
    X = rng.standard_normal((50, 4))
    Y = X @ rng.standard_normal((4, 3)) * 1e6 + 1e-6 * rng.standard_normal((50, 3))
    found, whole = bl.Spectrum.from_chunks(cut(X, Y, [20, 9])), bl.Spectrum.from_rows(X, Y)
    assert np.linalg.eigvalsh(found.R).min() > 0
    # entries of Y are 1e6 and known to 1e-10: of remainders of 1e-6 four digits are left
    np.testing.assert_allclose(found.R, whole.R, rtol=0, atol=1e-2 * np.trace(whole.R))


@pytest.mark.parametrize("p", [5, 6, 11])
def test_nothing_is_left_over_where_the_inputs_reach_every_row(p, rng):
    X, Y = rows(rng, 5, p, 3)
    assert (bl.Spectrum.from_chunks(cut(X, Y, [2, 1])).R == 0).all()


def test_the_tolerance_is_that_of_all_rows(rng):
    X, Y = rows(rng, 300, 3, 1)
    parts = cut(X, Y, [100, 100])
    assert bl.Spectrum.from_chunks(parts).tol == 300 * EPS
    assert bl.Spectrum.from_chunks(parts, tol=1e-4).tol == 1e-4
    repeated = [(np.hstack([x, x]), y) for x, y in parts]
    assert bl.Spectrum.from_chunks(repeated).rank == 3


def test_chunks_may_be_frames_lists_vectors_and_of_single_precision(rng):
    X, Y = rows(rng, 20, 3, 1)
    whole = bl.Spectrum.from_rows(X, Y)
    frame = pd.DataFrame(X, columns=list("abc"))
    parts = [
        (frame[:7], Y[:7, 0]),
        (frame[["c", "a", "b"]][7:9], pd.Series(Y[7:9, 0])),  # found by name
        (frame[:0], Y[:0, 0]),
        (frame[9:], Y[9:].tolist()),
    ]
    assert_same(bl.Spectrum.from_chunks(parts), whole, X, Y)
    assert_same(bl.Spectrum.from_chunks(iter(parts)), whole, X, Y)
    single = X.astype(np.float32), Y.astype(np.float32)
    assert_same(bl.Spectrum.from_chunks(cut(*single, [7])), bl.Spectrum.from_rows(*single), X, Y)


def test_a_posterior_from_chunks_predicts_as_one_from_rows(rng):
    X, Y = rows(rng, 40, 3, 2)
    X, Y = X - X.mean(0), Y - Y.mean(0)
    one = bl.fit(bl.NNGP(), X, Y, noise=0.5).predict(X[:4])
    two = bl.fit(bl.NNGP(), bl.Spectrum.from_chunks(cut(X, Y, [11, 11])), noise=0.5).predict(X[:4])
    np.testing.assert_allclose(two.mean, one.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(two.cov, one.cov, rtol=1e-12, atol=1e-12)


def chunks_of(*changes):
    """Three good chunks of 4 rows, X (4, 3) and Y (4, 2), with changes at (chunk, which of the pair)."""
    rng = np.random.default_rng(0)
    parts = [list(rows(rng, 4, 3, 2)) for _ in range(3)]
    for (chunk, which), change in changes:
        parts[chunk][which] = change(parts[chunk][which])
    return [tuple(part) for part in parts]


def hole(array):
    array[2, 1] = np.nan
    return array


def named(*names):
    return lambda array: pd.DataFrame(array, columns=list(names))


BAD = {
    "no chunks": ([], "no chunks; give at least one pair"),
    "no rows": ([(X[:0], Y[:0]) for X, Y in chunks_of()], "at least two rows, got 0"),
    "one row": ([(X[:1], Y[:1]) for X, Y in chunks_of()[:1]], "at least two rows, got 1"),
    "rows in place of chunks": (np.ones((5, 2)), "iterable of pairs"),
    "a number": (3, "iterable of pairs"),
    "a chunk alone": ([np.ones((2, 3))], "chunk 0 must be a pair"),
    "row by row": (
        zip(np.ones((9, 2)), np.ones((9, 2)), strict=True),
        r"X of chunk 0 has one axis.*one row is X\[None\]",
    ),
    "three parts": ([(1, 2, 3)], "chunk 0 must be a pair"),
    "hole": (chunks_of(((1, 0), hole)), r"X of chunk 1 holds nan in row 2, column 1 \(counted from 0\)"),
    "hole in Y": (chunks_of(((2, 1), hole)), "Y of chunk 2 holds nan in row 2, column 1"),
    "fewer labels": (chunks_of(((1, 1), lambda Y: Y[:3])), r"X of chunk 1 \(4, 3\), Y \(3, 2\)"),
    "fewer features": (chunks_of(((2, 0), lambda X: X[:, :2])), "X of chunk 2 has 2 columns, the first had 3"),
    "more outputs": (chunks_of(((1, 1), lambda Y: Y[:, [0, 1, 1]])), "Y of chunk 1 has 3 columns, the first had 2"),
    "other names": (
        chunks_of(((0, 0), named(*"abc")), ((1, 0), named(*"abd"))),
        r"chunk 1 has the columns \['a', 'b', 'd'\], the first had \['a', 'b', 'c'\]",
    ),
    "constant label": ([(X, Y * [1, 0]) for X, Y in chunks_of()], "column 1 of Y is constant"),
    "zero inputs": ([(X * 0, Y) for X, Y in chunks_of()], "every entry of X is zero"),
    "too large": (chunks_of(((1, 0), lambda X: X * 1e200)), "X of chunk 1 holds .* too large"),
    "text": (chunks_of(((1, 0), lambda X: [["a", "b", "c"]] * 4)), "X of chunk 1 must hold numbers only"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_by_chunk(name):
    parts, message = BAD[name]
    with pytest.raises(bl.InputError, match=message):
        bl.Spectrum.from_chunks(parts)


def test_inputs_that_vary_nowhere_leave_nothing_when_centred(rng):
    parts = [(np.full((25, 2), 0.1), rng.standard_normal((25, 2))) for _ in range(2)]  # 0.1 is not its own mean
    with pytest.raises(bl.InputError, match="every column of X is constant"):
        bl.Spectrum.from_chunks(parts, center=True)
    assert bl.Spectrum.from_chunks(parts).rank == 1


@pytest.mark.parametrize("tol", [-1, 1, 2, "small"])
def test_the_tolerance_is_checked_before_any_row_is_read(tol):
    def parts():
        raise AssertionError("rows were read")
        yield

    with pytest.raises(bl.InputError, match="tol"):
        bl.Spectrum.from_chunks(parts(), tol=tol)


def test_chunks_as_a_data_set_answer_in_their_own_units(rng, tmp_path):
    X, Y = rows(rng, 60, 3, 2)
    X, Y = 5 + 2 * X, 100 + 3 * Y
    frames = [(pd.DataFrame(x, columns=list("abc")), pd.DataFrame(y, columns=["u", "v"])) for x, y in cut(X, Y, [11])]
    data = bl.scan_chunks(frames)
    assert (data.n, data.X.shape, data.feature_names, data.output_names) == (60, (0, 3), ("a", "b", "c"), ("u", "v"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        bl.fit(bl.NNGP(), data, noise=0.5)
    assert {str(each.message)[:20] for each in said} >= {"column 0 of X has me", "column 0 of Y has me"}
    post = bl.fit(bl.NNGP(), data.standardize(), noise=0.5)
    post.save(tmp_path / "m.nc")
    zX, zY = ((W - W.mean(0)) / W.std(0) for W in (X, Y))
    inside = bl.fit(bl.NNGP(), zX, zY, noise=0.5).predict(zX[:4])
    for one in (post, bl.Posterior.load(tmp_path / "m.nc")):
        for new in (X[:4], pd.DataFrame(X[:4], columns=list("abc"))[["c", "a", "b"]]):
            np.testing.assert_allclose(one.predict(new).mean, inside.mean * Y.std(0) + Y.mean(0), rtol=1e-12)
    assert bl.scan_chunks(cut(X, Y, [11])).output_names == ("0", "1")


def test_a_label_that_is_constant_within_each_chunk_only_is_kept(rng):
    parts = [(rng.standard_normal((5, 2)), np.full(5, float(k))) for k in range(3)]
    assert bl.Spectrum.from_chunks(parts).n == 15
