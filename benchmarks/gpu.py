"""CPU beside GPU: `fit_many` of a thousand data sets, and 64 outputs. Run once with JAX_PLATFORMS=cpu, once without.

Each run measures the platform that JAX has and adds its rows to `benchmarks/gpu.jsonl`, of which `gpu.md` is the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from cases import LIMIT
from common import (
    HERE,
    Results,
    Row,
    correlations,
    gradient_loop,
    leapfrog_seconds,
    markdown,
    mean_error,
    parser,
    per_call,
    read_all,
    seconds,
)
from sizes import RANK, statistics

import bayeslin as bl
from bayeslin.inference import guide_for, scale_model
from bayeslin.many import sample_many
from bayeslin.noise import Noise
from bayeslin.sampler import sample

RAW = HERE / "gpu.jsonl"
CHAINS, SHOWN = 4, 20  # sets whose correlations are kept, to compare the platforms by


def many(sets: int, draws: int) -> Row:
    """Teachers of 20 rows, 3 features, 3 outputs: sampling alone, the first time and again, and `fit_many` whole."""
    data = [bl.data.teacher(20, 3, 3, seed=k, correlation=0.5).dataset.standardize() for k in range(sets)]
    specs = [bl.Spectrum.from_rows(each.X, each.Y) for each in data]
    keys = [jax.random.split(jax.random.key(k), CHAINS) for k in range(sets)]
    settings = {"draws": draws, "warmup": draws, "max_tree_depth": 3, "progress": False}

    def sampling() -> None:
        list(sample_many(LIMIT, Noise("isotropic"), specs, keys, **settings))

    first, again = seconds(sampling), seconds(sampling)
    posts: list[bl.Posterior] = []
    whole = seconds(lambda: posts.extend(bl.fit_many(LIMIT, data, chains=CHAINS, **settings)))
    above = np.triu_indices(3, 1)
    rho = [correlations(post.scale)[..., above[0], above[1]] for post in posts[:SHOWN]]
    columns = [each[..., pair] for each in rho for pair in range(3)]
    return {
        "first_s": first,
        "sampling_s": again,
        "whole_s": whole,
        "ess": float(np.median([post.diagnosis.ess_min for post in posts])),
        "divergences": sum(post.diagnosis.divergences for post in posts),
        "rho": [[round(float(column.mean()), 5), round(mean_error(column), 5)] for column in columns],
    }


def wide(D: int, chains: int, draws: int) -> Row:
    """A leapfrog of all chains, and for few chains value and gradient of the potential; the sampler's first run."""
    whole, noise = statistics(RANK, D), Noise("isotropic")
    args = whole.padded(), guide_for(whole, noise), LIMIT, noise
    settings = {"key": jax.random.key(0), "warmup": 2 * draws, "chains": chains, "guided": True, "progress": False}
    run = partial(sample, scale_model, args, **settings, max_tree_depth=4)
    made = []
    first = seconds(lambda: made.append(run(draws=2)))
    leapfrog = leapfrog_seconds(run, made[0].state, draws)[0]
    potential = per_call(gradient_loop(scale_model, args, chains)) if chains == CHAINS else None
    return {"first_s": first, "leapfrog_ms": 1e3 * leapfrog, "potential_ms": potential and 1e3 * potential}


def page(path: Path) -> Iterator[str]:
    """What is known, as markdown."""
    rows = read_all(path)
    told = {name: "; ".join(sorted({row[name] for row in rows})) for name in ("machine", "versions", "date")}
    devices = "; ".join(sorted({row["device"] for row in rows} - {"cpu"}))
    yield "# CPU beside GPU\n"
    yield "Written by `JAX_PLATFORMS=cpu python benchmarks/gpu.py; python benchmarks/gpu.py`, one machine, with"
    yield f"`bl.fuse_loops()` on the CPU, in float64, {told['date']}. Machine: {told['machine']}; {devices}."
    yield f"{told['versions']}.\n"
    yield "## Many data sets\n"
    yield f"`bl.fit_many`, teachers of 20 rows, 3 features, 3 outputs, the limit, {CHAINS} chains of 200 draws after"
    yield "200. Sampling: without ArviZ's judgement of every posterior, which the whole has and which a CPU makes."
    yield "ESS: the median over data sets of the smallest.\n"
    columns = ["sets", "platform", "first sampling, s", "sampling again, s", "whole, s", "ESS", "divergences", "fits/s"]
    found = sorted((row for row in rows if row["table"] == "fit_many"), key=lambda row: (row["size"], row["case"]))
    names = ["size", "case", "first_s", "sampling_s", "whole_s", "ess", "divergences"]
    yield from markdown(columns, [[*(row[name] for name in names), row["size"] / row["whole_s"]] for row in found])
    pairs = [(a["rho"], b["rho"]) for a in found for b in found if a["size"] == b["size"] and a["case"] < b["case"]]
    if pairs:
        mean, error = np.moveaxis(np.array(pairs), -1, 0)
        z = (mean[:, 0] - mean[:, 1]) / np.hypot(error[:, 0], error[:, 1])
        yield f"\nBetween the platforms, posterior means of {z.size} correlations rho differ by at most"
        yield f"{np.abs(z).max():.1f} Monte Carlo standard errors; keys, and so the first draws, are the same."
    yield "\n## Many outputs\n"
    yield f"The limit, r = {RANK}, isotropic noise; a potential is its value and gradient, vmapped over chains.\n"
    columns = ["D", "chains", "platform", "potential of all, ms", "leapfrog of all, ms", "first run, s"]
    found = sorted((row for row in rows if row["table"] == "outputs"), key=lambda row: (row["size"], row["seed"]))
    names = ["size", "seed", "case", "potential_ms", "leapfrog_ms", "first_s"]
    yield from markdown(columns, [[row[name] for name in names] for row in found])


def main() -> None:
    """Measure the platform at hand."""
    options = parser(__doc__)
    options.set_defaults(rows=RAW, draws=200)
    options.add_argument("--sets", type=int, default=1000)
    options.add_argument("--outputs", type=int, default=64)
    options.add_argument("--tables", action="store_true", help="run nothing, write the page of the rows there are")
    options = options.parse_args()
    results, device = Results(options), jax.devices()[0]
    key = {"case": device.platform, "device": device.device_kind}
    if not options.tables:
        results.take("fit_many", partial(many, options.sets, options.draws), size=options.sets, **key)
        for chains in (CHAINS, 16 * CHAINS):
            results.take("outputs", partial(wide, options.outputs, chains, 5), size=options.outputs, seed=chains, **key)
    options.rows.with_suffix(".md").write_text("\n".join(page(options.rows)) + "\n")


if __name__ == "__main__":
    main()
