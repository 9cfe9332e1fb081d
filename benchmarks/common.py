"""What the speed benchmarks share: rows of results, the machine, effective sample sizes, timed gradients."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import init_to_uniform
from numpyro.infer.util import initialize_model

import bayeslin as bl
from bayeslin import program

HERE = Path(__file__).parent
RAW = HERE / "speed.jsonl"
LEAST = 0.2  # seconds of work that a clock is trusted with
PACKAGES = ("bayeslin", "jax", "numpyro", "arviz", "numpy", "pymc", "nutpie", "blackjax")
Row = dict[str, Any]

bl.fuse_loops()  # as a program that wants to be fast would; it holds for the peers in JAX too
warnings.filterwarnings("ignore", category=bl.ConvergenceWarning)  # the tables have R-hat and divergences instead


def parser(purpose: str | None) -> argparse.ArgumentParser:
    """The options of every script."""
    made = argparse.ArgumentParser(description=purpose)
    made.add_argument("--only", default="", metavar="TEXT", help="only cases with this text in their names")
    made.add_argument("--draws", type=int, default=1000, help="kept draws of each chain, and as many of warm-up")
    made.add_argument("--rows", type=Path, default=RAW, help="file of results, a JSON object a line")
    made.add_argument("--resume", action="store_true", help="keep rows that are there already")
    return made


class Results:
    """Rows of results in a file, written as they come; a later row of the same key stands for the earlier one."""

    def __init__(self, options: argparse.Namespace):
        self.path, self.only, self.resume = options.rows, options.only, options.resume

    def take(self, table: str, make: Callable[[], Row], **key: Any) -> Row | None:
        """The row `make` gives for this key, or the one that is there; None where `--only` leaves it out."""
        if self.only not in f"{table} {' '.join(map(str, key.values()))}":
            return None
        kept = [row for row in read(self.path, table) if all(row.get(name) == value for name, value in key.items())]
        if self.resume and kept:
            return kept[-1]
        print(f"{table}: {', '.join(f'{name} {value}' for name, value in key.items())} ...", end=" ", flush=True)
        began = time.perf_counter()
        values = make()
        row = {"table": table, **key, **values, "minutes": (time.perf_counter() - began) / 60}
        row |= {"date": datetime.date.today().isoformat(), "machine": machine(), "versions": versions()}
        row |= {"commit": commit(), "acceptance": program.ACCEPTANCE}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(", ".join(f"{name} {cell(value)}" for name, value in values.items()), flush=True)
        return row


def read_all(path: Path) -> list[Row]:
    """The rows of a file, the last of each table and key, in the order of their first appearance."""
    rows: dict[tuple, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        rows[tuple(row.get(name) for name in ("table", "case", "seed", "size"))] = row
    return list(rows.values())


def read(path: Path, table: str) -> list[Row]:
    """The rows of one table."""
    return [row for row in read_all(path) if row["table"] == table]


def cell(value: Any) -> str:
    """A value in a table: three digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def markdown(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Lines of a table."""
    columns = list(columns)
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |"


@cache
def machine() -> str:
    """Processor, cores and memory; nothing that names the computer."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


@cache
def versions() -> str:
    """Python and the packages that are compared."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


@cache
def commit() -> str:
    """The commit that is measured, with a plus where files differ from it."""
    ask = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def correlations(scale: np.ndarray) -> np.ndarray:
    """Rho of each draw of Q (..., D, D)."""
    sd = np.sqrt(np.diagonal(scale, axis1=-2, axis2=-1))
    return scale / (sd[..., :, None] * sd[..., None, :])


def entries(scale: np.ndarray, noise_cov: np.ndarray, *, rho: bool = True) -> list[np.ndarray]:
    """Every entry of Q, rho and the noise that varies and is no copy of another, each (chains, draws)."""
    matrices = [scale, *([correlations(scale)] if rho else []), noise_cov]
    columns: dict[bytes, np.ndarray] = {}
    for matrix in matrices:
        for i, j in zip(*np.tril_indices(matrix.shape[-1]), strict=True):
            column = np.ascontiguousarray(matrix[..., i, j])
            if np.ptp(column) > 1e-9 * np.abs(column).max():  # rho_ii is 1 up to rounding
                columns.setdefault(column.tobytes(), column)
    return list(columns.values())


def smallest_ess(columns: list[np.ndarray]) -> float:
    """Smallest bulk effective sample size."""
    return min(float(_arviz().ess(column, method="bulk")) for column in columns)


def largest_rhat(columns: list[np.ndarray]) -> float:
    """Largest R-hat."""
    return max(float(_arviz().rhat(column)) for column in columns)


def disagreement(one: list[np.ndarray], two: list[np.ndarray]) -> float:
    """Largest difference of two means of the same entry, in units of its Monte Carlo standard error."""
    if len(one) != len(two):
        raise ValueError(f"{len(one)} entries vary in one posterior, {len(two)} in the other")
    return max(
        abs(float(a.mean() - b.mean())) / math.hypot(mean_error(a), mean_error(b))
        for a, b in zip(one, two, strict=True)
    )


def mean_error(column: np.ndarray) -> float:
    """Monte Carlo standard error of the mean; where numba is installed ArviZ gives an array of one number."""
    return np.asarray(_arviz().mcse(column)).item()


@cache
def _arviz() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def per_call(loop: Callable[[int], Any], least: float = LEAST, most: int = 200_000) -> float:
    """Seconds for each pass of a compiled loop, median of three times as many passes as take `least` seconds."""
    count = 1
    while (took := seconds(partial(loop, count))) < least and count < most:
        count = min(most, math.ceil(count * min(100.0, 1.5 * least / max(took, 1e-6))))
    return float(np.median([took, *(seconds(partial(loop, count)) for _ in range(2))])) / count


def leapfrog_seconds(run: Callable[..., Any], state: Any, draws: int) -> tuple[float, Any]:
    """Seconds per leapfrog, a chain's mean, of draws that follow a state, less what a call costs once; the new state.

    run : `bayeslin.sampler.sample` with all but draws and state. The time of a single draw is taken off; where the
    others take less than `LEAST` seconds, four times as many are timed.
    """
    made = []
    took = [seconds(lambda count=count: made.append(run(draws=count, state=state))) for count in (1, draws)]
    steps = [float(part.stats["n_steps"].mean(0).sum()) for part in made]
    if took[1] - took[0] < LEAST:
        return leapfrog_seconds(run, made[1].state, 4 * draws)
    return (took[1] - took[0]) / (steps[1] - steps[0]), made[1].state


def gradient_loop(model: Callable, args: tuple, chains: int, *, serial: bool = False) -> Callable[[int], None]:
    """Compiled loop (count) over value and gradient of a model's potential, all chains at once or one by one."""
    with jax.enable_x64(True):
        args = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), args)
        infos = [
            initialize_model(key, model, init_strategy=init_to_uniform, dynamic_args=True, model_args=args)
            for key in jax.random.split(jax.random.key(0), chains)
        ]
        start = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(info.param_info.z for info in infos))

    @jax.jit
    def loop(start, args, count, length):
        value_and_grad = jax.value_and_grad(infos[0].potential_fn(*args))

        def chain(z):
            def step(_, carry):
                z, total = carry
                value, slope = value_and_grad(z)
                return jax.tree.map(lambda at, by: at - length * by, z, slope), total + value

            return jax.lax.fori_loop(0, count, step, (z, 0.0))

        return jax.lax.map(chain, start) if serial else jax.vmap(chain)(start)

    def run(count: int) -> None:
        with jax.enable_x64(True):  # steps of length zero, which the compiler does not know
            jax.block_until_ready(loop(start, args, np.int64(count), np.float64(0.0)))

    run(1)
    return run
