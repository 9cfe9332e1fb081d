"""Tables: files to data frames, and columns to numbers."""

from __future__ import annotations

import csv
import difflib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayeslin import checks

MOST_LEVELS = 50  # a text column with more is an identifier, not a feature


def read_csv(path: Path) -> Any:
    """Data frame of a UTF-8 csv file; comma, semicolon or tab, whichever the first line has most of."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
        delimiter = max(",;\t", key=re.sub('"[^"]*"', "", first).count)
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if not any(header):
            raise checks.InputError(f"{path.name} is empty; the first line must name the columns")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise checks.InputError(f"{path.name} names the column {twice!r} twice; rename one of them")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, sep=delimiter, index_col=False, encoding="utf-8-sig", skipinitialspace=True)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise checks.InputError(f"{path.name} is not a csv table ({reason}); save it as UTF-8 csv") from None


def read_parquet(path: Path) -> Any:
    """Data frame of a parquet file."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError:
        raise checks.InputError("parquet needs pyarrow: pip install 'bayeslin[parquet]', or use csv") from None
    except (ValueError, OSError) as error:
        raise checks.InputError(f"{path.name} is not a parquet table ({str(error).splitlines()[0]})") from None


def write_frame(table: Any, path: Path) -> None:
    """A data frame as parquet or, by any other suffix, as csv."""
    if path.suffix != ".parquet":
        table.to_csv(path, index=False, float_format="%.10g")
        return
    try:
        table.to_parquet(path, index=False)
    except ImportError:
        raise checks.InputError("parquet needs pyarrow: pip install 'bayeslin[parquet]', or use csv") from None


def known(wanted: Iterable[str], columns: Any, name: str) -> list[str]:
    """The wanted columns, each there and named once."""
    wanted = [wanted] if isinstance(wanted, str) else [str(column) for column in wanted]
    for column in wanted:
        if column not in columns:
            close = difflib.get_close_matches(str(column), [str(column) for column in columns], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(str, columns))}"
            raise checks.InputError(f"{name} has no column {column!r}; {hint}")
        if wanted.count(column) > 1:
            raise checks.InputError(f"column {column!r} is named twice; name it once")
    if not wanted:
        raise checks.InputError(f"no column named; {name} has {', '.join(map(str, columns))}")
    return wanted


def plain_columns(table: Any, name: str) -> Any:
    """The data frame with its column names as text without space around; raises `InputError` for one there twice."""
    table = table.set_axis([str(column).strip() for column in table.columns], axis=1)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise checks.InputError(f"{name} names the column {twice[0]!r} twice; rename one of them")
    return table


def records(table: Any) -> list[dict[str, Any]]:
    """The rows of a data frame for JSON, every digit kept, None for what is missing."""
    rows = table.to_dict("records")
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]


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


def levels(values: Any) -> tuple[str, ...]:
    """Sorted levels of a text column, none for a column of numbers or truth values.

    Raises `InputError` for dates, for numbers with a decimal comma, and for text that names single rows.
    """
    import pandas as pd

    if pd.api.types.is_complex_dtype(values) or values.dtype.kind in "mM":
        raise checks.InputError(f"column {values.name!r} holds {values.dtype}; turn it into numbers, or leave it out")
    if pd.api.types.is_numeric_dtype(values) or pd.to_numeric(values, errors="coerce").notna().all():
        return ()
    text = values.astype(str)
    found = tuple(sorted(set(text)))
    if text.str.fullmatch(r"\s*[-+]?\d+,\d+\s*").all():
        raise checks.InputError(f"column {values.name!r} has decimal commas, such as {text.iloc[0]!r}; use points")
    if len(found) > MOST_LEVELS or len(found) > max(10, len(text) / 2):
        raise checks.InputError(
            f"text column {values.name!r} has {len(found)} levels in {len(text)} rows, and names rows rather than "
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
