"""Sampling efficiency: smallest bulk ESS per 1000 gradients, divergences, R-hat and leapfrogs, over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from cases import CASES, Case
from common import Results, Row, entries, largest_rhat, markdown, parser, read, smallest_ess

import bayeslin as bl
from bayeslin import program

TABLE = "efficiency"


def measure(case: Case, seed: int, draws: int) -> Row:
    """One fit of the data of a seed, by a sampler of the same seed."""
    options = {"noise": case.noise, "seed": seed, "draws": draws, "warmup": draws, "progress": False}
    post = bl.fit(case.law, case.data(seed), **options)
    columns = entries(post.scale, post.noise_cov)
    steps = post.stats["n_steps"]
    return {
        "ess": smallest_ess(columns),
        "gradients": int(steps.sum()),
        "divergences": int(post.stats["diverging"].sum()),
        "rhat": largest_rhat(columns),
        "leapfrogs": float(np.median(steps)),
    }


def table(rows: list[Row]) -> Iterator[str]:
    """A line for each case: the median over seeds and the worst."""
    lines = []
    for name, case in CASES.items():
        part = [row for row in rows if row["case"] == name]
        if part:
            rate = np.array([1000 * row["ess"] / row["gradients"] for row in part])
            divergences = sum(row["divergences"] for row in part)
            rhat = np.array([row["rhat"] for row in part])
            leapfrogs = float(np.median([row["leapfrogs"] for row in part])), case.leapfrogs
            cells = [len(part), float(np.median(rate)), float(rate.min()), case.goal, divergences]
            lines.append([name, *cells, f"{rhat.max():.4f}", f"{(rhat >= 1.01).sum()}", *leapfrogs])
    columns = ["case", "seeds", "ESS per 1000 gradients, median", "worst", "goal", "divergences"]
    columns += ["largest R-hat", "seeds at 1.01 or more", "median leapfrogs", "at most"]
    return markdown(columns, lines)


def report(path: Path) -> Iterator[str]:
    """The part of the page."""
    rows = read(path, TABLE)
    yield "## Sampling efficiency\n"
    yield "`python benchmarks/efficiency.py --seeds 10` (`--seeds 40` for more). Four chains, 1000 draws each after"
    yield "1000 of warm-up. ESS: smallest bulk ESS over the entries of Q, rho and the noise; gradients: those of the"
    yield "kept draws, all chains. Each seed draws new data and drives the sampler; shipped data, the sampler.\n"
    yield from table(rows)


def main() -> None:
    """Run every case for every seed, the seeds in the outer loop, so that a stopped run has all cases."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--acceptance", type=float, help="another target of the adaptation; give --rows as well")
    options = options.parse_args()
    program.ACCEPTANCE = options.acceptance or program.ACCEPTANCE
    results = Results(options)
    for seed in range(options.seeds):
        for name, case in CASES.items():
            if seed % case.every == 0:
                results.take(TABLE, partial(measure, case, seed, options.draws), case=name, seed=seed)
    print("\n".join(table(read(options.rows, TABLE))))


if __name__ == "__main__":
    main()
