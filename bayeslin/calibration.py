"""Simulation-based calibration: where truths drawn from the prior stand among the draws of their own posterior.

If simulation, likelihood and sampler agree, every rank is equally likely (Talts, Betancourt, Simpson, Vehtari and
Gelman, arXiv:1804.06788). All simulated data sets are sampled together, by one compiled program, a chain for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks, models, plots, sampler
from bayeslin.correlation import to_correlation
from bayeslin.hyperparameters import is_random
from bayeslin.likelihood import conditional
from bayeslin.many import sample_many
from bayeslin.noise import Noise
from bayeslin.scale import FiniteNetwork, Law
from bayeslin.spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the truths among posterior draws.

    ranks : name -> (simulations,), from 0 to `draws`; quantities that the law leaves fixed are absent. Names:
    log_det_scale, scale_correlation (of the first two outputs), noise_sd and function (first output at the first row).
    divergences : transitions that diverged, in all.
    """

    ranks: dict[str, np.ndarray]
    draws: int
    divergences: int

    def pvalues(self, bins: int = 10) -> dict[str, float]:
        """P-value of a chi-square test that each quantity's ranks are uniform."""
        from scipy import stats  # half of what the package takes to import

        shares = self._counts(np.arange(self.draws + 1), bins) / (self.draws + 1)  # equal where bins divides draws + 1
        return {
            name: float(stats.chisquare(self._counts(ranks, bins), shares * len(ranks)).pvalue)
            for name, ranks in self.ranks.items()
        }

    def _counts(self, ranks: np.ndarray, bins: int) -> np.ndarray:
        bins = min(checks.integer(bins, "bins", 2), self.draws + 1)
        return np.bincount(ranks * bins // (self.draws + 1), minlength=bins)

    def plot(self, axes: Any = None) -> Any:
        """Histograms of the ranks with the band of the uniform law (extra `plots`); returns the axes."""
        return plots.plot_calibration(self.ranks, self.draws, axes=axes)


def calibrate(
    law: Law,
    X: Any,
    *,
    outputs: int,
    noise: Any = "isotropic",
    fitted: Law | None = None,
    simulations: int = 100,
    draws: int = 99,
    thinning: int = 10,
    warmup: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> Calibration:
    """Simulate labels at X from the prior, sample each posterior, and rank every truth among `draws` posterior draws.

    law : simulates; a `FiniteNetwork` from literal random weights. fitted : the law of the posteriors, by default the
    same; another one must fail. X : (n, p). noise : "isotropic", "diagonal", "full", a distribution or a known sd.
    thinning : NUTS transitions for each draw that is ranked, so that draws are nearly independent.

    >>> import bayeslin as bl
    >>> X = np.linspace(-1, 1, 12).reshape(6, 2)
    >>> found = calibrate(bl.NNGP(), X, outputs=2, simulations=5, draws=9, warmup=50, progress=False)
    >>> {name: ranks.shape for name, ranks in found.ranks.items()}
    {'noise_sd': (5,), 'function': (5,)}
    """
    X, outputs, noise = checks.matrix(X, "X"), checks.integer(outputs, "outputs"), Noise(noise)
    simulations, thinning = checks.integer(simulations, "simulations", 2), checks.integer(thinning, "thinning")
    draws, warmup = checks.integer(draws, "draws"), checks.integer(warmup, "warmup", 0)
    fitted = law if fitted is None else fitted
    if not isinstance(law, Law) or not isinstance(fitted, Law):
        raise checks.InputError(f"law and fitted must be laws such as bl.Proportional(0.5), got {law!r}, {fitted!r}")
    key_truth, key_chain, key_function = jax.random.split(sampler.key_of(checks.integer(seed, "seed", 0)), 3)
    with jax.enable_x64(True):
        truth = _simulate(law, noise, jax.random.split(key_truth, simulations), X, outputs)
    truth = {name: np.asarray(values) for name, values in truth.items()}
    specs = [Spectrum.from_rows(X, Y) for Y in truth["Y"]]
    own_keys = list(jax.random.split(key_chain, (simulations, 1)))
    count = {"draws": draws * thinning, "warmup": warmup, "max_tree_depth": 4}  # at 3 they would be more dependent
    sampled = list(sample_many(fitted, noise, specs, own_keys, **count, progress=progress, label="calibration"))
    kept = {name: np.concatenate([part.sites[name] for part in sampled])[:, ::thinning] for name in sampled[0].sites}
    s2 = kept["signal_variance"] if is_random(fitted.signal_variance) else fitted.signal_variance
    Q = np.asarray(s2)[..., None, None] * kept["scale"]
    T, _ = specs[0].project(X[:1])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(spec._replace(V=None, tol=None) for spec in specs))
    with jax.enable_x64(True):
        keys = jax.random.split(key_function, simulations)
        f = np.asarray(_first_function(keys, Q, kept["noise_cov"], stacked, T[0]))
    ours = _quantities(kept["scale"], kept["noise_cov"], f)
    true = _quantities(truth["scale"], truth["noise_cov"], truth["f"])
    rank = min([outputs, *(width for each in (law, fitted) for width in getattr(each, "widths", ()))])
    degenerate = [name for name, least in (("log_det_scale", outputs), ("scale_correlation", 2)) if rank < least]
    names = [name for name in ours if name not in degenerate and np.ptp(ours[name]) > 0]
    ranks = {name: (ours[name] < true[name][:, None]).sum(1) for name in names}
    return Calibration(ranks, draws, sum(int(part.stats["diverging"].sum()) for part in sampled))


@partial(jax.jit, static_argnames="outputs")
def _simulate(law: Law, noise: Noise, keys: Any, X: Any, outputs: int) -> dict[str, Any]:
    def one(key):
        with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as sites:
            if isinstance(law, FiniteNetwork):
                s2 = law.signal_variance
                f = models.network(X, widths=law.widths, outputs=outputs, noise=noise, signal_variance=s2)
            else:
                f = models.functions(X, law=law, outputs=outputs)
                Sigma = numpyro.deterministic("noise_cov", noise.sample_cov(outputs))
                numpyro.sample("Y", dist.MultivariateNormal(f, Sigma).to_event(1))
        return {name: sites[name]["value"] for name in ("scale", "noise_cov", "Y")} | {"f": f[0, 0]}

    return jax.vmap(one)(keys)


@jax.jit
def _first_function(keys: Any, Q: Any, Sigma: Any, specs: Spectrum, t: Any) -> Any:
    """One draw of the first output at the input with coordinates t (r,), for every draw of (Q, Sigma)."""

    def one(key, Q, Sigma, spec):
        given = jax.vmap(conditional, (0, 0, None))(Q, Sigma, spec)
        first = given.M[:, 0]
        mean = jnp.einsum("i,sid,sd->s", t, given.coef, first)
        variance = jnp.einsum("i,sid,sd->s", t**2, given.var, first**2)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)

    return jax.vmap(one)(keys, Q, Sigma, specs)


def _quantities(Q: np.ndarray, Sigma: np.ndarray, f: np.ndarray) -> dict[str, np.ndarray]:
    found = {"log_det_scale": np.linalg.slogdet(Q)[1], "noise_sd": np.sqrt(Sigma[..., 0, 0]), "function": f}
    return found | ({"scale_correlation": to_correlation(Q)[..., 0, 1]} if Q.shape[-1] > 1 else {})
