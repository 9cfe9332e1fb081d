"""`fit`: from a law of Q and labels to a `Posterior`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bayeslin import checks, diagnostics, models, sampler
from bayeslin.data import Dataset
from bayeslin.hyperparameters import is_random, same_prior
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
    draws : kept draws of each chain, after `warmup`, another length of which compiles another program. Names default
        to the columns of data frames.
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
    dataset = X if isinstance(X, Dataset) else None
    has_rows = dataset.factor is None if dataset is not None else not isinstance(X, Spectrum)
    if space == "weights" and not (isinstance(law, FiniteNetwork) and has_rows):
        raise checks.InputError('space="weights" needs a FiniteNetwork and the rows X, Y; use space="scale"')
    noise = Noise(noise)
    settings = {
        "seed": checks.integer(seed, "seed", least=0),
        "draws": checks.integer(draws, "draws"),
        "warmup": checks.integer(warmup, "warmup", least=0),
        "chains": checks.integer(chains, "chains"),
        "space": space,
    }
    if dataset is not None:
        if Y is not None:
            raise checks.InputError("a Dataset brings its labels; leave Y out")
        if feature_names is not None or output_names is not None:
            raise checks.InputError("a Dataset brings its names; rename the columns of its table instead")
        feature_names, output_names = dataset.feature_names, dataset.output_names
        X, Y = dataset.X, dataset.Y
    spec, rows = _statistics(X, Y) if dataset is None or has_rows else _without_rows(dataset)
    _check_label_scale(law, noise, spec)
    names = (
        _names(feature_names, X, len(spec.V), "feature names"),
        _names(output_names, Y, spec.outputs, "output names"),
    )

    known = not is_random(law.alpha) and law.alpha == 0 and not noise.is_random and not is_random(law.signal_variance)
    if known and space == "scale":
        eye = np.eye(spec.outputs)[None, None]
        sampled = sampler.Draws({"scale": eye, "noise_cov": noise.sd**2 * eye}, {}, None)
    else:
        sampled = _sample(law, noise, spec, rows, settings, draws, progress)
    return _finish(Posterior(law, noise, spec, rows, sampled, settings, *names, dataset))


def resume(
    post: Posterior, draws: int = 1000, *, law: Law | None = None, noise: Any = None, progress: bool = True
) -> Posterior:
    """The posterior with `draws` more draws of each chain, by the sampler as it was adapted: no new warm-up.

    The draws are those that one longer `fit` would have made, also after `save` and `load` in another process. law,
    noise : only needed where a loaded file keeps a prior as text. Raises `InputError` for an exact or thinned posterior
    and for a file of another NumPyro whose sampler differs.

    >>> import bayeslin as bl
    >>> post = fit(bl.NNGP(), [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]], draws=500, progress=False)
    >>> resume(post, draws=1000, progress=False).scale.shape
    (4, 1500, 1, 1)
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
        _weight_model if weights else _scale_model,
        (*rows, law, noise) if weights and rows is not None else (spec.padded(), law, noise),
        key=jax.random.key(settings["seed"]),
        draws=draws,
        warmup=settings["warmup"],
        chains=settings["chains"],
        progress=progress,
        label=repr(law),
        state=state,
    )


def _finish(post: Posterior) -> Posterior:
    if not post.diagnosis.converged:
        warnings.warn(f"{post.law!r}: {post.diagnosis.advice()}", diagnostics.ConvergenceWarning, stacklevel=3)
    return post


def _scale_model(spec: Spectrum, law: Law, noise: Noise) -> None:
    models.scale_mixture(spec, law=law, outputs=spec.outputs, noise=noise)


def _weight_model(X: Any, Y: Any, law: FiniteNetwork, noise: Noise) -> None:
    models.network(X, Y, widths=law.widths, outputs=Y.shape[1], noise=noise, signal_variance=law.signal_variance)


def _statistics(X: Any, Y: Any) -> tuple[Spectrum, tuple[np.ndarray, np.ndarray] | None]:
    if isinstance(X, Spectrum):
        if Y is not None:
            raise checks.InputError("a Spectrum brings its labels; leave Y out")
        if X.V is None:
            raise checks.InputError("these statistics were padded for sampling; use the Spectrum that they came from")
        return X, None
    X, Y = checks.rows(X, Y)
    spec = Spectrum.from_rows(X, Y)
    _check_centred({"X": (X.mean(0), X.std(0)), "Y": (Y.mean(0), Y.std(0))})
    return spec, (X, Y)


def _without_rows(dataset: Dataset) -> tuple[Spectrum, None]:
    factor, p = dataset.factor, len(dataset.feature_names)
    assert factor is not None
    spec = Spectrum.from_factor(factor, p)
    _check_centred({"X": (factor.mean[:p], factor.sd[:p]), "Y": (factor.mean[p:], factor.sd[p:])})
    return spec, None


def _check_centred(moments: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Warn where a column's mean is far from zero, in its sds."""
    for name, (mean, sd) in moments.items():
        far = np.flatnonzero((np.abs(mean) > 0.5 * sd) & (sd > 0))
        if far.size:
            column = far[0]
            warnings.warn(
                f"column {column} of {name} has mean {mean[column]:.3g} and sd {sd[column]:.3g}: the network has no "
                "bias, so centre the columns first (bl.Dataset.standardize does)",
                stacklevel=4,
            )


def _check_label_scale(law: Law, noise: Noise, spec: Spectrum) -> None:
    """Warn where labels are ten times larger or smaller than priors expect that nobody chose for them."""
    sd = np.sqrt((np.square(spec.Z).sum(0) + np.diag(spec.R)) / spec.n)
    prior = "the prior of the noise's sd is half-normal with scale 1" if noise.has_default_prior else ""
    if not prior and not is_random(law.signal_variance) and law.signal_variance == 1.0 and sd.max() > 10:
        prior = "the signal variance is 1"
    far = int(np.abs(np.log10(np.maximum(sd, 1e-300))).argmax())
    if prior and not 0.1 <= sd[far] <= 10:
        warnings.warn(
            f"output {far} has root mean square {sd[far]:.3g}, but {prior}: standardise the labels "
            "(bl.Dataset.standardize does), or give noise and signal_variance in their units",
            stacklevel=3,
        )


def _names(given: Any, columns_of: Any, count: int, what: str) -> tuple[str, ...]:
    """Names as given, or a data frame's columns, or 0, 1, ..."""
    columns = given if given is not None else getattr(columns_of, "columns", None)
    return checks.names(columns if columns is not None else range(count), count, what)
