"""Side by side: smallest bulk ESS per second of `bl.fit` and of others for the same posterior, checked equal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from cases import FINITE, LIMIT, rows
from common import Results, Row, disagreement, entries, gradient_loop, markdown, parser, per_call, read, smallest_ess
from numpyro.infer import MCMC, NUTS, init_to_sample, init_to_uniform
from numpyro.infer.util import initialize_model

import bayeslin as bl
from bayeslin.inference import guide_for, scale_model
from bayeslin.noise import Noise

TABLE, CHAINS, TOLERANCE = "peers", 4, 5.0
Run = Callable[[int, int], tuple[np.ndarray, np.ndarray, int | None]]  # seed, draws -> Q, Sigma, divergences


class Peer(NamedTuple):
    """Another program for the posterior of a law.

    prepare : data, law -> a function that samples; law : what both have as their prior; rows : of the teacher, 0 for
    linnerud; share : of the asked draws that the peer makes, below one where it is slow and runs only once; goal : of
    the ratio, warm.
    """

    prepare: Callable[[bl.Dataset, bl.Law], Run]
    law: bl.Law
    rows: int
    share: float
    goal: float


def ours(data: bl.Dataset, law: bl.Law) -> Run:
    """`bl.fit`, from rows to a diagnosed posterior."""

    def run(seed, draws):
        post = bl.fit(law, data, seed=seed, draws=draws, warmup=draws, chains=CHAINS, progress=False)
        return post.scale, post.noise_cov, int(post.stats["diverging"].sum())

    return run


def dense_model(K: Any, labels: Any, law: bl.Law) -> None:
    """Labels, output after output, as one normal vector of size n D."""
    n, D = labels.shape
    C = law.sample_factor(D)
    Q = numpyro.deterministic("scale", C @ C.T)
    sd = numpyro.sample("noise_sd", dist.HalfNormal(1.0))
    numpyro.deterministic("noise_cov", sd**2 * jnp.eye(D))
    cov = jnp.kron(Q, K) + sd**2 * jnp.eye(n * D)
    numpyro.sample("Y", dist.MultivariateNormal(0.0, cov), obs=labels.T.ravel())


def dense_arguments(data: bl.Dataset, law: bl.Law) -> tuple:
    """What `dense_model` takes."""
    return data.X @ data.X.T / data.X.shape[1], data.Y, law


def dense(data: bl.Dataset, law: bl.Law) -> Run:
    """NumPyro's `MCMC` on the dense model."""
    return numpyro_run(partial(dense_model, law=law), *dense_arguments(data, law)[:2])


def weights(data: bl.Dataset, law: bl.FiniteNetwork) -> Run:
    """NumPyro's `MCMC` over every weight matrix."""
    D = data.Y.shape[1]
    return numpyro_run(partial(bl.models.network, widths=law.widths, outputs=D, noise="isotropic"), data.X, data.Y)


def numpyro_run(model: Callable, *args: Any) -> Run:
    """NUTS as NumPyro sets it up, chains vectorised; one `MCMC` object for each number of draws."""
    made: dict[int, MCMC] = {}

    def run(seed, draws):
        options = {"num_warmup": draws, "num_samples": draws, "num_chains": CHAINS}
        with jax.enable_x64(True):
            if draws not in made:
                kernel = NUTS(model, init_strategy=init_to_sample)
                made[draws] = MCMC(kernel, **options, chain_method="vectorized", progress_bar=False)
            made[draws].run(jax.random.key(seed), *args)
            samples = made[draws].get_samples(group_by_chain=True)
            fields = made[draws].get_extra_fields(group_by_chain=True)
            divergences = int(np.asarray(fields["diverging"]).sum())
            return np.asarray(samples["scale"]), np.asarray(samples["noise_cov"]), divergences

    return run


def nutpie(data: bl.Dataset, law: bl.Proportional) -> Run:
    """PyMC's collapsed model compiled by nutpie (numba); what compiles is the first run of a process."""
    import nutpie as sampler

    compiled = sampler.compile_pymc_model(collapsed(bl.Spectrum.from_rows(data.X, data.Y), float(law.alpha)))

    def run(seed, draws):
        options = {"draws": draws, "tune": draws, "chains": CHAINS, "seed": seed, "progress_bar": False}
        trace = sampler.sample(compiled, **options)
        cov = np.square(trace.posterior["noise_sd"].to_numpy())[..., None, None] * np.eye(data.Y.shape[1])
        return trace.posterior["scale"].to_numpy(), cov, int(trace.sample_stats["diverging"].sum())

    return run


def collapsed(spec: bl.Spectrum, alpha: float, steps: int = 8) -> Any:
    """The limit in PyMC, non-centred, functions integrated out.

    Written out for speed, without PyTensor's Cholesky factors and eigenvectors.
    """
    import pymc as pm
    import pytensor.tensor as pt

    D, r, h = spec.outputs, spec.rank, alpha / steps
    spans = h * np.array([0.5] + [1.0] * (steps - 1) + [0.5])[:, None]
    i, j = np.tril_indices(D, -1)
    with pm.Model() as model:
        normal = pm.Normal("diagonal", shape=(steps + 1, D))
        lower = pm.Normal("lower", shape=(steps, len(i)))
        sd = pm.HalfNormal("noise_sd", 1.0)
        diagonal = pt.exp(np.sqrt(spans / 2) * normal - np.arange(1, D + 1) * spans / 2)
        C = pt.diag(diagonal[0])
        for k in range(steps):
            A = pt.zeros((D, D))[i, j].set(np.sqrt(h + (i - j - 1) * h**2 / 4) * lower[k])
            C = C @ (np.eye(D) + A + A @ A / 2) * diagonal[k + 1]
        Q = pm.Deterministic("scale", C @ C.T)
        S = spec.lam[:, None, None] * Q + sd**2 * np.eye(D)
        L: dict[tuple[int, int], Any] = {}  # Cholesky factors of all rows by hand: PyTensor's run in object mode
        whitened: list[Any] = []
        for a in range(D):
            for b in range(a + 1):
                rest = S[:, a, b] - sum(L[a, k] * L[b, k] for k in range(b))
                L[a, b] = pt.sqrt(rest) if a == b else rest / L[b, b]
            whitened.append((spec.Z[:, a] - sum(L[a, k] * whitened[k] for k in range(a))) / L[a, a])
        inside = -sum((pt.log(L[a, a]) + whitened[a] ** 2 / 2).sum() for a in range(D)) - r * D / 2 * np.log(2 * np.pi)
        outside = -(spec.n - r) * D / 2 * pt.log(2 * np.pi * sd**2) - np.trace(spec.R) / (2 * sd**2)
        pm.Potential("labels", inside + outside)
    return model


def blackjax(data: bl.Dataset, law: bl.Law) -> Run:
    """BlackJAX's window adaptation and NUTS on our log density, in our coordinates, from our starts, chains vmapped."""
    import blackjax as sampler

    with jax.enable_x64(True):
        spec, noise = bl.Spectrum.from_rows(data.X, data.Y), Noise("isotropic")
        args = spec.padded(), guide_for(spec, noise), law, noise
        options = {"init_strategy": init_to_uniform, "model_args": args}
        info = initialize_model(jax.random.key(0), scale_model, **options)

    @partial(jax.jit, static_argnames="draws")
    def sample(keys, starts, draws):
        def chain(key, start):
            key_warmup, key_draws = jax.random.split(key)
            adaptation = sampler.window_adaptation(sampler.nuts, lambda z: -info.potential_fn(z))
            (state, parameters), _ = adaptation.run(key_warmup, start, num_steps=draws)
            step = sampler.nuts(lambda z: -info.potential_fn(z), **parameters).step

            def one(state, key):
                state, details = step(key, state)
                sites = info.postprocess_fn(state.position)
                return state, (sites["scale"], sites["noise_cov"], details.is_divergent)

            return jax.lax.scan(one, state, jax.random.split(key_draws, draws))[1]

        return jax.vmap(chain)(keys, starts)

    def run(seed, draws):
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(seed), CHAINS)
            starts = [initialize_model(key, scale_model, **options).param_info.z for key in keys]
            starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
            scale, cov, diverging = map(np.asarray, sample(keys, starts, draws))
        return scale, cov, int(diverging.sum())

    return run


DENSE, DENSE_LARGE = "NumPyro, dense normal, n 100", "NumPyro, dense normal, n 400"
PEERS = {
    DENSE: Peer(dense, LIMIT, 100, 0.1, 20.0),
    "NumPyro, weights of 10 layers of 20, linnerud": Peer(weights, FINITE, 0, 0.1, 50.0),
    "PyMC and nutpie, collapsed, linnerud": Peer(nutpie, LIMIT, 0, 1.0, 2.0),
    "BlackJAX, our log density, linnerud": Peer(blackjax, LIMIT, 0, 1.0, 1.0),
}


def dataset(count: int) -> bl.Dataset:
    """Linnerud, or a teacher of so many rows, ten features and three outputs."""
    return rows(count, 10, 3, seed=0) if count else bl.load_dataset("linnerud").standardize()


def timed(run: Run, seed: int, draws: int) -> tuple[float, list[np.ndarray], int | None]:
    """Seconds, entries of Q and the noise, divergences."""
    began = time.perf_counter()
    scale, cov, divergences = run(seed, draws)
    return time.perf_counter() - began, entries(scale, cov, rho=False), divergences


def measure(peer: Peer, draws: int, repeats: int, alpha: float | None) -> Row:
    """Both programs in turn: the first run compiles, later ones with other seeds are warm; medians of these.

    alpha : of the peer's prior, where the check of equality is to be seen to fail.
    """
    data = dataset(peer.rows)
    law = peer.law if alpha is None else bl.Proportional(alpha)
    makers = [(ours, peer.law, draws), (peer.prepare, law, max(10, int(peer.share * draws)))]
    runs, first = [], []
    for prepare, prior, count in makers:
        began = time.perf_counter()
        run = prepare(data, prior)
        run(0, count)
        first.append(time.perf_counter() - began)
        runs.append((run, count))
    found: list[list[tuple]] = [[], []]
    for seed in range(1, repeats + 1):
        for (run, count), kept in zip(runs, found, strict=True):
            if count == draws or not kept:
                kept.append(timed(run, seed, count))
    rates = [[smallest_ess(columns) / took for took, columns, _ in kept] for kept in found]
    chains = [
        [np.concatenate(parts) for parts in zip(*(columns for _, columns, _ in kept), strict=True)] for kept in found
    ]
    apart = disagreement(*chains)
    return {
        "first_s": first[0],
        "peer_first_s": first[1],
        "seconds": float(np.median([took for took, _, _ in found[0]])),
        "peer_seconds": float(np.median([took for took, _, _ in found[1]])),
        "peer_draws": runs[1][1],
        "rate": float(np.median(rates[0])),
        "peer_rate": float(np.median(rates[1])),
        "ratio": float(np.median(np.divide(*rates) if runs[1][1] == draws else np.array(rates[0]) / rates[1][0])),
        "goal": peer.goal,
        "peer_ess": smallest_ess(chains[1]),
        "divergences": sum(count for _, _, count in found[0]),
        "peer_divergences": sum(count for _, _, count in found[1]),
        "apart": apart,
        "equal": bool(apart <= TOLERANCE),
    }


def large(small: Row, draws: int, repeats: int) -> Row:
    """The dense model at n = 400: its rate at n = 100 times the ratio of the times of a gradient, ours measured."""
    data = dataset(400)
    run = ours(data, LIMIT)
    timed(run, 0, draws)
    rates = [smallest_ess(columns) / took for took, columns, _ in (timed(run, seed, draws) for seed in range(repeats))]
    gradients = [
        per_call(gradient_loop(dense_model, dense_arguments(dataset(n), LIMIT), CHAINS), least=1.0) for n in (100, 400)
    ]
    rate, peer_rate = float(np.median(rates)), small["peer_rate"] * gradients[0] / gradients[1]
    times = {"gradient_ms": 1e3 * gradients[0], "gradient_large_ms": 1e3 * gradients[1]}
    return {"rate": rate, "peer_rate": peer_rate, "ratio": rate / peer_rate, "goal": 1000.0, **times}


def report(path: Path) -> Iterator[str]:
    """The part of the page."""
    yield "## Side by side, warm\n"
    yield "`python benchmarks/peers.py`. Smallest bulk ESS over entries of Q and the noise, per second of a whole run,"
    yield f"warm-up included, in a process that has made such a run before; {CHAINS} chains, as many draws of warm-up"
    yield "as kept. A slow peer runs once, with fewer draws. Peers have their own defaults, but that NumPyro's and"
    yield "BlackJAX's chains are vmapped (ours have a thread for each core), and NumPyro's start at draws of the prior."
    yield f"A posterior is the same when no mean is further off than {TOLERANCE:g} Monte Carlo standard errors.\n"
    columns = [
        "peer",
        "ours, ESS/s",
        "peer, ESS/s",
        "ratio",
        "goal",
        "ours, s",
        "peer, s",
        "peer's draws",
        "peer's ESS",
    ]
    columns += ["divergences, ours and peer's", "largest difference, MCSE", "same posterior"]
    names = ["case", "rate", "peer_rate", "ratio", "goal", "seconds", "peer_seconds", "peer_draws", "peer_ess"]
    lines = []
    for row in read(path, TABLE):
        pair = f"{row['divergences']}, {row['peer_divergences']}" if "divergences" in row else None
        same = {True: "yes", False: "**NO**"}.get(row.get("equal"))
        lines.append([*(row.get(name) for name in names), pair, row.get("apart"), same])
    yield from markdown(columns, lines)
    for row in read(path, TABLE):
        if row["case"] == DENSE_LARGE:
            times = [f"{row[name]:.3g} ms" for name in ("gradient_ms", "gradient_large_ms")]
            yield f"\n{DENSE_LARGE}: the peer's rate is that at n = 100 times the ratio of its times for the gradients"
            yield f"of all chains, {' at n = 100 and '.join(times)} at n = 400; ours is measured."


def child(options: argparse.Namespace) -> None:
    """One run in this process; prints when it ended, its smallest ESS, and nothing else."""
    prepare, law = (ours, LIMIT) if options.child == "ours" else PEERS[options.child][:2]
    scale, cov, _ = prepare(dataset(0), law)(0, options.draws)
    ended = time.time()
    print(json.dumps({"ended": ended, "ess": smallest_ess(entries(scale, cov, rho=False))}))


def main() -> None:
    """Measure every peer that is installed; ends with 1 where a posterior was not the same."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=3, help="warm runs of each program")
    options.add_argument("--peer-alpha", type=float, help="give the peer another prior, to see the check refuse")
    options.add_argument("--child", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.child:
        return child(options)
    results, same = Results(options), True
    for name, peer in PEERS.items():
        row = results.take(TABLE, partial(measure, peer, options.draws, options.repeats, options.peer_alpha), case=name)
        same = same and (row is None or row["equal"])
        if row and name == DENSE:
            results.take(TABLE, partial(large, row, options.draws, options.repeats), case=DENSE_LARGE)
    print("\n".join(report(options.rows)))
    sys.exit(0 if same else "a peer's posterior is not ours")


if __name__ == "__main__":
    main()
