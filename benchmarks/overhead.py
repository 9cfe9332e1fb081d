"""Overhead of the sampler: its time per leapfrog of all chains beside bare gradients of the same potential."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from cases import CASES, Case
from common import Results, Row, gradient_loop, leapfrog_seconds, markdown, parser, per_call, read

from bayeslin.inference import guide_for, scale_model
from bayeslin.noise import Noise
from bayeslin.sampler import sample

TABLE, ONE_CORE, CHAINS, GOAL = "overhead", "overhead on one core", 4, 2.5
CHOSEN = (
    *("limit, n 20, p 3, D 3", "limit, n 2e4, p 500, D 3", "limit, n 2e4, p 200, D 8", "limit, n 1e6, p 100, D 16"),
    *("finite, linnerud", "finite, penguins", "NNGP, full noise, n = p = 30, D 6"),
)


def measure(case: Case, draws: int, repeats: int) -> Row:
    """Medians over `repeats` rounds, in each of which the sampler and both loops are timed one after the other.

    The sampler goes on from its own warmed-up state with a program that is compiled already. A leapfrog of all chains
    is the number of leapfrogs of a chain, mean over chains.
    """
    spec, noise = case.data(0), Noise(case.noise)
    args = spec.padded(), guide_for(spec, noise), case.law, noise
    together, serial = (gradient_loop(scale_model, args, CHAINS, serial=alone) for alone in (False, True))
    settings = {"key": jax.random.key(0), "warmup": draws, "chains": CHAINS, "guided": True, "progress": False}
    run = partial(sample, scale_model, args, **settings)
    state = run(draws=10).state
    rounds = []
    for _ in range(repeats):
        leapfrog, state = leapfrog_seconds(run, state, draws)
        rounds.append([leapfrog, per_call(together), per_call(serial)])
    sampling, bare, one_by_one = np.array(rounds).T
    return {
        "leapfrog_us": float(1e6 * np.median(sampling)),
        "together_us": float(1e6 * np.median(bare)),
        "serial_us": float(1e6 * np.median(one_by_one)),
        "ratio": float(np.median(sampling / bare)),
        "ratio_serial": float(np.median(sampling / one_by_one)),
    }


def report(path: Path) -> Iterator[str]:
    """The part of the page."""
    yield "## Overhead of the sampler\n"
    yield f"`python benchmarks/overhead.py`. Sampling time per leapfrog of all {CHAINS} chains, over value and gradient"
    yield "of the same potential for all chains in a compiled loop: vmapped, or one chain after another. Medians of"
    yield f"rounds that time all three in turn; the goal is a ratio of at most {GOAL}. The sampler has a thread"
    yield "for each core, the loops are one program; in the last two columns the process is bound to one core.\n"
    columns = ["case", "leapfrog, µs", "gradients vmapped, µs", "ratio", "gradients one by one, µs", "ratio"]
    names = ["case", "leapfrog_us", "together_us", "ratio", "serial_us", "ratio_serial"]
    alone = {row["case"]: row for row in read(path, ONE_CORE)}
    lines = [
        [*(row[name] for name in names), *(alone.get(row["case"], {}).get(name) for name in ("ratio", "ratio_serial"))]
        for row in read(path, TABLE)
    ]
    yield from markdown([*columns, "one core, vmapped", "one core, one by one"], lines)


def main() -> None:
    """Measure the chosen cases, then, where the system can bind a process, once more on one core."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=5, help="rounds")
    options.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    options = options.parse_args()
    results, table = Results(options), ONE_CORE if options.one_core else TABLE
    for name in CHOSEN:
        results.take(table, partial(measure, CASES[name], min(options.draws, 300), options.repeats), case=name)
    if not options.one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # the child inherits it before JAX starts its threads
        subprocess.run([sys.executable, *sys.argv, "--one-core"], check=True)
    elif not options.one_core:
        print("no binding to a core on this system")
    print("\n".join(report(options.rows)))


if __name__ == "__main__":
    main()
