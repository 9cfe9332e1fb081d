"""Tables larger than memory, read in parts and kept as a factor: parquet by the rules of `Dataset.from_frame`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from bayeslin import checks, chunks
from bayeslin.columns import (
    MOST_LEVELS,
    Column,
    are_numbers,
    complete_rows,
    encode,
    levels,
    note_dropped,
    roles,
    settle,
)
from bayeslin.data import Dataset, default_targets, existing
from bayeslin.factor import Factor
from bayeslin.tables import open_parquet, plain_columns

LARGE = 10_000_000  # cells of a parquet file, rows times columns, from which `bayeslin fit` does not keep the rows
CELLS = 1 << 20  # of a batch: 8 MB


def is_large(path: Any) -> bool:
    """Whether a parquet file has more than `LARGE` cells; raises `InputError` where there is no such file."""
    path = existing(path)
    if path.suffix.lower() != ".parquet":
        return False
    size = open_parquet(path).metadata
    return size.num_rows * size.num_columns > LARGE


def scan_table(path: Any, targets: Any = None, features: Any = None, *, progress: bool = False) -> Dataset:
    """A parquet file as a `Dataset` without rows: what `read_table` makes of it, in memory that does not grow with it.

    All that a fit needs of the rows is in `Dataset.factor`; `standardize`, `fit`, predictions and files work as with
    rows, leave-one-out and label permutations do not. targets, features and errors as for `read_table`; the file is
    read once, twice where it has text columns, whose levels come first. progress : a bar that counts rows.

    >>> import tempfile, pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame({"a": [0.0, 1.0, 2.0], "y": [1.0, 2.0, 4.0]}).to_parquet(f"{folder}/t.parquet")
    ...     data = scan_table(f"{folder}/t.parquet", targets=["y"])
    >>> data, data.X.shape, data.standardize().y_mean.round(3)
    (Dataset('t': 3 rows, 1 features, outputs y), (0, 1), array([2.333]))
    """
    import pandas as pd
    import pyarrow as pa

    path = existing(path)
    if path.suffix.lower() != ".parquet":
        raise checks.InputError(
            f"{path.name} is not parquet, which alone is read in batches; use read_table, or save it"
        )
    file, name = open_parquet(path), path.stem
    schema = file.schema_arrow
    empty = plain_columns(schema.empty_table().to_pandas(), path.name)  # without the index that pandas may have kept
    targets, features = roles(empty.columns, default_targets(path, targets, empty.columns), features, name)
    stored = {str(column).strip(): column for column in schema.names}
    used = {column: stored[column] for column in (*features, *targets)}
    for column, kept_as in used.items():
        if pa.types.is_nested(schema.field(kept_as).type):
            raise checks.InputError(
                f"column {column!r} holds {schema.field(kept_as).type}; leave it out: name features"
            )

    text = [column for column in features if not pd.api.types.is_numeric_dtype(empty[column])]
    found = _levels(_batches(file, used, len(used), "levels", progress), text) if text else {}
    columns = [Column(column, found.get(column, ())) for column in features]
    p = sum(len(column.features) for column in columns)
    rows, missing, factor = 0, empty[list(used)].isna().sum(), Factor.of(np.empty((0, p + len(targets))))
    for batch in _batches(file, used, p + len(targets), "rows", progress):
        complete, holes = complete_rows(batch)
        rows, missing = rows + len(batch), missing + holes
        factor = factor.merge(Factor.of(*encode(complete, columns, targets)))
    pa.default_memory_pool().release_unused()  # some 100 MB, for the compilation of a fit

    dropped = note_dropped(rows, factor.n, missing, name)
    kept_columns, kept, notes = settle(columns, targets, factor.constant, name)
    varies = ~factor.constant
    factor = factor if varies.all() else factor.columns(varies)
    X, Y = _no_rows(kept, targets)
    return Dataset(X, Y, kept, tuple(targets), kept_columns, name, (*dropped, *notes), factor=factor)


def scan_chunks(parts: Iterable[Any]) -> Dataset:
    """Rows that come in chunks as a `Dataset` without rows, so that a fit of it answers in the units they came in.

    parts : pairs (X, Y) of numbers as for `Spectrum.from_chunks`, one in memory at a time; names are data frames'.
    Raises `InputError` that names the chunk, from 0.

    >>> X = np.array([[5.0], [6.0], [7.0], [9.0]])
    >>> data = scan_chunks((X[k : k + 2], 10.0 * X[k : k + 2]) for k in (0, 2))
    >>> data, data.standardize().x_mean
    (Dataset('chunks': 4 rows, 1 features, outputs 0), array([6.75]))
    """
    factor, features, outputs = chunks.of_chunks(parts)
    return Dataset(*_no_rows(features, outputs), features, outputs, name="chunks", factor=factor)


def scan_dask(X: Any, Y: Any) -> Dataset:
    """Dask arrays or data frames X (n, p) and Y (n, D) of numbers as a `Dataset` without rows, computed here.

    As `Spectrum.from_dask`, and the means and scales are kept: a fit of `scan_dask(X, Y).standardize()` answers in
    the columns' own units. Errors as there.

    >>> import dask.array as da
    >>> X = da.from_array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], chunks=(2, 1))
    >>> scan_dask(X, X.sum(axis=1)).standardize().y_mean
    array([1.66666667])
    """
    factor, features, outputs = chunks.of_dask(X, Y)
    return Dataset(*_no_rows(features, outputs), features, outputs, name="dask", factor=factor)


def _no_rows(features: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """X and Y where none are kept."""
    return np.empty((0, len(features))), np.empty((0, len(outputs)))


def _batches(file: Any, used: dict[str, str], width: int, label: str, progress: bool) -> Iterator[Any]:
    """Data frames of the used columns, in this order, rows counted from 0; width : columns that they will become."""
    size, start = max(1, CELLS // width), 0
    with tqdm(total=file.metadata.num_rows, desc=label, unit="row", unit_scale=True, disable=not progress) as bar:
        batches = file.iter_batches(size, columns=list(used.values()))
        while True:
            try:
                frame = next(batches).to_pandas()
            except StopIteration:
                return
            except (ValueError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise checks.InputError(f"the parquet file cannot be read after row {start} ({reason})") from None
            frame = frame[list(used.values())].set_axis(list(used), axis=1)
            yield frame.set_axis(range(start, start + len(frame)), axis=0)
            start += len(frame)
            bar.update(len(frame))


def _levels(batches: Iterator[Any], text: list[str]) -> dict[str, tuple[str, ...]]:
    """Levels of text columns over the complete rows; all that is kept of a column is some distinct values."""
    import pandas as pd

    rows, distinct = 0, dict[str, Any]()
    for batch in batches:
        complete, _ = complete_rows(batch)
        rows += len(complete)
        for column in text if len(complete) else ():
            new = complete[column].drop_duplicates()
            values = pd.concat([distinct[column], new]).drop_duplicates() if column in distinct else new
            if len(values) > MOST_LEVELS and not are_numbers(values):
                levels(values, rows)  # refuses it, whatever follows
            distinct[column] = values[: MOST_LEVELS + 1]  # of more numbers, as many as refuse a later word
    return {column: levels(values, rows) for column, values in distinct.items()}
