"""Cold starts: imports, compilations, whole processes of ours and of peers, the command line's first and second run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cases import FINITE, LIMIT, rows
from common import HERE, Results, Row, markdown, parser, read

import bayeslin as bl

LAWS = {"limit": LIMIT, "finite": FINITE, "NNGP": bl.NNGP()}
PROCESSES = ("ours", "PyMC and nutpie, collapsed, linnerud", "BlackJAX, our log density, linnerud")
QUIET = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


def python(arguments: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Seconds and output of a Python process with more environment; raises where it fails."""
    began = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], env=os.environ | environment, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    if process.returncode not in (0, 3):  # 3: the command line's word for draws that are not converged
        raise RuntimeError(process.stderr[-2000:])
    return took, process.stdout


def imports(repeats: int) -> Row:
    """Seconds of `import numpyro` and of `import bayeslin`, whole processes in turn."""
    commands = [f"import {name}" for name in ("numpyro", "numpyro, bayeslin")]
    took = np.array([[python(["-c", command], {})[0] for command in commands] for _ in range(repeats)])
    return {"numpyro_s": float(np.median(took[:, 0])), "more_s": float(np.median(took[:, 1] - took[:, 0])), "goal": 0.3}


def process(name: str, draws: int, repeats: int) -> Row:
    """From the start of a process to draws in hand, with no compiled program on disk and with those of a former run."""
    arguments = [str(HERE / "peers.py"), "--child", name, "--draws", str(draws)]
    empty, cached = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            empty.append(child(arguments, QUIET | {"PYTENSOR_FLAGS": f"base_compiledir={folder}"}))
    with tempfile.TemporaryDirectory() as folder:
        kept = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "PYTENSOR_FLAGS": f"base_compiledir={folder}",
        }
        child(arguments, kept)
        cached = [child(arguments, kept) for _ in range(repeats)]
    medians = {"seconds": empty, "cached_s": cached}
    row = {title: float(np.median([took for took, _ in runs])) for title, runs in medians.items()}
    rates = {"rate": empty, "cached_rate": cached}
    return row | {title: float(np.median([ess / took for took, ess in runs])) for title, runs in rates.items()}


def child(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds from the start of the process to its draws, and their smallest ESS."""
    began = time.time()
    told = json.loads(python(arguments, environment)[1].splitlines()[-1])
    return told["ended"] - began, told["ess"]


def command_line(draws: int, repeats: int) -> Row:
    """First and second `bayeslin compare linnerud` of users without any cache: medians, also of a user's ratio."""
    pairs = np.array([user(draws) for _ in range(repeats)])
    first, second = np.median(pairs, axis=0)
    return {"first_s": first, "second_s": second, "ratio": float(np.median(pairs[:, 1] / pairs[:, 0])), "goal": 0.5}


def user(draws: int) -> list[float]:
    """Seconds of the first and of the second run of one user; the second finds the programs of the first."""
    with tempfile.TemporaryDirectory() as home:
        places = {"HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "LOCALAPPDATA": home}
        arguments = ["-m", "bayeslin", "compare", "linnerud", "--control", "0", "--quiet", "--json"]
        arguments += ["--draws", str(draws), "--warmup", str(draws)]
        return [python(arguments, places)[0] for _ in range(2)]


def compilations(what: str) -> Row:
    """Programs that XLA compiles in a fresh process; see `count`."""
    return json.loads(python([str(Path(__file__)), "--child", what], QUIET)[1].splitlines()[-1])


def count(what: str) -> Row:
    """Compilations of a first fit and of a second one with other data, key and alpha; or of a `compare`."""
    data, other = (rows(20, 3, 3, seed=seed) for seed in (0, 1))
    short: dict[str, Any] = {"draws": 50, "warmup": 50, "progress": False}
    if what == "compare":
        first = compiled(partial(bl.compare, data.X, data.Y, laws=LAWS, control=4, **short))
        second = compiled(partial(bl.compare, other.X, other.Y, laws=LAWS, control=4, seed=1, **short))
    else:
        law = bl.Proportional(0.4) if what == "limit" else LAWS[what]
        first = compiled(partial(bl.fit, LAWS[what], data, **short))
        second = compiled(partial(bl.fit, law, other, seed=1, **short))
    samplers = sum(name in ("jit(start)", "jit(advance)") for name in first)
    needed = 2 * (len(LAWS) if what == "compare" else 1)
    return {"samplers": samplers, "needed": needed, "others": len(first) - samplers, "second": len(second)}


def compiled(work: Callable[[], Any]) -> list[str]:
    """Names of the programs that were compiled meanwhile, in whatever thread."""
    found: list[str] = []

    def listen(event: str, _: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        work()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return found


def report(path: Path) -> Iterator[str]:
    """The part of the page."""
    yield "## Cold\n"
    yield "`python benchmarks/cold.py`. Medians of whole processes, imports included.\n"
    for row in read(path, "imports"):
        yield f"`import bayeslin` takes {row['more_s']:.2f} s more than `import numpyro` ({row['numpyro_s']:.2f} s);"
        yield f"the goal is at most {row['goal']} s.\n"
    yield from markdown(
        ["programs compiled", "samplers", "distinct, two a law", "others", "second time, other data, key and alpha"],
        [
            [row[name] for name in ("case", "samplers", "needed", "others", "second")]
            for row in read(path, "compilations")
        ],
    )
    yield "\nThe command line, `bayeslin compare linnerud --control 0`, medians over users without a cache"
    yield "at first, seconds:\n"
    names = ["first_s", "second_s", "ratio", "goal"]
    lines = [[row[name] for name in names] for row in read(path, "command line")]
    yield from markdown(["first run", "second run", "ratio", "goal, below"], lines)
    yield "\nFrom the start of a process to the draws of linnerud (smallest bulk ESS over entries of Q and the noise,"
    yield "per second), with no compiled program on disk, and with those of a former run:\n"
    processes = read(path, "process")
    ours = next((row for row in processes if row["case"] == "ours"), None)
    names = ["case", "seconds", "rate", "cached_s", "cached_rate"]
    lines = []
    for row in processes:
        ratios = [ours[name] / row[name] if ours and row is not ours else None for name in ("rate", "cached_rate")]
        lines.append([*(row[name] for name in names), *ratios])
    columns = ["program", "seconds", "ESS/s", "with cache, seconds", "ESS/s", "ours over it", "with cache"]
    yield from markdown(columns, lines)
    yield "\nThe two models in NumPyro are left out: their sampling alone takes minutes, see their warm rates below."


def main() -> None:
    """Measure everything, each in processes of its own."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=3, help="processes of each kind")
    options.add_argument("--child", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.child:
        print(json.dumps(count(options.child)))
        return
    results = Results(options)
    results.take("imports", partial(imports, 2 * options.repeats + 1), case="bayeslin over numpyro")
    for what in (*LAWS, "compare"):
        results.take("compilations", partial(compilations, what), case=what)
    results.take("command line", partial(command_line, options.draws, options.repeats), case="compare linnerud")
    for name in PROCESSES:
        results.take("process", partial(process, name, options.draws, options.repeats), case=name)
    print("\n".join(report(options.rows)))


if __name__ == "__main__":
    main()
