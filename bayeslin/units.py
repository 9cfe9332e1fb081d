"""Between the units of a table, outside, and those of the fit, inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslin import checks, tables
from bayeslin.data import Dataset


@dataclass(frozen=True)
class Units:
    """Names of features and outputs, and the `Dataset` whose table the rows come from; without one nothing is changed.

    Labels of the table are shift + scale times those of the fit.
    """

    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dataset: Dataset | None = None

    @property
    def shift(self) -> np.ndarray:
        """In label units, (D,)."""
        return np.broadcast_to(0.0 if self.dataset is None else self.dataset.y_mean, len(self.output_names))

    @property
    def scale(self) -> np.ndarray:
        """Label units for each unit of the fit, (D,)."""
        return np.broadcast_to(1.0 if self.dataset is None else self.dataset.y_scale, len(self.output_names))

    def inputs(self, X_new: Any) -> np.ndarray:
        """New inputs (m, p) as the fit knows them; columns of a data frame are found by name."""
        data = self.dataset
        if data is not None and data.columns and hasattr(X_new, "columns"):
            return data.encode(X_new)
        X_new = checks.new_rows(by_name(X_new, self.feature_names, "X_new"), len(self.feature_names))
        return X_new if data is None else (X_new - data.x_mean) / data.x_scale

    def labels(self, Y_new: Any, rows: int) -> np.ndarray:
        """New labels (rows, D) as the fit knows them; columns of a data frame are found by name."""
        Y_new, shape = by_name(Y_new, self.output_names, "Y_new"), (rows, len(self.output_names))
        Y_new = checks.matrix(Y_new, "Y_new")
        if Y_new.shape != shape:
            raise checks.InputError(f"Y_new must have shape {shape}, got {Y_new.shape}")
        return (Y_new - self.shift) / self.scale


def by_name(frame: Any, names: tuple[str, ...], what: str) -> Any:
    """The named columns of a data frame, in their order; anything else, and frames for a fit without names, as it is.

    Raises `InputError` where a named column is missing or there twice.
    """
    if not hasattr(frame, "columns"):
        return frame
    frame = tables.plain_columns(frame, what)
    if set(names) <= set(frame.columns):
        return frame[list(names)]
    if names == tuple(map(str, range(len(names)))):
        return frame
    raise checks.InputError(f"{what} has the columns {tuple(frame.columns)}, the fit had {names}; give those")
