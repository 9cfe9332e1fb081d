"""The door: a valid value, or an error that says what came, what was wanted and what to do."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

LARGEST = 1e100  # of a number in a table: its square, summed over rows, must not overflow


class InputError(ValueError):
    """Something that the caller gave cannot be used; the message names it and the remedy."""


def matrix(values: Any, name: str, *, empty: bool = False) -> np.ndarray:
    """Finite float64 matrix from anything array-like; a single column may come as a vector; empty : allow no rows."""
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind in "cmM" and kind:
        raise InputError(f"{name} must hold real numbers, got {values.dtype}; convert it first")
    if np.ma.is_masked(values):
        raise InputError(f"{name} has masked entries; drop or fill such rows first")
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} must hold numbers only ({error}); encode text first, see bayeslin.read_table"
        ) from None
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(f"{name} must be a matrix, rows are examples; it came with shape {array.shape}")
    if not (array.shape[1] if empty else array.size):
        raise InputError(f"{name} is empty, shape {array.shape}; give at least one row and one column")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(
            f"{name} holds {array[row, column]} in row {row}, column {column} (counted from 0); "
            "drop or fill such rows first"
        )
    if np.abs(array).max(initial=0.0) > LARGEST:
        raise InputError(f"{name} holds {np.abs(array).max():.3g}, too large to be squared; rescale the columns")
    return array


def rows(X: Any, Y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, p) and labels (n, D) with a row for each example, at least two rows and no constant label."""
    if Y is None:
        raise InputError("the labels Y are missing; give X and Y, one row of labels for each row of inputs")
    X, Y = matrix(X, "X"), matrix(Y, "Y")
    if len(X) != len(Y):
        hint = "; did you mean Y.T?" if len(X) == Y.shape[1] else "; give one row of labels for each row of inputs"
        raise InputError(f"need one row per example: X {X.shape}, Y {Y.shape}{hint}")
    informative(len(X), np.ptp(Y, axis=0) == 0)
    return X, Y


def informative(n: int, constant: np.ndarray) -> None:
    """At least two rows, and no label column that is marked constant."""
    if n < 2:
        raise InputError(f"need at least two rows, got {n}")
    if constant.any():
        column = np.flatnonzero(constant)[0]
        raise InputError(f"column {column} of Y is constant; there is nothing to learn from it, leave it out")


def new_rows(X: Any, features: int) -> np.ndarray:
    """Inputs (m, p) with the p features of the fit."""
    given, X = X, matrix(X, "X_new")
    if X.shape[1] != features:
        hint = "; one row is X_new[None]" if np.shape(given) == (features,) else ""
        raise InputError(
            f"X_new has {X.shape[1]} columns, the fit had {features} features; give the same columns{hint}"
        )
    return X


def integer(value: Any, name: str, least: int = 1) -> int:
    """An integer of at least `least`, of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) < 2**63:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def shape(value: Any) -> tuple[int, ...]:
    """The shape of an array of draws."""
    if not isinstance(value, tuple):
        raise InputError(f"shape must be a tuple such as (1000,), or () for a single draw; got {value!r}")
    return tuple(integer(size, "each size of shape", least=0) for size in value)


def widths(values: Any) -> tuple[int, ...]:
    """Widths of the hidden layers, input side first."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"widths must be a sequence of positive integers such as (20,) * 10, got {values!r}")
    return tuple(integer(width, f"widths[{index}]") for index, width in enumerate(values))


def number(value: Any, name: str, *, above: float | None = None, least: float | None = None) -> float:
    """A finite number, above a bound or at least a bound where one is given."""
    if isinstance(value, bool) or not (
        isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0)
    ):
        raise InputError(f"{name} must be a number, got {value!r}")
    number = float(value)
    wanted = f" above {above}" if above is not None else f" of at least {least}" if least is not None else ""
    if not np.isfinite(number) or (above is not None and number <= above) or (least is not None and number < least):
        raise InputError(f"{name} must be a finite number{wanted}, got {value!r}")
    return number


def names(values: Sequence[Any], count: int, what: str) -> tuple[str, ...]:
    """As many distinct names as columns."""
    values = tuple(str(value) for value in values)
    if len(values) != count or len(set(values)) != count:
        raise InputError(f"need {count} distinct {what}, got {values}")
    for value in values:
        if "\0" in value or value.encode(errors="replace").decode() != value:
            raise InputError(f"{what} must be text that can be written to a file, got {value!r}; rename it")
    return values
