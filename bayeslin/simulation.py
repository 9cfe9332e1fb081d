"""Parameters and labels simulated from the prior, and labels from the posterior: ArviZ's predictive groups."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from bayeslin import checks, models, sampler
from bayeslin.correlation import to_correlation
from bayeslin.hyperparameters import sample_hyperparameter
from bayeslin.likelihood import conditional
from bayeslin.noise import Noise
from bayeslin.scale import Law
from bayeslin.spectrum import Spectrum

MOST = 100  # draws of each chain, unless more are asked for
BLOCK = 4_000_000  # numbers that a group may hold, unless more draws are asked for
STREAM = 0x70726564  # tells these keys from those of the chains, which are numbered from 0


def groups(
    law: Law,
    noise: Noise,
    spec: Spectrum,
    rows: tuple[np.ndarray, np.ndarray] | None,
    Q: np.ndarray,
    Sigma: np.ndarray,
    settings: dict[str, Any],
    predictive: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Groups `prior`, `prior_predictive` and `posterior_predictive`: name -> arrays (chains, draws, ...).

    The prior's sites are those of the posterior, and `scale_correlation`; it is one chain of as many draws as the
    posterior predictive labels have in all. Labels `Y` (chains, draws, n, D), in the units of the fit, are at its rows:
    those of the prior belong to the prior's draws, those of the posterior to the *first* draws of each chain. Without
    rows there is only the prior. Keys follow from the fit's seed.

    Q, Sigma : (chains, draws, D, D), the posterior's, Q times the signal variance. predictive : draws of each chain, at
    most those of the posterior; 0 for no group; by default 100, or fewer where a group would pass four million numbers.
    """
    X = np.empty((0, len(spec.V))) if rows is None else rows[0]
    T = X @ spec.V / np.sqrt(X.shape[1])
    draw = partial(_prior, law, noise, X=X, T=T, outputs=spec.outputs, weights=settings["space"] == "weights")
    chains, draws = settings["chains"], settings["draws"]
    key_prior, key_posterior = jax.random.split(jax.random.fold_in(sampler.key_of(settings["seed"]), STREAM))
    with jax.enable_x64(True):
        if predictive is None:
            one = jax.eval_shape(draw, jax.random.split(key_prior, 1))
            numbers = sum(math.prod(site.shape) for site in one.values())
            predictive = min(MOST, max(1, BLOCK // (chains * numbers)))
        count = min(checks.integer(predictive, "predictive", least=0), draws)
        if not count:
            return {}
        prior = {
            name: np.asarray(site)[None] for name, site in draw(jax.random.split(key_prior, chains * count)).items()
        }
        found, labels = {"prior": prior}, prior.pop("Y")
        if rows is not None:
            found["prior_predictive"] = {"Y": labels}
            keys = jax.random.split(key_posterior, (chains, count))
            arrays = spec._replace(V=None, tol=None)
            found["posterior_predictive"] = {"Y": np.asarray(_labels(keys, Q[:, :count], Sigma[:, :count], arrays, T))}
    prior["scale_correlation"] = to_correlation(prior["scale"])
    return found


@partial(jax.jit, static_argnames=("outputs", "weights"))
def _prior(law: Any, noise: Noise, keys: Any, X: Any, T: Any, outputs: int, weights: bool) -> dict[str, Any]:
    """Every site of the model that was fitted, and labels Y at the rows, drawn from the prior once for each key."""

    def one(key):
        key_sites, key_function, key_noise = jax.random.split(key, 3)
        with numpyro.handlers.seed(rng_seed=key_sites), numpyro.handlers.trace() as sites:
            if weights:
                options = {"noise": noise, "signal_variance": law.signal_variance}
                models.network(X, widths=law.widths, outputs=outputs, **options)
            else:
                C = law.sample_factor(outputs)
                numpyro.deterministic("scale", C @ C.T)
                Sigma = numpyro.deterministic("noise_cov", noise.sample_cov(outputs))
                s2 = sample_hyperparameter("signal_variance", law.signal_variance)
                directions = jax.random.normal(key_function, (T.shape[1], C.shape[1]))
                error = jax.random.normal(key_noise, (len(T), outputs)) @ jnp.linalg.cholesky(Sigma).T
                numpyro.deterministic("Y", jnp.sqrt(s2) * T @ directions @ C.T + error)  # X is T times orthonormal rows
        return {name: site["value"] for name, site in sites.items() if not name.startswith("_")}

    return jax.vmap(one)(keys)


@jax.jit
def _labels(keys: Any, Q: Any, Sigma: Any, spec: Spectrum, T: Any) -> Any:
    """Labels (chains, draws, n, D) at inputs with coordinates T (n, r), which the rows of the fit have in full."""

    def one(arguments):
        key, Q, Sigma = arguments
        draw = conditional(Q, Sigma, spec)
        key_function, key_noise = jax.random.split(key)
        f = T @ (draw.coef + jnp.sqrt(draw.var) * jax.random.normal(key_function, draw.coef.shape))
        return (f + jax.random.normal(key_noise, f.shape)) @ draw.M.T  # Sigma = M M^T

    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (keys, Q, Sigma))
    labels = jax.lax.map(one, flat, batch_size=32)
    return labels.reshape(*keys.shape[:2], *labels.shape[1:])
