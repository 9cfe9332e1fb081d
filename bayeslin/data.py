"""Dataset, tables, shipped sets, and teachers with a known truth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayeslin import checks
from bayeslin.columns import Column, complete_rows, encode, levels, note_dropped, roles, settle
from bayeslin.factor import Factor
from bayeslin.tables import known, plain_columns, read_csv, read_parquet

_TARGETS = {
    "penguins": ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"),
    "linnerud": ("Weight", "Waist", "Pulse"),
    "diabetes": ("progression",),
}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs X (n, p) and labels Y (n, D) with names, and the standardisation that was applied to them.

    Original values are X * x_scale + x_mean and Y * y_scale + y_mean. `columns` says how table columns became
    features, `notes` what was dropped or encoded, in sentences. `factor` is that of [X Y] where the rows were too many
    to keep; X and Y then have none.
    """

    X: np.ndarray
    Y: np.ndarray
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    name: str = "data"
    notes: tuple[str, ...] = ()
    x_mean: Any = field(default=0.0)
    x_scale: Any = field(default=1.0)
    y_mean: Any = field(default=0.0)
    y_scale: Any = field(default=1.0)
    factor: Factor | None = None

    @property
    def n(self) -> int:
        """Number of rows, also of those that were not kept."""
        return len(self.X) if self.factor is None else self.factor.n

    def standardize(self) -> Dataset:
        """Every column centred and divided by its standard deviation (ddof 0), constants become 0; see `original`.

        Raises `InputError` for numbers whose squares overflow or vanish.

        >>> data = load_dataset("linnerud").standardize()
        >>> data.Y.std(0)
        array([1., 1., 1.])
        """
        moved: dict[str, Any] = {}
        moments = self._moments()
        for short, (mean, sd) in zip("xy", moments, strict=True):
            if not (np.isfinite(sd) & (sd > 0)).all():
                raise checks.InputError(
                    f"{short.upper()} holds numbers too large or too small to be squared; rescale it"
                )
            shift, scale = getattr(self, f"{short}_mean"), getattr(self, f"{short}_scale")
            moved |= {short.upper(): (getattr(self, short.upper()) - mean) / sd, f"{short}_mean": mean * scale + shift}
            moved |= {f"{short}_scale": sd * scale}
        if self.factor is not None:
            moved["factor"] = self.factor.rescaled(*np.hstack(moments))
        return replace(self, **moved)

    def _moments(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean and sd of the columns of X and of Y; for a constant its value and 1."""
        if self.factor is not None:
            same, p = self.factor.constant, len(self.feature_names)
            mean, sd = np.where(same, self.factor.low, self.factor.mean), np.where(same, 1.0, self.factor.sd)
            return [(mean[:p], sd[:p]), (mean[p:], sd[p:])]
        moments = []
        for array in (self.X, self.Y):
            varies = np.ptp(array, axis=0) > 0  # the sd of a constant column may round to 1e-17 instead of 0
            with np.errstate(all="ignore"):
                moments.append((np.where(varies, array.mean(0), array[0]), np.where(varies, array.std(0), 1.0)))
        return moments

    def original(self) -> Dataset:
        """The same rows in the units of the table."""
        X, Y = self.X * self.x_scale + self.x_mean, self.Y * self.y_scale + self.y_mean
        moved = replace(self, X=X, Y=Y, x_mean=0.0, x_scale=1.0, y_mean=0.0, y_scale=1.0)
        if self.factor is None:
            return moved
        mean, scale = self._joined(self.x_mean, self.y_mean), self._joined(self.x_scale, self.y_scale)
        return replace(moved, factor=self.factor.rescaled(-mean / scale, 1 / scale))

    def _joined(self, x: Any, y: Any) -> np.ndarray:
        """One number for each column of [X Y]."""
        return np.hstack([np.broadcast_to(x, self.X.shape[1]), np.broadcast_to(y, self.Y.shape[1])])

    def encode(self, table: Any) -> np.ndarray:
        """Features (m, p) of the rows of another data frame, in this dataset's own, perhaps standardised, units."""
        features: dict[str, np.ndarray] = {}
        table = plain_columns(table, "the new table")
        for column in self.columns:
            known([column.name], table.columns, "the new table")
            features |= column.encode(table[column.name])
        X = checks.matrix(np.column_stack([features[name] for name in self.feature_names]), "the new table")
        return (X - self.x_mean) / self.x_scale

    @classmethod
    def from_frame(cls, table: Any, targets: Any, features: Any = None, *, name: str = "data") -> Dataset:
        """From a data frame: numeric `targets`, and `features` (default: every other column), text one-hot.

        Rows with missing cells are dropped and counted in `notes`; features that do not vary are left out and named.
        Raises `InputError` for unknown, repeated or constant targets, text in a target, infinities, too few rows.
        """
        table = plain_columns(table, name)
        targets, features = roles(table.columns, targets, features, name)
        complete, missing = complete_rows(table[[*features, *targets]])
        dropped = note_dropped(len(table), len(complete), missing, name)
        columns = tuple(Column(column, levels(complete[column])) for column in features)
        X, Y = encode(complete, columns, targets)
        constant = np.concatenate([np.ptp(X, axis=0) == 0, np.ptp(Y, axis=0) == 0])
        columns, kept, notes = settle(columns, targets, constant, name)
        return cls(X[:, ~constant[: X.shape[1]]], Y, kept, tuple(targets), columns, name, (*dropped, *notes))

    def __repr__(self) -> str:
        outputs = ", ".join(self.output_names)
        return f"Dataset({self.name!r}: {self.n} rows, {self.X.shape[1]} features, outputs {outputs})"


def read_table(path: Any, targets: Any = None, features: Any = None) -> Dataset:
    """A csv file (comma, semicolon or tab) or a parquet file as a `Dataset`, not standardised.

    targets : names of the columns to predict, known for the shipped sets. features : of those to predict from, by
    default the rest.
    Raises `InputError` if the file does not exist, is no table, or cannot be used as `Dataset.from_frame` says.

    >>> read_table(shipped_path("linnerud"), targets=["Pulse"], features=["Situps", "Jumps"])
    Dataset('linnerud': 20 rows, 2 features, outputs Pulse)
    """
    table = read_frame(path)
    path = Path(path).expanduser()
    return Dataset.from_frame(table, default_targets(path, targets, table.columns), features, name=path.stem)


def default_targets(path: Path, targets: Any, columns: Any) -> Any:
    """The targets as given, or those of the shipped set that the file is named as."""
    if targets is None:
        targets = _TARGETS.get(path.stem, ())
        if not targets or not set(targets) <= set(columns):
            raise checks.InputError(
                f"which columns of {path.name} are the targets? give targets; it has {', '.join(columns)}"
            )
    return targets


def read_frame(path: Any) -> Any:
    """The data frame in a csv or parquet file, cells as they are; raises `InputError` if there is none."""
    path = existing(path)
    try:
        table = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    except (OSError, RuntimeError, TypeError) as error:
        raise checks.InputError(f"{path} cannot be read ({error}); give the path of a csv or parquet file") from None
    return plain_columns(table, path.name)


def existing(path: Any) -> Path:
    """The path of a file that is there; raises `InputError` for any other."""
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            raise checks.InputError(f"{path} is a folder; give a csv or parquet file")
        if not path.exists():
            shipped = ", ".join(datasets())
            raise checks.InputError(f"{path} does not exist; give a csv or parquet file, or one of {shipped}")
    except (OSError, RuntimeError, TypeError) as error:
        raise checks.InputError(f"{path} cannot be read ({error}); give the path of a csv or parquet file") from None
    return path


def datasets() -> tuple[str, ...]:
    """Names of the data sets that come with the package."""
    return tuple(_TARGETS)


def shipped_path(name: str) -> Path:
    """Where the csv file of a shipped data set lies."""
    if name not in _TARGETS:
        raise checks.InputError(f"no shipped data set {name!r}; there are {', '.join(_TARGETS)}")
    package = Path(__file__).parent
    installed = package / "_data" / f"{name}.csv"
    return installed if installed.exists() else package.parent / "data" / f"{name}.csv"


def load_dataset(name: str) -> Dataset:
    """A shipped data set: "penguins" (4 outputs), "linnerud" (3) or "diabetes" (1); sources in data/README.md.

    >>> load_dataset("penguins").notes[0]
    '11 of 344 rows dropped, cells missing in sex (11), bill_length_mm (2), bill_depth_mm (2), ...'
    """
    return read_table(shipped_path(name))


class Teacher(NamedTuple):
    """A linear truth: labels are X map^T plus noise, and map map^T = correlation, the outputs' at x ~ N(0, I)."""

    dataset: Dataset
    map: np.ndarray
    correlation: np.ndarray
    noise: float


def teacher(n: int, p: int, outputs: int, *, seed: int, correlation: Any = 0.0, noise: float = 0.5) -> Teacher:
    """Data from a random linear map with exactly the asked output correlation.

    n rows of p standard normal features, p >= outputs; correlation : a number between any two outputs, or (D, D);
    noise : sd of the labels around the truth. Raises `InputError` where no such map exists.

    >>> truth = teacher(50, 4, 2, seed=0, correlation=0.8)
    >>> (truth.map @ truth.map.T).round(12)
    array([[1. , 0.8],
           [0.8, 1. ]])
    """
    n, p, D = checks.integer(n, "n", 2), checks.integer(p, "p"), checks.integer(outputs, "outputs")
    noise, seed = checks.number(noise, "noise", least=0.0), checks.integer(seed, "seed", least=0)
    if p < D:
        raise checks.InputError(f"{D} outputs need at least {D} features for any correlation, got p={p}")
    if np.ndim(correlation) == 0:
        correlation = np.where(np.eye(D), 1.0, checks.number(correlation, "correlation"))
    correlation = checks.matrix(correlation, "correlation")
    if correlation.shape != (D, D) or not np.allclose(np.diag(correlation), 1) or (correlation != correlation.T).any():
        raise checks.InputError(f"correlation must be a symmetric {D} x {D} matrix with ones on its diagonal")
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -1e-12:
        raise checks.InputError(f"correlation is not positive semidefinite, its smallest eigenvalue is {values[0]:.3g}")
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.standard_normal((p, D)))
    end_to_end = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T @ frame.T
    X = rng.standard_normal((n, p))
    Y = X @ end_to_end.T + noise * rng.standard_normal((n, D))
    names = tuple(f"x{index}" for index in range(p)), tuple(f"y{index}" for index in range(D))
    return Teacher(Dataset(X, Y, *names, tuple(map(Column, names[0])), "teacher"), end_to_end, correlation, noise)
