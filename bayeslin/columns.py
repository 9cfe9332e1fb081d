"""Columns of a table to features and labels: which are used, what their cells mean, what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from bayeslin import checks
from bayeslin.tables import known

MOST_LEVELS = 50  # a text column with more is an identifier, not a feature


class Column(NamedTuple):
    """How a column of a table became features: numbers as they are, text one-hot with all its levels kept."""

    name: str
    levels: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that it becomes."""
        return tuple(f"{self.name}={level}" for level in self.levels) if self.levels else (self.name,)

    def encode(self, values: Any) -> dict[str, np.ndarray]:
        """Features by name; raises `InputError` on text where numbers are needed, and on unknown levels."""
        if not self.levels:
            return {self.name: numbers(values, self.name)}
        if values.isna().any():
            raise checks.InputError(f"column {self.name!r} has missing cells; fill them, or drop such rows")
        text = values.astype(str).to_numpy()
        unknown = sorted(set(text) - set(self.levels))
        if unknown:
            raise checks.InputError(
                f"column {self.name!r} holds {unknown[0]!r}, which the fit has not seen; its levels are {self.levels}"
            )
        columns = [(text == level).astype(float) for level in self.levels]
        return dict(zip(self.features, columns, strict=True))


def encode(rows: Any, columns: Iterable[Column], targets: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, p) and labels (n, D) of complete rows; raises `InputError` where two features share a name."""
    features: dict[str, np.ndarray] = {}
    for column in columns:
        new = column.encode(rows[column.name])
        if features.keys() & new.keys():
            twice = next(iter(features.keys() & new.keys()))
            raise checks.InputError(f"two features would be named {twice!r}; rename one")
        features |= new
    labels = [numbers(rows[target], target, "target ") for target in targets]
    return np.column_stack(list(features.values())), np.column_stack(labels)


def settle(
    columns: Iterable[Column], targets: Iterable[str], constant: np.ndarray, name: str
) -> tuple[tuple[Column, ...], tuple[str, ...], list[str]]:
    """The columns and the names of features that vary, and notes on encoding and on what was left out.

    constant : for each feature and then each target, whether all its entries are the same. Raises `InputError` where
    no feature varies, or a target does not.
    """
    columns, targets = tuple(columns), tuple(targets)
    features = [feature for column in columns for feature in column.features]
    notes = [f"{column.name} one-hot: {', '.join(column.levels)}" for column in columns if column.levels]
    still = [feature for feature, same in zip(features, constant, strict=False) if same]
    if still:
        notes.append(f"left out, constant: {', '.join(still)}")
    kept = tuple(feature for feature in features if feature not in still)
    if not kept:
        raise checks.InputError(f"{name} has no feature that varies; the targets are {', '.join(targets)}")
    for target, same in zip(targets, constant[len(features) :], strict=True):
        if same:
            raise checks.InputError(f"target {target!r} is constant; there is nothing to learn, leave it out")
    return tuple(column for column in columns if set(column.features) & set(kept)), kept, notes


def are_numbers(values: Any) -> bool:
    """Whether a column without missing cells holds numbers, perhaps written as text."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(values) or pd.to_numeric(values, errors="coerce").notna().all())


def levels(values: Any, rows: int | None = None) -> tuple[str, ...]:
    """Sorted levels of a text column, none for a column of numbers or truth values.

    rows : where `values` are only the distinct ones, how many they come from. Raises `InputError` for dates, for
    numbers with a decimal comma, and for text that names single rows.
    """
    import pandas as pd

    if pd.api.types.is_complex_dtype(values) or values.dtype.kind in "mM":
        raise checks.InputError(f"column {values.name!r} holds {values.dtype}; turn it into numbers, or leave it out")
    if are_numbers(values):
        return ()
    text = values.astype(str)
    found = tuple(sorted(set(text)))
    if text.str.fullmatch(r"\s*[-+]?\d+,\d+\s*").all():
        raise checks.InputError(f"column {values.name!r} has decimal commas, such as {text.iloc[0]!r}; use points")
    rows = len(text) if rows is None else rows
    if len(found) > MOST_LEVELS or len(found) > max(10, rows / 2):
        raise checks.InputError(
            f"text column {values.name!r} has {len(found)} levels in {rows} rows, and names rows rather than "
            "groups; leave it out: name features"
        )
    return found


def numbers(values: Any, name: str, kind: str = "") -> np.ndarray:
    """Finite float64 values of a column."""
    import pandas as pd

    if values.isna().any():
        raise checks.InputError(f"{kind}column {name!r} has missing cells; fill them, or drop such rows")
    if values.dtype.kind in "cmM":
        raise checks.InputError(f"{kind}column {name!r} holds {values.dtype}; turn it into numbers, or leave it out")
    array = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    for wrong, what in ((np.isnan(array), "text"), (np.isinf(array), "infinity")):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise checks.InputError(
                f"{kind}column {name!r} holds {what}, {values.iloc[row]!r} in row {values.index[row]} (from 0); "
                "give numbers, or leave the column out"
            )
    if np.abs(array).max(initial=0.0) > checks.LARGEST:
        raise checks.InputError(f"{kind}column {name!r} holds numbers too large to be squared; rescale it")
    return array


def roles(columns: Any, targets: Any, features: Any, name: str) -> tuple[list[str], list[str]]:
    """The columns that are targets and those that are features, by default all others; none is both."""
    targets = known(targets, columns, name)
    features = [c for c in columns if c not in targets] if features is None else features
    if not len(features):
        raise checks.InputError(f"every column of {name} is a target, so no feature is left; name fewer targets")
    features = known(features, columns, name)
    both = [column for column in features if column in targets]
    if both:
        raise checks.InputError(f"{both[0]!r} is both a target and a feature; leave it out of one of them")
    return targets, features


def complete_rows(used: Any) -> tuple[Any, Any]:
    """The rows of a data frame that have every cell, and the number of cells missing in each column."""
    missing = used.isna()
    whole = ~missing.any(axis=1)
    return used if whole.all() else used[whole], missing.sum()


def note_dropped(rows: int, complete: int, missing: Any, name: str) -> list[str]:
    """What to say of the rows with missing cells; raises `InputError` where fewer than two rows are complete."""
    if rows == 0:
        raise checks.InputError(f"{name} has a header but no rows; give a table with at least two rows")
    where = ", ".join(f"{column} ({count})" for column, count in missing.items() if count)
    if complete < 2:
        holes = f" (cells missing in {where})" if complete < rows else ""
        raise checks.InputError(
            f"{name} has {complete} complete rows{holes}, need at least two; fill cells or leave columns out"
        )
    return [f"{rows - complete} of {rows} rows dropped, cells missing in {where}"] if complete < rows else []
