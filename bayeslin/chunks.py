"""Rows that come in pieces: chunks of an iterable or blocks of dask, each checked at the door and made a factor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bayeslin import checks
from bayeslin.factor import Factor

Names = tuple[str, ...]
BRANCHES = 8  # factors merged by one task of dask


def piece(X: Any, Y: Any, where: str, widths: tuple[int, int] | None = None) -> Factor:
    """The factor of [X Y] for one piece, named by `where` in errors; widths : the columns that X and Y must have."""
    X, Y = checks.matrix(X, f"X of {where}", empty=True), checks.matrix(Y, f"Y of {where}", empty=True)
    if len(X) != len(Y):
        raise checks.InputError(f"need one row per example: X of {where} {X.shape}, Y {Y.shape}")
    for name, array, width in zip("XY", (X, Y), widths or (X.shape[1], Y.shape[1]), strict=True):
        if array.shape[1] != width:
            raise checks.InputError(
                f"{name} of {where} has {array.shape[1]} columns, the first had {width}; give all the same columns"
            )
    return Factor.of(X, Y)


def of_chunks(chunks: Iterable[Any]) -> tuple[Factor, Names, Names]:
    """The factor of [X Y] over all chunks (X, Y), and the columns' names in X and in Y; one chunk is held at a time.

    Raises `InputError` that names the chunk, counted from 0.
    """
    if not isinstance(chunks, Iterable) or hasattr(chunks, "shape"):
        raise checks.InputError(f"chunks must be an iterable of pairs (X, Y), got {type(chunks).__name__}")
    factor, widths, names = None, None, None
    for index, chunk in enumerate(chunks):
        if not isinstance(chunk, tuple | list) or len(chunk) != 2:
            raise checks.InputError(f"chunk {index} must be a pair (X, Y), got {type(chunk).__name__}")
        if np.ndim(chunk[0]) == 1:  # a chunk of one feature, or one row of a loop over rows
            raise checks.InputError(
                f"X of chunk {index} has one axis, length {len(chunk[0])}; give rows (n, p): one row is X[None], "
                "one feature X[:, None]"
            )
        names = names or [list(getattr(part, "columns", ())) for part in chunk]
        X, Y = (_in_order(part, known, f"chunk {index}") for part, known in zip(chunk, names, strict=True))
        new = piece(X, Y, f"chunk {index}", widths)
        if factor is None:
            factor, widths = new, (_width(X), _width(Y))
        else:
            factor = factor.merge(new)
    if factor is None or widths is None or names is None:
        raise checks.InputError("there are no chunks; give at least one pair (X, Y)")
    return factor, _named(names[0], widths[0], "feature names"), _named(names[1], widths[1], "output names")


def of_dask(X: Any, Y: Any) -> tuple[Factor, Names, Names]:
    """The factor of [X Y] for dask arrays or data frames, by a tree of tasks, and the columns' names in X and in Y.

    A task whose worker dies is run again by dask's scheduler; each is a function of its block alone, so that no row is
    lost or counted twice. Raises `InputError` that names the block, counted from 0.
    """
    try:
        import dask
    except ImportError:
        raise checks.InputError("this needs dask: pip install 'bayeslin[dask]'") from None
    X, Y = _along_rows(X, "X"), _along_rows(Y, "Y")
    if not any(hasattr(part, "columns") or np.isnan(part.shape[0]) for part in (X, Y)):
        if X.shape[0] != Y.shape[0]:
            raise checks.InputError(f"need one row per example: X {X.shape}, Y {Y.shape}")
        Y = Y.rechunk({0: X.chunks[0]})
    # unoptimised, so that blocks which X and Y are both cut from keep one name and are computed once
    delayed = [part.to_delayed(optimize_graph=False) for part in (X, Y)]
    blocks = [part.ravel().tolist() if isinstance(part, np.ndarray) else part for part in delayed]
    if len(blocks[0]) != len(blocks[1]):
        raise checks.InputError(
            f"X has {len(blocks[0])} blocks of unknown length, Y has {len(blocks[1])}; cut both from one collection, "
            "or call compute_chunk_sizes() on arrays"
        )
    widths, reduce, merge = (X.shape[1], Y.shape[1]), dask.delayed(piece, pure=True), dask.delayed(_merged, pure=True)
    level = [reduce(*pair, f"block {k}", widths) for k, pair in enumerate(zip(*blocks, strict=True))]
    while len(level) > 1:
        level = [merge(level[start : start + BRANCHES]) for start in range(0, len(level), BRANCHES)]
    names = [list(getattr(part, "columns", ())) for part in (X, Y)]
    features, outputs = _named(names[0], widths[0], "feature names"), _named(names[1], widths[1], "output names")
    return level[0].compute(), features, outputs


def _merged(factors: list[Factor]) -> Factor:
    total = factors[0]
    for factor in factors[1:]:
        total = total.merge(factor)
    return total


def _along_rows(part: Any, name: str) -> Any:
    """A dask collection cut along rows only, with two axes."""
    known = hasattr(part, "to_delayed") and isinstance(getattr(part, "ndim", None), int) and part.ndim in (1, 2)
    if not known or (part.ndim == 2 and np.isnan(part.shape[1])):
        raise checks.InputError(
            f"{name} must be a dask array or data frame of rows, got {type(part).__name__}; "
            "of known width; for other pieces see Spectrum.from_chunks"
        )
    if hasattr(part, "npartitions") and hasattr(part, "divisions"):
        return part.to_frame() if part.ndim == 1 else part
    part = part[:, None] if part.ndim == 1 else part
    return part.rechunk({1: -1})


def _in_order(part: Any, names: list, where: str) -> Any:
    """A data frame with its columns in the order of the first chunk's; arrays as they are."""
    columns = list(getattr(part, "columns", ()))
    if columns == names:
        return part
    if set(columns) != set(names) or len(columns) != len(names):
        raise checks.InputError(f"{where} has the columns {columns}, the first had {names}; give all the same columns")
    return part[names]


def _named(columns: list, width: int, what: str) -> Names:
    """Names of the columns: a data frame's, or 0, 1, ..."""
    return checks.names(columns or range(width), width, what)


def _width(part: Any) -> int:
    return 1 if np.ndim(part) == 1 else np.shape(part)[1]
