"""Dask's arrays and data frames give the statistics of all their rows, also where a worker dies."""

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_rows import EPS, assert_same, rows

import bayeslin as bl

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture
def data(rng):
    return rows(rng, 101, 4, 2)


CHUNKS = {
    "one block": ((101, 4), (101, 2)),
    "by rows": ((17, 4), (17, 2)),
    "labels cut otherwise": ((17, 4), (30, 2)),
    "columns cut too": ((25, 2), (50, 1)),
    "single rows": ((1, 4), (1, 2)),
    "nine blocks, one more than are merged at once": ((12, 4), (12, 2)),
}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("chunks", CHUNKS)
def test_arrays(chunks, center, data):
    X, Y = (da.from_array(part, chunks=sizes) for part, sizes in zip(data, CHUNKS[chunks], strict=True))
    if center:
        data = [part - part.mean(0) for part in data]
    assert_same(bl.Spectrum.from_dask(X, Y, center=center), bl.Spectrum.from_rows(*data), *data)


def test_arrays_whose_lengths_are_unknown_and_blocks_without_rows(data):
    X, Y = (da.from_array(part, chunks=(20, part.shape[1])) for part in data)
    kept = np.arange(101) % 3 > 0
    kept[20:40] = False
    mask = da.from_array(kept, chunks=20)
    data = [part[kept] for part in data]
    assert_same(bl.Spectrum.from_dask(X[mask], Y[mask]), bl.Spectrum.from_rows(*data), *data)
    assert_same(bl.Spectrum.from_dask(X[mask], Y[mask][:, 0]), bl.Spectrum.from_rows(data[0], data[1][:, 0]), *data)


def test_data_frames_and_series(data, rng):
    frame = pd.DataFrame(np.hstack(data), columns=list("abcdyz"))
    table = dd.from_pandas(frame, npartitions=7)
    X, Y = frame[list("abcd")], frame[["y", "z"]]
    assert_same(bl.Spectrum.from_dask(table[list("abcd")], table[["y", "z"]]), bl.Spectrum.from_rows(X, Y), X, Y)
    assert_same(bl.Spectrum.from_dask(table[list("abcd")], table.z), bl.Spectrum.from_rows(X, Y.z), X, Y)
    late = table[table.a > 0]  # partitions of unknown lengths
    X, Y = X[frame.a > 0], Y[frame.a > 0]
    assert_same(bl.Spectrum.from_dask(late[list("abcd")], late[["y", "z"]].values), bl.Spectrum.from_rows(X, Y), X, Y)


def test_parquet_by_dask(data, tmp_path):
    frame = pd.DataFrame(np.hstack(data), columns=list("abcdyz"))
    frame.to_parquet(tmp_path / "table.parquet", row_group_size=20)
    table = dd.read_parquet(tmp_path / "table.parquet", split_row_groups=True)
    assert table.npartitions == 6
    assert_same(bl.Spectrum.from_dask(table[list("abcd")], table[["y", "z"]]), bl.Spectrum.from_rows(*data), *data)


def test_blocks_that_both_are_cut_from_are_computed_once(data):
    made = []

    def block(k):
        made.append(k)
        return np.hstack(data)[10 * k : 10 * k + 10]

    blocks = [da.from_delayed(dask.delayed(block)(k), (10, 6), float) for k in range(10)]
    both = da.concatenate(blocks)
    with dask.config.set(scheduler="synchronous"):
        spec = bl.Spectrum.from_dask(both[:, :4], both[:, 4:])
    assert sorted(made) == list(range(10))
    assert spec.n == 100


def test_blocks_as_a_data_set_keep_means_scales_and_names(data):
    X, Y = data[0] + 5, data[1] * 3 + 100
    whole = bl.scan_chunks([(X, Y)]).standardize()
    frames = [dd.from_pandas(pd.DataFrame(W).add_prefix(name), npartitions=3) for name, W in (("x", X), ("y", Y))]
    for given, names in ((frames, ("y0", "y1")), ([da.from_array(W, chunks=(30, 2)) for W in (X, Y)], ("0", "1"))):
        found = bl.scan_dask(*given).standardize()
        assert (found.n, found.output_names) == (len(X), names)
        for name in ("x_mean", "x_scale", "y_mean", "y_scale"):
            np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-13)


X, Y = np.arange(12.0).reshape(4, 3) ** 2, np.arange(8.0).reshape(4, 2) ** 3
HOLED = np.where(X == 36, np.nan, X)
BAD = {
    "plain arrays": (lambda: (X, Y), "X must be a dask array or data frame of rows, got ndarray"),
    "tasks": (lambda: (dask.delayed(X), da.from_array(Y)), "X must be a dask array or data frame of rows, got Delayed"),
    "unknown width": (lambda: (da.from_array(X)[:, da.from_array([True] * 3)], da.from_array(Y)), "of known width"),
    "labels missing": (lambda: (da.from_array(X), None), "Y must be a dask array"),
    "three axes": (lambda: (da.from_array(X[None]), da.from_array(Y)), "X must be a dask array"),
    "other lengths": (lambda: (da.from_array(X), da.from_array(Y[:3])), r"X \(4, 3\), Y \(3, 2\)"),
    "other blocks": (
        lambda: (dd.from_pandas(pd.DataFrame(X), npartitions=2), da.from_array(Y)),
        "X has 2 blocks of unknown length, Y has 1; cut both from one",
    ),
    "other lengths in a block": (
        lambda: (dd.from_pandas(pd.DataFrame(X), npartitions=2), da.from_array(Y, chunks=(3, 2))),
        r"X of block (0 \(2, 3\), Y \(3|1 \(2, 3\), Y \(1), 2\)",  # whichever thread comes first
    ),
    "hole": (lambda: (da.from_array(HOLED, chunks=(1, 3)), da.from_array(Y)), "X of block 2 holds nan in row 0"),
    "constant label": (lambda: (da.from_array(X), da.from_array(Y * [1, 0])), "column 1 of Y is constant"),
    "text": (
        lambda: (dd.from_pandas(pd.DataFrame({"a": list("xyxy")}), npartitions=1), da.from_array(Y)),
        "X of block 0 must hold numbers only",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_by_block(name):
    make, message = BAD[name]
    with pytest.raises(bl.InputError, match=message):
        bl.Spectrum.from_dask(*make())


def made_at(folder, killer, k, data):
    """Rows of block k; leaves a mark of each attempt, and the killer's first attempt takes its worker with it."""
    marks = len(list(Path(folder).glob(f"{k}-*")))
    (Path(folder) / f"{k}-{marks}-{os.getpid()}").touch()
    if k == killer and not marks:
        os.kill(os.getpid(), signal.SIGKILL)
    return data[40 * k : 40 * k + 40]


@pytest.mark.slow
@pytest.mark.parametrize("killer", [None, 13])
def test_a_worker_that_dies_loses_no_row(killer, rng, tmp_path):
    """Block 13 of 20 kills its worker, and with it the finished factors that it held."""
    from distributed import Client, LocalCluster

    X, Y = rows(rng, 800, 4, 2)
    both = np.hstack([X, Y])
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster):
        blocks = [
            da.from_delayed(dask.delayed(made_at, pure=True)(str(tmp_path), killer, k, both), (40, 6), float)
            for k in range(20)
        ]
        table = da.concatenate(blocks)
        spec = bl.Spectrum.from_dask(table[:, :4], table[:, 4:])
    attempts = [len(list(tmp_path.glob(f"{k}-*"))) for k in range(20)]
    workers = {path.name.split("-")[2] for path in tmp_path.iterdir()}
    assert min(attempts) >= 1
    assert os.getpid() not in map(int, workers)
    if killer is None:
        assert (max(attempts), len(workers)) == (1, 2)
    else:
        assert attempts[killer] == 2
        assert len(workers) >= 2
        assert sum(attempts) > 21, "what the dead worker had finished was made again"
    assert_same(spec, bl.Spectrum.from_rows(X, Y), X, Y, atol=1000 * EPS)
