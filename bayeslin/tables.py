"""Tables: files to data frames, and names of columns."""

from __future__ import annotations

import csv
import difflib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bayeslin import checks


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


def open_parquet(path: Path) -> Any:
    """A parquet file of pyarrow, to be read in batches through a small buffer, however large its row groups are."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise checks.InputError("parquet needs pyarrow: pip install 'bayeslin[parquet]', or use csv") from None
    try:
        return parquet.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)  # else it keeps all that it has read
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
