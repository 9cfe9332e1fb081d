"""Cost by size: a gradient and a leapfrog by outputs D and rank r, the one-off Spectrum by features p."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import LIMIT, NOISE_SD
from common import Results, Row, gradient_loop, leapfrog_seconds, markdown, parser, per_call, read, seconds

import bayeslin as bl
from bayeslin.inference import guide_for, scale_model
from bayeslin.likelihood import log_marginal
from bayeslin.noise import Noise
from bayeslin.sampler import sample

OUTPUTS, RANK = (1, 2, 4, 8, 16, 32, 64), 64
RANKS, FEW = (64, 128, 256, 512, 1024, 2048, 4096), 4
FEATURES, RATIOS = (625, 1250, 2500, 5000), (0.25, 1, 4)
LONGEST = 240.0  # seconds that a Spectrum may take; a longer one, by the cube of p, is left out


def gradient(D: int, r: int, draws: int) -> Row:
    """One chain: value and gradient of the likelihood alone, of the whole potential, and a leapfrog of the sampler.

    A leapfrog is timed over draws that follow a short warm-up, after the program is compiled; the median of three.
    Trees have at most 15 of them, since those of a short warm-up are deep and would take long with many outputs.
    """
    whole, noise = statistics(r, D), Noise("isotropic")
    spec = whole.padded()
    args = spec, guide_for(whole, noise), LIMIT, noise
    settings = {"key": jax.random.key(0), "warmup": 4 * draws, "chains": 1, "guided": True, "progress": False}
    settings["max_tree_depth"] = 4
    run = partial(sample, scale_model, args, **settings)
    state, leapfrogs = run(draws=2).state, []
    for _ in range(3):
        leapfrog, state = leapfrog_seconds(run, state, draws)
        leapfrogs.append(leapfrog)
    return {
        "likelihood_us": 1e6 * per_call(likelihood_loop(spec)),
        "potential_us": 1e6 * per_call(gradient_loop(scale_model, args, 1)),
        "leapfrog_us": 1e6 * float(np.median(leapfrogs)),
    }


def statistics(r: int, D: int) -> bl.Spectrum:
    """Any statistics of this size, for n = 4 r rows of labels of sd about one, without a decomposition."""
    rng, lam = np.random.default_rng(0), 4 * np.linspace(1.5, 0.5, r)
    Z = np.sqrt(lam)[:, None] * rng.standard_normal((r, D)) + NOISE_SD * rng.standard_normal((r, D))
    return bl.Spectrum(lam, Z, NOISE_SD**2 * 3 * r * np.eye(D), 4 * r)


def likelihood_loop(spec: bl.Spectrum) -> Callable[[int], None]:
    """Compiled loop (count) over value and gradient of the likelihood in Q and Sigma."""

    @jax.jit
    def loop(spec: Any, count: Any, length: Any) -> Any:
        value_and_grad = jax.value_and_grad(log_marginal, argnums=(0, 1))

        def step(_, carry):
            (Q, Sigma), total = carry
            value, (dQ, dSigma) = value_and_grad(Q, Sigma, spec)
            return (Q + length * dQ, Sigma + length * dSigma), total + value

        eye = jnp.eye(spec.outputs)
        return jax.lax.fori_loop(0, count, step, ((eye, 0.25 * eye), jnp.zeros(())))

    def run(count: int) -> None:
        with jax.enable_x64(True):
            jax.block_until_ready(loop(jax.tree.map(np.asarray, spec), np.int64(count), np.float64(0.0)))

    run(1)
    return run


def one_off(n: int, p: int) -> Row:
    """`Spectrum.from_rows` of n standard normal rows, three outputs."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, 3))
    return {"seconds": seconds(lambda: bl.Spectrum.from_rows(X, Y))}


def exponent(rows: list[Row], value: str) -> float:
    """Of the power of the size, fitted over the upper half of the range."""
    upper = sorted(rows, key=lambda row: row["size"])[len(rows) // 2 :]
    if len(upper) < 2:
        return float("nan")
    return float(np.polyfit(np.log([row["size"] for row in upper]), np.log([row[value] for row in upper]), 1)[0])


def report(path: Path) -> Iterator[str]:
    """The part of the page."""
    yield "## Cost by size\n"
    yield "`python benchmarks/sizes.py`. The limit at alpha 0.5, isotropic noise, one chain, µs; the last line of a"
    yield "table is the exponent fitted over the upper half of the sizes. By design O(D^3 + r D^2) for the likelihood,"
    yield "and beside it the 8 steps of the chain for the potential."
    names = ["likelihood_us", "potential_us", "leapfrog_us"]
    columns = ["likelihood", "potential", "leapfrog"]
    for title, letter in {f"outputs, r = {RANK}": "D", f"rank, D = {FEW}": "r"}.items():
        rows = sorted((row for row in read(path, "gradient") if row["case"] == title), key=lambda row: row["size"])
        yield f"\n### By {title}\n"
        lines = [[row["size"], *(row[name] for name in names)] for row in rows]
        yield from markdown([letter, *columns], [*lines, ["exponent", *(exponent(rows, name) for name in names)]])
    yield "\n### The one-off Spectrum, seconds\n"
    rows = read(path, "spectrum")
    by_size = {(row["size"], row["case"]): row["seconds"] for row in rows}
    titles = [ratio_title(ratio) for ratio in RATIOS]
    lines = [[p, *(by_size.get((p, title)) for title in titles)] for p in FEATURES]
    last = [exponent([row for row in rows if row["case"] == title], "seconds") for title in titles]
    yield from markdown(["p", *titles], [*lines, ["exponent", *last]])


def ratio_title(ratio: float) -> str:
    """How a number of rows for each feature is called."""
    return f"n = {ratio:g} p"


def main() -> None:
    """Measure every size."""
    options = parser(__doc__)
    options.add_argument("--largest", type=int, default=5000, help="no D, r or p above it")
    options = options.parse_args()
    results, draws = Results(options), min(options.draws, 25)
    for D in OUTPUTS:
        if options.largest >= D:
            results.take("gradient", partial(gradient, D, RANK, draws), case=f"outputs, r = {RANK}", size=D)
    for r in RANKS:
        if r <= options.largest:
            results.take("gradient", partial(gradient, FEW, r, draws), case=f"rank, D = {FEW}", size=r)
    for ratio in RATIOS:
        predicted = 0.0
        for p in FEATURES:
            if p <= options.largest and predicted <= LONGEST:
                n = int(ratio * p)
                row = results.take("spectrum", partial(one_off, n, p), case=ratio_title(ratio), size=p)
                predicted = 8 * row["seconds"] if row else 0.0
    print("\n".join(report(options.rows)))


if __name__ == "__main__":
    main()
