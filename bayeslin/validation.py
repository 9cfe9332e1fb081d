"""Cross-validation: how well the labels of rows are foretold by the other rows, all folds fitted side by side."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayeslin import checks
from bayeslin.data import Dataset
from bayeslin.diagnostics import Diagnosis
from bayeslin.many import fit_many
from bayeslin.scale import Law
from bayeslin.spectrum import Spectrum


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Scores of a law on rows it had not seen.

    labels : (n, D), as in the table. log_score : (n,), log predictive density of a row's labels together, given the
    rows of other folds, in nats. fold : (n,), from 0, the fold with which each row was left out. marked : whether folds
    were marked by the user. diagnoses : of the sampler, one for each fold.
    """

    law: Law
    labels: np.ndarray
    log_score: np.ndarray
    fold: np.ndarray
    marked: bool
    diagnoses: tuple[Diagnosis, ...]

    @property
    def elpd(self) -> float:
        """Expected log predictive density of as many new rows: the sum of the scores."""
        return float(self.log_score.sum())

    @property
    def se(self) -> float:
        """Standard error of `elpd` from row to row, or from mark to mark; without that of the draws."""
        return self._error(self.log_score)

    def minus(self, other: CrossValidation) -> tuple[float, float]:
        """Difference in `elpd`, row by row, and its standard error; for the same labels in the same folds."""
        same = np.array_equal(self.fold, other.fold) and self.labels.shape == other.labels.shape
        if not same or not np.allclose(self.labels, other.labels, rtol=1e-9):
            raise checks.InputError("these scored other labels or folds; give both the same rows, folds and seed")
        difference = self.log_score - other.log_score
        return float(difference.sum()), self._error(difference)

    def _error(self, scores: np.ndarray) -> float:
        sums = np.bincount(self.fold, scores) if self.marked else scores
        return math.sqrt(len(sums)) * float(sums.std(ddof=1))

    def __repr__(self) -> str:
        of = f"{len(self.fold)} rows, {len(self.diagnoses)} folds"
        return f"CrossValidation({self.law!r}: elpd {self.elpd:.2f} ± {self.se:.2f}, {of})"


def cross_validate(
    law: Law, X: Any, Y: Any = None, *, folds: Any = 10, seed: int = 0, **settings: Any
) -> CrossValidation:
    """Leave out each fold in turn, fit the other rows and score the labels of the fold: a `CrossValidation`.

    X : (n, p), Y : (n, D), or in place of both a `Dataset` with rows. One that `standardize` made is standardised anew
        for each fold, by the rows that are fitted there, so that nothing of the others is known; scores are in the
        units of its table, a known noise in those of the fit.
    folds : how many, at most n, drawn at random from `seed`; or n marks, such as the name of the subject that a row
        comes from: rows of equal mark are left out together, and count as one in standard errors.
    settings : noise, draws, warmup, chains, max_tree_depth and progress of `fit_many`, which samples all folds at once
        and in whose warnings data set k is the rows without fold k.
    Raises `InputError` where without a fold an output does not vary; warns where a feature does not.

    >>> import bayeslin as bl
    >>> data = bl.load_dataset("linnerud").standardize()
    >>> cross_validate(bl.NNGP(), data, folds=5, noise=0.9)
    CrossValidation(NNGP(): elpd -225.26 ± 14.92, 20 rows, 5 folds)
    """
    data, marked = _with_rows(X, Y), hasattr(folds, "__len__") and not isinstance(folds, str)
    n = len(data.X)
    fold = _marked(folds, n) if marked else _drawn(folds, n, seed)
    anew = bool(np.ndim(data.x_scale) and np.ndim(data.y_scale))
    table = data.original()
    _check_variation(table, fold)

    def without(k: int) -> Dataset:
        if anew:
            return replace(table, X=table.X[fold != k], Y=table.Y[fold != k]).standardize()
        return replace(data, X=data.X[fold != k], Y=data.Y[fold != k])

    posts = fit_many(law, map(without, range(fold.max() + 1)), seed=seed, **settings)
    score = np.empty(n)
    for k, post in enumerate(posts):
        score[fold == k] = post.log_score(table.X[fold == k], table.Y[fold == k])
    return CrossValidation(law, table.Y, score, fold, marked, tuple(post.diagnosis for post in posts))


def _with_rows(X: Any, Y: Any) -> Dataset:
    if isinstance(X, Spectrum) or (isinstance(X, Dataset) and X.factor is not None):
        raise checks.InputError("cross-validation leaves out rows, which were not kept; give X and Y")
    if isinstance(X, Dataset):
        if Y is not None:
            raise checks.InputError("a Dataset brings its labels; leave Y out")
        rows = checks.rows(X.X, X.Y)
        return replace(X, X=rows[0], Y=rows[1])
    X, Y = checks.rows(X, Y)
    features, outputs = (tuple(map(str, range(A.shape[1]))) for A in (X, Y))
    return Dataset(X, Y, features, outputs)


def _drawn(folds: Any, n: int, seed: int) -> np.ndarray:
    """The fold of each row, from 0, of equal sizes but for one row."""
    count = checks.integer(folds, "folds", least=2)
    if count > n:
        raise checks.InputError(f"{count} folds need at least as many rows, got {n}; give folds={n} or less")
    return np.random.default_rng(checks.integer(seed, "seed", least=0)).permutation(np.arange(n) % count)


def _marked(marks: Any, n: int) -> np.ndarray:
    """The fold of each row, from 0 in the order of the marks' first rows."""
    import pandas as pd

    marks = list(marks) if np.ndim(marks) == 1 else []
    if len(marks) != n:
        raise checks.InputError(f"folds must be a number, or a mark for each of the {n} rows that are used")
    fold = pd.factorize(pd.Series(marks, dtype=object))[0]
    if (fold < 0).any():
        raise checks.InputError(f"row {int(fold.argmin())} has no mark in folds; give it one, or leave it out")
    if not fold.any():
        raise checks.InputError("all rows have the same mark in folds, so none would be left to fit; need two at least")
    return fold


def _check_variation(table: Dataset, fold: np.ndarray) -> None:
    """Outputs must vary in the rows that are fitted, features that vary at all had better."""
    for k in range(fold.max() + 1):
        for names, A in ((table.output_names, table.Y), (table.feature_names, table.X)):
            still = np.flatnonzero((np.ptp(A[fold != k], axis=0) == 0) & (np.ptp(A, axis=0) > 0))
            if still.size and A is table.Y:
                raise checks.InputError(
                    f"output {names[still[0]]} does not vary in the rows without fold {k}; give other folds, or leave "
                    "it out"
                )
            if still.size:
                warnings.warn(
                    f"feature {names[still[0]]} does not vary in the rows without fold {k}, which say nothing of it: "
                    "the fold's scores depend on its units; give other folds, or leave it out",
                    stacklevel=3,
                )
