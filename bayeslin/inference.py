"""`fit`: from a law of Q and labels to a `Posterior`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from bayeslin import checks, diagnostics, models, sampler
from bayeslin.guide import Guide, guide_to
from bayeslin.hyperparameters import is_random, same_prior
from bayeslin.material import checked_settings, read
from bayeslin.noise import Noise
from bayeslin.posterior import Posterior
from bayeslin.scale import FiniteNetwork, Law
from bayeslin.spectrum import Spectrum


def fit(
    law: Law,
    X: Any,
    Y: Any = None,
    *,
    noise: Any = "isotropic",
    space: str = "scale",
    seed: int = 0,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    max_tree_depth: int = 10,
    progress: bool = True,
    feature_names: Any = None,
    output_names: Any = None,
) -> Posterior:
    """Posterior of a law of Q given labels, by NUTS in float64; exact where nothing is left to sample.

    law : `NNGP()`, `FiniteNetwork(widths)` or `Proportional(alpha)`.
    X : (n, p) inputs, Y : (n, D) labels; or in place of both a `Dataset`, with or without rows, whose table's units
        predictions then answer in, or a `Spectrum`. Nothing is centred or scaled here (`Dataset.standardize` does).
    noise : a number is the known sd of all labels; "isotropic", "diagonal", "full" are inferred, see `Noise`.
    space : "scale" samples Q, functions integrated out; "weights" samples every weight matrix of a `FiniteNetwork`.
    draws : kept draws of each chain, after `warmup`, another length of which compiles another program; each takes at
        most 2^max_tree_depth - 1 leapfrogs. Names default to the columns of data frames.
    Raises `InputError` on unusable input; warns when the draws are not converged or the columns are far from centred.

    >>> import bayeslin as bl
    >>> post = fit(bl.NNGP(), [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]], noise=0.3)
    >>> post.exact, post.predict([[2.0]]).mean.round(3)
    (True, array([[1.627]]))
    """
    if not isinstance(law, Law):
        raise checks.InputError(f"law must be a law such as bl.Proportional(0.5), got {law!r}")
    if space not in ("scale", "weights"):
        raise checks.InputError(f'space must be "scale" or "weights", got {space!r}')
    noise = Noise(noise)
    settings = checked_settings(seed, draws, warmup, chains, max_tree_depth) | {"space": space}
    given = read(law, noise, X, Y, feature_names, output_names)
    if space == "weights" and not (isinstance(law, FiniteNetwork) and given.rows):
        raise checks.InputError('space="weights" needs a FiniteNetwork and the rows X, Y; use space="scale"')
    if space == "scale" and is_known(law, noise):
        sampled = known_draws(noise, given.spec.outputs)
    else:
        sampled = _sample(law, noise, given.spec, given.rows, settings, draws, progress)
    names = (given.feature_names, given.output_names)
    return _finish(Posterior(law, noise, given.spec, given.rows, sampled, settings, *names, given.dataset))


def is_known(law: Law, noise: Noise) -> bool:
    """Whether nothing is left to sample: Q is the identity, s2 and the noise are numbers."""
    random = is_random(law.alpha) or is_random(law.signal_variance) or noise.is_random
    return not random and law.alpha == 0


def known_draws(noise: Noise, outputs: int) -> sampler.Draws:
    """The one value of Q and Sigma where nothing is left to sample."""
    eye = np.eye(outputs)[None, None]
    return sampler.Draws({"scale": eye, "noise_cov": noise.sd**2 * eye}, {}, None)


def resume(
    post: Posterior, draws: int = 1000, *, law: Law | None = None, noise: Any = None, progress: bool = True
) -> Posterior:
    """The posterior with `draws` more draws of each chain, by the sampler as it was adapted: no new warm-up.

    The draws are those that one longer `fit` would have made, also after `save` and `load` in another process. law,
    noise : only needed where a loaded file keeps a prior as text. Raises `InputError` for an exact or thinned posterior
    and for a file of another NumPyro whose sampler differs.

    >>> import bayeslin as bl
    >>> post = fit(bl.NNGP(), [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]], draws=2000, progress=False)
    >>> resume(post, draws=1000, progress=False).scale.shape
    (4, 3000, 1, 1)
    """
    draws = checks.integer(draws, "draws")
    if post.sampled.state is None:
        what = "exact, so there is nothing to add" if post.exact else "thinned; resume the whole one"
        raise checks.InputError(f"this posterior is {what}")
    law, noise = post.law if law is None else law, post.noise if noise is None else Noise(noise)
    if not (same_prior(law, post.law) and same_prior(noise, post.noise)):
        raise checks.InputError(
            f"the posterior to resume has law {post.law!r} and noise {post.noise!r}, got {law!r} and {noise!r}"
        )
    more = _sample(law, noise, post.spec, post.rows, post.settings, draws, progress, post.sampled.state)
    settings = post.settings | {"draws": post.settings["draws"] + draws}
    sampled = post.sampled.followed_by(more)
    return _finish(replace(post, law=law, noise=noise, sampled=sampled, settings=settings))


def _sample(
    law: Law,
    noise: Noise,
    spec: Spectrum,
    rows: tuple | None,
    settings: dict[str, Any],
    draws: int,
    progress: bool,
    state: tuple | None = None,
) -> sampler.Draws:
    weights = settings["space"] == "weights" and rows is not None
    return sampler.sample(
        _weight_model if weights else scale_model,
        (*rows, law, noise) if weights and rows is not None else (spec.padded(), guide_for(spec, noise), law, noise),
        key=sampler.key_of(settings["seed"]),
        draws=draws,
        warmup=settings["warmup"],
        chains=settings["chains"],
        progress=progress,
        label=repr(law),
        guided=not weights,
        max_tree_depth=settings.get("max_tree_depth", 10),  # files of before have none
        state=state,
    )


def _finish(post: Posterior) -> Posterior:
    if not post.diagnosis.converged:
        warnings.warn(f"{post.law!r}: {post.diagnosis.advice()}", diagnostics.ConvergenceWarning, stacklevel=3)
    return post


def guide_for(spec: Spectrum, noise: Noise) -> Guide:
    """Where the sampler's coordinates are centred for these labels."""
    return guide_to(spec, noise.kind, None if noise.is_random else noise.sd)


def scale_model(spec: Spectrum, guide: Guide, law: Law, noise: Noise) -> None:
    """The model that is sampled where functions are integrated out; what a data set has of its own comes first."""
    models.scale_mixture(spec, law=law, outputs=spec.outputs, noise=noise, guide=guide)


def _weight_model(X: Any, Y: Any, law: FiniteNetwork, noise: Noise) -> None:
    models.network(X, Y, widths=law.widths, outputs=Y.shape[1], noise=noise, signal_variance=law.signal_variance)
