"""Rows by the ten million: time and memory of reading and of the command, NUTS for a thousand rows and a million.

    python benchmarks/rows.py                   # 2e7 rows x 50 features, 3 targets: 8.5 GB, removed afterwards
    python benchmarks/rows.py --rows 1000000    # smaller

Prints a markdown table for each: reading, the whole command `bayeslin fit` without and with compiled programs on disk,
and sampling.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import bayeslin as bl

GROUP = 100_000  # rows of a row group
NAMES = [f"x{k}" for k in range(50)] + ["a", "b", "c"]

PEAK = """
import json, re, sys, time
from pathlib import Path
import bayeslin as bl
def peak():  # MiB; Linux. Not ru_maxrss, which a process inherits from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before, began = peak(), time.perf_counter()
"""
READ = f"""{PEAK}
data = bl.scan_table(sys.argv[1], targets=["a", "b", "c"]).standardize()
spec = bl.Spectrum.from_factor(data.factor, 50)
seconds = time.perf_counter() - began
print(json.dumps({{"rows": data.n, "rank": spec.rank, "seconds": seconds, "import": before, "above": peak() - before}}))
"""
COMMAND = f"""{PEAK}
from bayeslin.cli import main
assert main() in (0, 3)
print(json.dumps({{"seconds": time.perf_counter() - began, "import": before, "above": peak() - before}}))
"""


def write(path: Path, rows: int) -> None:
    """Normal features of mean 1e6 for the first and 0 for the others, labels a linear map of them plus noise."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((50, 3)) / np.sqrt(50)
    schema = pa.schema([(name, pa.float64()) for name in NAMES])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for start in range(0, rows, GROUP):
            X = rng.standard_normal((min(GROUP, rows - start), 50))
            Y = X @ weights + rng.standard_normal((len(X), 3))
            X[:, 0] += 1e6
            file.write_table(pa.table(list(np.hstack([X, Y]).T.copy()), schema=schema))


def large_file(rows: int, folder: str | None, only: str | None) -> None:
    """Fresh processes that read the file, and that run the command on it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "big.parquet"
        began = time.perf_counter()
        write(path, rows)
        gb = path.stat().st_size / 1e9
        print(f"wrote {gb:.1f} GB in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if only != "command":
            reading(path, rows, gb)
        if only != "reading":
            command(path, rows)


def reading(path: Path, rows: int, gb: float) -> None:
    """`bl.scan_table`."""
    found = in_a_process(READ, [str(path)])
    assert (found["rows"], found["rank"]) == (rows, 50)
    print("| rows | file, GB | seconds | peak above the import, MiB | import, MiB |\n|---|---|---|---|---|")
    print(f"| {rows:.0e} | {gb:.1f} | {found['seconds']:.0f} | {found['above']:.0f} | {found['import']:.0f} |")


def command(path: Path, rows: int) -> None:
    """`bayeslin fit`, whole, of a user without a cache, and again."""
    arguments = ["fit", str(path), "--targets", "a,b,c", "--alpha", "0.5", "--quiet", "--json"]
    arguments += ["--out", str(path.with_name("model.nc"))]
    print("| rows | run | seconds | peak above the import, MiB | import, MiB |\n|---|---|---|---|---|")
    cache = {"XDG_CACHE_HOME": str(path.with_name("cache"))}
    for run in ("first", "second"):
        found = in_a_process(COMMAND, arguments, cache)
        print(f"| {rows:.0e} | {run} | {found['seconds']:.0f} | {found['above']:.0f} | {found['import']:.0f} |")


def in_a_process(code: str, arguments: list[str], environment: dict[str, str] | None = None) -> dict[str, float]:
    """What the last line of its output says."""
    everything = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(everything, check=True, stdout=subprocess.PIPE, env=os.environ | (environment or {}))
    return json.loads(done.stdout.splitlines()[-1])


def sampling(sizes: tuple[int, ...] = (1_000, 1_000_000), repeats: int = 3) -> None:
    """Warm fits of statistics, alternating between the sizes; a gradient is one step of a trajectory."""
    law = bl.Proportional(0.5)
    spectra = {}
    for n in sizes:
        data = bl.data.teacher(n, 50, 3, seed=0, correlation=0.5).dataset.standardize()
        spectra[n] = bl.Spectrum.from_chunks([(data.X, data.Y)])
    seconds: dict[int, list[float]] = {n: [] for n in sizes}
    more: dict[int, list[float]] = {n: [] for n in sizes}
    steps: dict[int, list[float]] = {n: [] for n in sizes}
    for repeat in range(repeats + 1):
        for n, spec in spectra.items():
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", bl.ConvergenceWarning)
                post = bl.fit(law, spec, seed=repeat, progress=False)
                fitted = time.perf_counter()
                bl.resume(post, 1000, progress=False)
            if repeat:  # the first one compiles
                seconds[n].append(fitted - began)
                more[n].append(time.perf_counter() - fitted)
                steps[n].append(float(post.stats["n_steps"].mean()))
    (small, large), median = sizes, np.median
    print("| n | seconds of a warm fit | of 1000 more draws | steps of a draw |\n|---|---|---|---|")
    for n in sizes:
        print(f"| {n:.0e} | {median(seconds[n]):.2f} | {median(more[n]):.2f} | {median(steps[n]):.1f} |")
    fits, draws = (median(taken[large]) / median(taken[small]) for taken in (seconds, more))
    print(f"\n{large:.0e} rows against {small:.0e}: a fit takes {fits:.2f} times as long, more draws {draws:.2f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--folder", help="where the file is written (default: the folder of temporary files)")
    parser.add_argument("--only", choices=("reading", "command", "sampling"))
    options = parser.parse_args()
    if options.only != "sampling":
        large_file(options.rows, options.folder, options.only)
    if options.only in (None, "sampling"):
        sampling()
