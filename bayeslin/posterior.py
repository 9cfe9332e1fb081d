"""The `Posterior`: draws of Q and the noise, and everything that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import jax
import numpy as np

from bayeslin import checks, correlation, diagnostics, lifting, loo, prediction
from bayeslin._version import __version__
from bayeslin.hyperparameters import is_random
from bayeslin.likelihood import Conditional, conditional
from bayeslin.network import in_double, ranks
from bayeslin.noise import Noise
from bayeslin.sampler import Draws
from bayeslin.scale import FiniteNetwork, Law
from bayeslin.spectrum import Spectrum


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Draws of the scale and the noise given labels, from `fit`.

    Shapes lead with (chains, draws); an exact posterior repeats its one value. `sites` holds whatever else the model
    recorded (weights, the chain of a finite network), `stats` the sampler's statistics under ArviZ's names.
    """

    law: Law
    noise: Noise
    spec: Spectrum
    rows: tuple[np.ndarray, np.ndarray] | None
    sampled: Draws
    settings: dict[str, Any]
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing was left to sample."""
        return self.sampled.state is None

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
    def given(self) -> Conditional:
        """The function given each draw, leading axes (chains, draws), or (1, 1) where the posterior is exact."""
        s2 = self.sites["signal_variance"] if is_random(self.law.signal_variance) else self.law.signal_variance
        Q = np.asarray(s2)[..., None, None] * self.sites["scale"]
        arrays = self.spec._replace(V=None, tol=None)
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, _conditionals(Q, self.sites["noise_cov"], arrays))

    @cached_property
    def diagnosis(self) -> diagnostics.Diagnosis:
        """R-hat, bulk ESS and divergences, judged over the entries of Q, rho, Sigma and hyperparameters that vary."""
        if self.exact:
            return diagnostics.Diagnosis(math.nan, math.nan, 0, exact=True)
        lower = np.tril_indices(self.spec.outputs)
        matrices = [self.sites["scale"], correlation.to_correlation(self.sites["scale"]), self.sites["noise_cov"]]
        quantities = [matrix[..., lower[0], lower[1]] for matrix in matrices]
        quantities += [self.sites[name] for name in ("alpha", "signal_variance") if name in self.sites]
        return diagnostics.diagnose(quantities, self.stats["diverging"])

    def predict(self, X_new: Any, *, noise: bool = False) -> prediction.Prediction:
        """The function at X_new (m, p), noise-free, or labels there with noise=True."""
        X_new = self._new_rows(X_new)
        return prediction.Prediction(self._flat, self.spec, X_new, noise)

    def log_score(self, X_new: Any, Y_new: Any) -> np.ndarray:
        """Log predictive density of each row of labels Y_new (m, D) at X_new (m, p): (m,), in nats."""
        X_new, Y_new = self._new_rows(X_new), checks.matrix(Y_new, "Y_new")
        if Y_new.shape != (len(X_new), self.spec.outputs):
            raise checks.InputError(f"Y_new must have shape {(len(X_new), self.spec.outputs)}, got {Y_new.shape}")
        return prediction.log_score(self._flat, self.spec, X_new, Y_new)

    def _new_rows(self, X_new: Any) -> np.ndarray:
        """Inputs (m, p); a data frame must have the columns of the fit in their order, where the fit had names."""
        names = tuple(map(str, getattr(X_new, "columns", self.feature_names)))
        named = self.feature_names != tuple(map(str, range(len(self.feature_names))))
        if named and names != self.feature_names:
            raise checks.InputError(f"X_new has the columns {names}, the fit had {self.feature_names}; give those")
        return checks.new_rows(X_new, len(self.feature_names))

    @property
    def _flat(self) -> Conditional:
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.given)

    def log_likelihood_loo(self) -> np.ndarray:
        """Log density of every row of labels given all other rows and each draw of (Q, Sigma): (chains, draws, n).

        In closed form, functions integrated out; what ArviZ's `loo` needs. Over draws, p(y_i | the others) is the
        *harmonic* mean of these densities, not their mean. Where the posterior is exact all draws are one: their sum is
        the answer, and ArviZ's Pareto k has nothing to say. Raises `InputError` where only a `Spectrum` was fitted.
        """
        if self.rows is None:
            raise checks.InputError("leaving out rows needs the rows; fit X and Y instead of a Spectrum")
        logs = loo.log_likelihood_loo(self._flat, self.spec, *self.rows)
        return self._broadcast(logs.reshape(*self.given.q.shape[:2], -1))

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
        layers = in_double(self._layers(key_layers, self.law.widths, chosen, dtype))
        return (W.reshape(*shape, *W.shape[1:]) for W in layers)

    def _layers(self, key: jax.Array, widths: tuple[int, ...], chosen: Any, dtype: Any) -> Iterator[np.ndarray]:
        D = self.spec.outputs
        if self.settings["space"] == "weights":
            yield from (self.sites[f"W_{layer}"][chosen].astype(dtype) for layer in range(1, len(widths) + 2))
            return
        key_map, key_frames = jax.random.split(key)
        count = len(chosen[0])
        chain = self.sites["factors"][chosen] if widths else np.empty((count, 0, D, D))
        C = reduce(np.matmul, np.moveaxis(chain, 1, 0), np.broadcast_to(np.eye(D), (count, D, D)))
        C, s2 = C[:, :, : ranks(widths, D)[-1]], self.signal_variance[chosen]
        E = lifting.posterior_input_map(key_map, C, self.noise_cov[chosen], s2, self.spec)
        yield from lifting.iter_weights(key_frames, chain, E.astype(dtype), s2, widths)

    def output_correlation(self, X_new: Any = None) -> correlation.OutputCorrelation:
        """Output correlations of the scale, and of the function at X_new (m, p), by default at the rows of the fit."""
        if X_new is None:
            inputs = correlation.gram_at_data(self.spec)
        else:
            inputs = correlation.gram(self._new_rows(X_new), self.spec)
        return correlation.output_correlation(self.sites["scale"], self.given, inputs)

    def to_arviz(self, *, log_likelihood: bool = True) -> Any:
        """`InferenceData` (ArviZ 0.23) or `DataTree` (1.x) with real dimension names.

        Groups: posterior, sample_stats, observed_data, constant_data, and, where rows were fitted, log_likelihood: `Y`
        (chain, draw, obs), each row given the others, for `az.loo`; it takes chains x draws x n numbers, so that many
        rows may want log_likelihood=False.
        """
        matrix = ["output", "output_other"]
        dims = {name: matrix for name in ("scale", "scale_correlation", "noise_cov", "labels_outside")}
        dims |= {"factors": ["layer", "factor_row", "factor_column"]}
        if self.sites.get("noise_sd", np.empty(0)).ndim == 3:
            dims |= {"noise_sd": ["output"]}
        last = sum(name.startswith("W_") for name in self.sites)
        units = ["feature", *(f"unit_{layer}" for layer in range(1, last)), "output"]
        dims |= {f"W_{layer}": [units[layer], units[layer - 1]] for layer in range(1, last + 1)}
        dims |= {"X": ["obs", "feature"], "Y": ["obs", "output"], "Z": ["direction", "output"], "lam": ["direction"]}
        coords: dict[str, list] = {"output": list(self.output_names), "output_other": list(self.output_names)}
        posterior = {"scale": self.scale, "noise_cov": self.noise_cov}
        posterior["scale_correlation"] = correlation.to_correlation(self.scale)
        posterior |= {name: site for name, site in self.sites.items() if name not in posterior}
        observed, constant = {"Z": self.spec.Z, "labels_outside": self.spec.R}, {"lam": self.spec.lam}
        coords["direction"] = list(range(self.spec.rank))
        if self.rows is not None:
            observed, constant = {"Y": self.rows[1]}, {"X": self.rows[0]}
            coords |= {"obs": list(range(len(self.rows[0]))), "feature": list(self.feature_names)}
        groups = {"posterior": posterior, "sample_stats": self.stats, "observed_data": observed}
        if log_likelihood and self.rows is not None:
            groups["log_likelihood"] = {"Y": self.log_likelihood_loo()}
        attrs = {"law": repr(self.law), "noise": repr(self.noise), "package": "bayeslin", **self.settings}
        attrs |= {"version": __version__}
        return diagnostics.to_arviz(groups | {"constant_data": constant}, coords, dims, attrs)

    def __repr__(self) -> str:
        n, D = int(self.spec.n), self.spec.outputs
        return f"Posterior({self.law!r}, noise={self.noise!r}, n={n}, outputs={D}: {self.diagnosis.advice()})"


@jax.jit
def _conditionals(Q: Any, Sigma: Any, spec: Spectrum) -> Conditional:
    return jax.vmap(jax.vmap(conditional, (0, 0, None)), (0, 0, None))(Q, Sigma, spec)
