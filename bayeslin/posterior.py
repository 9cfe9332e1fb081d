"""The `Posterior`: draws of Q and the noise, and everything that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from bayeslin import checks, coordinates, correlation, diagnostics, lifting, loo, prediction, simulation, storage
from bayeslin._version import __version__
from bayeslin.data import Dataset
from bayeslin.hyperparameters import is_random
from bayeslin.likelihood import Conditional
from bayeslin.network import in_double
from bayeslin.noise import Noise
from bayeslin.sampler import Draws
from bayeslin.scale import FiniteNetwork, Law
from bayeslin.spectrum import Spectrum
from bayeslin.units import Units


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws of the scale and the noise given labels, from `fit`.

    Shapes lead with (chains, draws); an exact posterior repeats its one value. `sites` holds whatever else the model
    recorded (weights, the chain of a finite network), `stats` the sampler's statistics under ArviZ's names.

    Where a `Dataset` was fitted, new inputs and labels come, and predictions leave, in the units of its table, as data
    frames or arrays; Q, Sigma and s2 stay in the units of the fit.
    """

    law: Law
    noise: Noise
    spec: Spectrum
    rows: tuple[np.ndarray, np.ndarray] | None
    sampled: Draws
    settings: dict[str, Any]
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dataset: Dataset | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing was left to sample."""
        return not self.sampled.stats

    @property
    def sites(self) -> dict[str, np.ndarray]:
        """Every recorded site, (chains, draws, ...)."""
        return self.sampled.sites

    @property
    def stats(self) -> dict[str, np.ndarray]:
        """Statistics of NUTS, (chains, draws): diverging, energy, n_steps, tree_depth, step_size, ..."""
        return self.sampled.stats

    @property
    def scale(self) -> np.ndarray:
        """Q (chains, draws, D, D), without the signal variance."""
        return self._broadcast(self.sites["scale"])

    @property
    def noise_cov(self) -> np.ndarray:
        """Sigma (chains, draws, D, D), in label units squared."""
        return self._broadcast(self.sites["noise_cov"])

    @property
    def alpha(self) -> np.ndarray:
        """Effective depth-to-width ratio (chains, draws)."""
        return self._hyperparameter("alpha", self.law.alpha)

    @property
    def signal_variance(self) -> np.ndarray:
        """s2 (chains, draws)."""
        return self._hyperparameter("signal_variance", self.law.signal_variance)

    def _hyperparameter(self, name: str, value: Any) -> np.ndarray:
        return self._broadcast(self.sites[name] if is_random(value) else np.full((1, 1), float(value)))

    def _broadcast(self, array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, (self.settings["chains"], self.settings["draws"], *array.shape[2:]))

    @cached_property
    def _mixture(self) -> prediction.Mixture:
        s2 = self.sites["signal_variance"] if is_random(self.law.signal_variance) else self.law.signal_variance
        Q = np.asarray(s2)[..., None, None] * self.sites["scale"]
        flat = (-1, *Q.shape[2:])
        return prediction.Mixture(Q.reshape(flat), self.sites["noise_cov"].reshape(flat), self.spec)

    @property
    def given(self) -> Conditional:
        """The function given each draw, leading axes (chains, draws), or (1, 1) where the posterior is exact."""
        lead = self.sites["scale"].shape[:2]
        return jax.tree.map(lambda leaf: leaf.reshape(*lead, *leaf.shape[1:]), self._mixture.given)

    def thin(self, every: int) -> Posterior:
        """Every so manieth draw of each chain, for less memory and faster predictions; it cannot be resumed."""
        every = checks.integer(every, "every")
        if self.exact:
            return self
        sites, stats = (
            {name: values[:, ::every] for name, values in part.items()}
            for part in (self.sampled.sites, self.sampled.stats)
        )
        settings = self.settings | {"draws": -(-self.settings["draws"] // every)}
        return replace(self, sampled=Draws(sites, stats, None), settings=settings)

    @cached_property
    def diagnosis(self) -> diagnostics.Diagnosis:
        """R-hat, bulk ESS and divergences, judged over the entries of Q, rho, Sigma and hyperparameters that vary."""
        if self.exact:
            return diagnostics.Diagnosis(math.nan, math.nan, 0, exact=True)
        lower = np.tril_indices(self.spec.outputs)
        matrices = [self.sites["scale"], correlation.to_correlation(self.sites["scale"]), self.sites["noise_cov"]]
        quantities = [matrix[..., lower[0], lower[1]] for matrix in matrices]
        quantities += [self.sites[name] for name in ("alpha", "signal_variance") if name in self.sites]
        if "W_1" in self.sites and "W_2" not in self.sites:  # no hidden layer: the weights are the function
            quantities.append(self.sites["W_1"])
        return diagnostics.diagnose(quantities, self.stats["diverging"])

    def predict(self, X_new: Any, *, noise: bool = False) -> prediction.Prediction:
        """The function at X_new (m, p), noise-free, or labels there with noise=True; in label units, with names."""
        index = X_new.index if hasattr(X_new, "columns") else None
        return prediction.Prediction(self._mixture, self.units.inputs(X_new), noise, self.units, index)

    def log_score(self, X_new: Any, Y_new: Any) -> np.ndarray:
        """Log predictive density of each row of labels Y_new (m, D) at X_new (m, p): (m,), in nats, in label units."""
        X_new = self.units.inputs(X_new)
        inside = prediction.log_score(self._mixture, X_new, self.units.labels(Y_new, len(X_new)))
        return inside - np.log(self.units.scale).sum()

    @property
    def units(self) -> Units:
        """Names, and the way from the table's units to those of the fit."""
        return Units(self.feature_names, self.output_names, self.dataset)

    def save(self, path: Any, *, log_likelihood: bool = False) -> None:
        """Write one netCDF file that `Posterior.load` and ArviZ open, whole or not at all.

        It holds the draws, the data, the settings and what `resume` needs; with log_likelihood=True also the
        leave-one-row-out densities for `az.loo` (chains x draws x n numbers). Priors on hyperparameters are kept by
        name and numbers for NumPyro's common distributions, as text otherwise.
        """
        storage.save(self, path, log_likelihood=log_likelihood)

    @classmethod
    def load(cls, path: Any) -> Posterior:
        """The posterior in a file that `save` wrote; runs nothing that the file holds, raises `InputError` if unusable.

        >>> import tempfile, bayeslin as bl
        >>> post = bl.fit(bl.NNGP(), [[-1.0], [0.0], [1.0]], [[-0.9], [0.1], [0.8]], noise=0.3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     post.save(f"{folder}/model.nc")
        ...     again = bl.Posterior.load(f"{folder}/model.nc")
        >>> again.predict([[2.0]]).mean.round(3)
        array([[1.627]])
        """
        return cls(**storage.load(path))

    def log_likelihood_loo(self) -> np.ndarray:
        """Log density of every row of labels given all other rows and each draw of (Q, Sigma): (chains, draws, n).

        In closed form, functions integrated out; what ArviZ's `loo` needs. Over draws, p(y_i | the others) is the
        *harmonic* mean of these densities, not their mean. Where the posterior is exact all draws are one: their sum is
        the answer, and ArviZ's Pareto k has nothing to say. Raises `InputError` where only a `Spectrum` was fitted.
        """
        if self.rows is None:
            raise checks.InputError("leaving out rows needs the rows; fit X and Y, or a Dataset that keeps them")
        logs = loo.log_likelihood_loo(self._mixture.given, self.spec, *self.rows)
        return self._broadcast(logs.reshape(*self.sites["scale"].shape[:2], -1))

    def sample_weights(self, key: jax.Array, shape: tuple[int, ...] = ()) -> list[np.ndarray]:
        """Whole networks from the posterior, no MCMC over weights: arrays (*shape, N_l, N_{l-1}), input layer first.

        Exact joint draws given posterior draws of (Q, Sigma), which are taken with replacement. Source: design section
        4, "Weights from Q". Raises `InputError` unless the law is a `FiniteNetwork`.
        """
        return list(self.iter_weights(key, shape))

    def iter_weights(
        self, key: jax.Array, shape: tuple[int, ...] = (), *, dtype: Any = np.float64
    ) -> Iterator[np.ndarray]:
        """The layers of `sample_weights` one at a time, so that a large network need not be held; dtype as asked."""
        if not isinstance(self.law, FiniteNetwork):
            raise checks.InputError(f"only a FiniteNetwork has weights, this is the posterior of {self.law!r}")
        shape = checks.shape(shape)
        key_draw, key_layers = jax.random.split(key)
        chains, draws = self.sites["scale"].shape[:2]
        chosen = np.unravel_index(jax.random.choice(key_draw, chains * draws, (math.prod(shape),)), (chains, draws))
        if self.settings["space"] == "weights":
            names = [f"W_{layer}" for layer in range(1, len(self.law.widths) + 2)]
            layers: Iterator[np.ndarray] = (self.sites[name][chosen].astype(dtype) for name in names)
        else:
            D = self.spec.outputs
            chain = self.sites["factors"][chosen] if self.law.widths else np.empty((len(chosen[0]), 0, D, D))
            given = (chain, self.noise_cov[chosen], self.signal_variance[chosen], self.spec, self.law.widths)
            layers = in_double(lifting.iter_posterior_weights(key_layers, *given, dtype))
        return (W.reshape(*shape, *W.shape[1:]) for W in layers)

    def output_correlation(self, X_new: Any = None) -> correlation.OutputCorrelation:
        """Output correlations of scale, noise, and the function at X_new (m, p), by default at the rows of the fit."""
        if X_new is None:
            inputs = correlation.gram_at_data(self.spec)
        else:
            inputs = correlation.gram(self.units.inputs(X_new), self.spec)
        return correlation.output_correlation(self.sites["scale"], self.sites["noise_cov"], self.given, inputs)

    def to_arviz(self, *, log_likelihood: bool = True, predictive: int | None = None) -> Any:
        """`InferenceData` (ArviZ 0.23) or `DataTree` (1.x) with real dimension names.

        Groups: posterior, sample_stats, prior, observed_data, constant_data, and, where rows were fitted,
        prior_predictive, posterior_predictive, and log_likelihood: `Y` (chain, draw, obs), each row given the others,
        for `az.loo`; it takes chains x draws x n numbers, so that many rows may want log_likelihood=False. predictive :
        draws of each chain in the prior and the predictive groups, 0 for none; see `simulation.groups`.
        """
        posterior = {"scale": self.scale, "noise_cov": self.noise_cov}
        posterior["scale_correlation"] = correlation.to_correlation(self.scale)
        posterior |= {name: site for name, site in self.sites.items() if name not in posterior}
        observed, constant = {"Z": self.spec.Z, "labels_outside": self.spec.R}, {"lam": self.spec.lam}
        if self.rows is not None:
            observed, constant = {"Y": self.rows[1]}, {"X": self.rows[0]}
        coords, dims = coordinates.named(self.sites, self.rows, self.spec.rank, self.feature_names, self.output_names)
        groups = {"posterior": posterior, "sample_stats": self.stats, "observed_data": observed}
        if log_likelihood and self.rows is not None:
            groups["log_likelihood"] = {"Y": self.log_likelihood_loo()}
        Q = self.signal_variance[..., None, None] * self.scale
        given = self.law, self.noise, self.spec, self.rows, Q, self.noise_cov, self.settings
        groups |= simulation.groups(*given, predictive)
        attrs = {"law": repr(self.law), "noise": repr(self.noise), "package": "bayeslin", **self.settings}
        attrs |= {"version": __version__}
        return diagnostics.to_arviz(groups | {"constant_data": constant}, coords, dims, attrs)

    def __repr__(self) -> str:
        n, D = int(self.spec.n), self.spec.outputs
        return f"Posterior({self.law!r}, noise={self.noise!r}, n={n}, outputs={D}: {self.diagnosis.advice()})"
