"""What `fit` is given, read at the door: sufficient statistics, rows and names, or an error that says what to do."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayeslin import checks
from bayeslin.data import Dataset
from bayeslin.hyperparameters import is_random
from bayeslin.noise import Noise
from bayeslin.scale import Law
from bayeslin.spectrum import Spectrum


class Material(NamedTuple):
    """Data that were read; `rows` (X, Y) unless a `Spectrum` was given, `dataset` only where one was."""

    spec: Spectrum
    rows: tuple[np.ndarray, np.ndarray] | None
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dataset: Dataset | None


def checked_settings(seed: Any, draws: Any, warmup: Any, chains: Any, max_tree_depth: Any) -> dict[str, Any]:
    """The integers that steer the sampler."""
    return {
        "seed": checks.integer(seed, "seed", least=0),
        "draws": checks.integer(draws, "draws"),
        "warmup": checks.integer(warmup, "warmup", least=0),
        "chains": checks.integer(chains, "chains"),
        "max_tree_depth": checks.integer(max_tree_depth, "max_tree_depth"),
    }


def read(law: Law, noise: Noise, X: Any, Y: Any, feature_names: Any = None, output_names: Any = None) -> Material:
    """Rows (X, Y), a `Dataset` or a `Spectrum`, checked; warns where the columns or the labels' size do not suit."""
    dataset = X if isinstance(X, Dataset) else None
    if dataset is not None:
        if Y is not None:
            raise checks.InputError("a Dataset brings its labels; leave Y out")
        if feature_names is not None or output_names is not None:
            raise checks.InputError("a Dataset brings its names; rename the columns of its table instead")
        feature_names, output_names = dataset.feature_names, dataset.output_names
        X, Y = dataset.X, dataset.Y
    spec, rows = _without_rows(dataset) if dataset is not None and dataset.factor is not None else _statistics(X, Y)
    _check_label_scale(law, noise, spec)
    _check_noise_is_bounded(noise, spec)
    feature_names = _names(feature_names, X, len(spec.V), "feature names")
    return Material(spec, rows, feature_names, _names(output_names, Y, spec.outputs, "output names"), dataset)


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
                stacklevel=5,
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
            stacklevel=4,
        )


def _check_noise_is_bounded(noise: Noise, spec: Spectrum) -> None:
    """Warn where nothing keeps an inferred noise from zero, so that the posterior has no finite mass.

    With k rows more than the rank and no residual the likelihood grows with sd^-k; a prior of order sd^a holds it where
    a + 1 > k. Centring takes a rank away, so that any table of as many features as rows is such a case. Outputs that
    are linear in each other, under full noise, are not looked for.
    """
    residual, free = np.diag(spec.R), int(spec.n) - spec.rank
    none = residual <= 1e-18 * (np.square(spec.Z).sum(0) + residual)
    if not noise.is_random or free <= 0 or not (none.all() if noise.kind == "isotropic" else none.any()):
        return
    if not noise.sd.support(1e-24):
        return
    with jax.enable_x64(True):
        densities = [float(noise.sd.log_prob(jnp.asarray(sd))) for sd in (1e-12, 1e-24, 1e-48)]
    order, closer = -np.diff(densities) / np.log([1e12, 1e24])
    if not closer < order + 0.01:
        return  # it vanishes sooner than any power
    if order < free * (spec.outputs if noise.kind == "isotropic" else 1) - 1 + 1e-4:
        warnings.warn(
            f"{spec.n:g} rows of inputs of rank {spec.rank} leave no residual, and the prior of the noise's sd does "
            "not keep it from zero: the posterior is improper. Give noise as a number or a prior that vanishes at "
            "zero, such as numpyro's LogNormal, or leave features out",
            stacklevel=4,
        )


def _names(given: Any, columns_of: Any, count: int, what: str) -> tuple[str, ...]:
    """Names as given, or a data frame's columns, or 0, 1, ..."""
    columns = given if given is not None else getattr(columns_of, "columns", None)
    return checks.names(columns if columns is not None else range(count), count, what)
