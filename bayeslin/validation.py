"""Cross-validation: how well the labels of rows are foretold by the other rows, all folds fitted side by side."""

from __future__ import annotations

import math
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

    log_score : (n,), log predictive density of each row's labels given the rows of other folds, in nats, label units.
    fold : (n,), from 0, the fold with which each row was left out. diagnoses : of the sampler, one for each fold.
    """

    law: Law
    log_score: np.ndarray
    fold: np.ndarray
    diagnoses: tuple[Diagnosis, ...]

    @property
    def elpd(self) -> float:
        """Expected log predictive density of as many new rows: the sum of the scores."""
        return float(self.log_score.sum())

    @property
    def se(self) -> float:
        """Standard error of `elpd` from row to row."""
        return _error(self.log_score)

    def minus(self, other: CrossValidation) -> tuple[float, float]:
        """Difference in `elpd`, row by row, and its standard error; the folds must be the same."""
        if not np.array_equal(self.fold, other.fold):
            raise checks.InputError("these were scored on other folds; give both the same rows, folds and seed")
        difference = self.log_score - other.log_score
        return float(difference.sum()), _error(difference)

    def __repr__(self) -> str:
        folds = len(self.diagnoses)
        return (
            f"CrossValidation({self.law!r}: elpd {self.elpd:.2f} ± {self.se:.2f}, {len(self.fold)} rows, {folds} folds)"
        )


def cross_validate(
    law: Law, X: Any, Y: Any = None, *, folds: Any = 10, seed: int = 0, **settings: Any
) -> CrossValidation:
    """Leave out each fold in turn, fit the other rows and score the labels of the fold: a `CrossValidation`.

    X : (n, p), Y : (n, D), or in place of both a `Dataset` with rows. One that was standardised is standardised anew in
        each fold, by the rows that are fitted there, so that nothing of the others is known; scores are in the units
        of its table.
    folds : how many, at most n, drawn at random from `seed`; or n marks, rows of equal mark left out together, such as
        the name of the subject they come from.
    settings : noise, draws, warmup, chains, max_tree_depth and progress of `fit_many`, which samples all folds at once
        and in whose warnings data set k is fold k.
    For folds of one row `az.loo(post.to_arviz())` answers from a single fit.

    >>> import bayeslin as bl
    >>> data = bl.load_dataset("linnerud").standardize()
    >>> cross_validate(bl.NNGP(), data, folds=5, noise=0.9)
    CrossValidation(NNGP(): elpd -225.26 ± 14.92, 20 rows, 5 folds)
    """
    data = _with_rows(X, Y)
    fold = _folds(folds, len(data.X), seed)
    table = data.original()
    kept = [replace(table, X=table.X[fold != k], Y=table.Y[fold != k]) for k in range(fold.max() + 1)]
    if np.ndim(data.x_scale):  # it was standardised
        kept = [part.standardize() for part in kept]
    posts = fit_many(law, kept, seed=seed, **settings)
    score = np.empty(len(fold))
    for k, post in enumerate(posts):
        score[fold == k] = post.log_score(table.X[fold == k], table.Y[fold == k])
    return CrossValidation(law, score, fold, tuple(post.diagnosis for post in posts))


def _with_rows(X: Any, Y: Any) -> Dataset:
    if isinstance(X, Spectrum) or (isinstance(X, Dataset) and X.factor is not None):
        raise checks.InputError("cross-validation leaves out rows, which were not kept; give X and Y")
    if not isinstance(X, Dataset):
        X, Y = checks.rows(X, Y)
        features, outputs = (tuple(map(str, range(A.shape[1]))) for A in (X, Y))
        return Dataset(X, Y, features, outputs)
    if Y is not None:
        raise checks.InputError("a Dataset brings its labels; leave Y out")
    return X


def _folds(folds: Any, n: int, seed: int) -> np.ndarray:
    """The fold of each row, from 0."""
    if np.ndim(folds) == 0:
        count = checks.integer(folds, "folds", least=2)
        if count > n:
            raise checks.InputError(f"{count} folds need as many rows, got {n}")
        return np.random.default_rng(checks.integer(seed, "seed", least=0)).permutation(np.arange(n) % count)
    if np.shape(folds) != (n,):
        raise checks.InputError(f"folds must be a number, or a mark for each of the {n} rows; got {np.shape(folds)}")
    fold = np.unique(np.asarray(folds), return_inverse=True)[1]
    if not fold.any():
        raise checks.InputError("all rows have the same mark in folds, so none would be left to fit; need two at least")
    return fold


def _error(scores: np.ndarray) -> float:
    return math.sqrt(len(scores)) * float(scores.std(ddof=1))
