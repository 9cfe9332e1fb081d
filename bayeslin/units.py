"""Between the units of a table, outside, and those of the fit, inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslin import checks
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
        """New inputs (m, p) as the fit knows them; a data frame must have its columns, where the fit had names."""
        data, columns = self.dataset, getattr(X_new, "columns", None)
        if data is not None and data.columns and columns is not None:
            return data.encode(X_new)
        named = self.feature_names != tuple(map(str, range(len(self.feature_names))))
        if named and columns is not None and tuple(map(str, columns)) != self.feature_names:
            raise checks.InputError(
                f"X_new has the columns {tuple(columns)}, the fit had {self.feature_names}; give those"
            )
        X_new = checks.new_rows(X_new, len(self.feature_names))
        return X_new if data is None else (X_new - data.x_mean) / data.x_scale

    def labels(self, Y_new: Any, rows: int) -> np.ndarray:
        """New labels (rows, D) as the fit knows them; of a data frame the columns of the outputs."""
        if hasattr(Y_new, "columns") and set(self.output_names) <= set(Y_new.columns):
            Y_new = Y_new[list(self.output_names)]
        Y_new, shape = checks.matrix(Y_new, "Y_new"), (rows, len(self.output_names))
        if Y_new.shape != shape:
            raise checks.InputError(f"Y_new must have shape {shape}, got {Y_new.shape}")
        return (Y_new - self.shift) / self.scale
