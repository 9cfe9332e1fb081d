"""The laws of Sigma, the noise covariance between the outputs of one row."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks
from bayeslin.covariance import Covariance
from bayeslin.guide import Guide
from bayeslin.hyperparameters import checked, describe, is_random, sample_hyperparameter
from bayeslin.positive import Around
from bayeslin.small import diagonal

KINDS = ("isotropic", "diagonal", "full")


class Noise:
    """Noise of the labels: a known sd shared by all outputs, or one that is inferred.

    A number is the known sd, in label units. "isotropic" infers one sd, "diagonal" one for each output, "full" a
    covariance: correlations from the uniform LKJ prior times such sds. The prior of every sd is half-normal with scale
    1 in label units, fixed before the labels are seen, which suits labels of sd about 1 (`Dataset.standardize`), or
    the distribution `sd`. A NumPyro distribution over the positive numbers alone is an isotropic sd with that prior.

    >>> Noise("full", dist.HalfNormal(50.0))
    Noise('full', HalfNormal(scale=50))
    """

    def __init__(self, noise: Any, sd: Any = None):
        self.kind, self.sd = "isotropic", noise
        if isinstance(noise, Noise):  # checked already, and perhaps traced since
            self.kind, self.sd = noise.kind, noise.sd
            return
        if isinstance(noise, str):
            if noise not in KINDS:
                raise checks.InputError(f"noise must be a number, a distribution or one of {KINDS}, got {noise!r}")
            self.kind, self.sd = noise, dist.HalfNormal(1.0) if sd is None else sd
            if not is_random(self.sd):
                raise checks.InputError(f"the sds of {noise} noise need a distribution, such as HalfNormal; got {sd!r}")
        self.sd = checked("noise", self.sd, above=1e-150)  # its square must not vanish

    @property
    def is_random(self) -> bool:
        """Whether there is anything to infer."""
        return is_random(self.sd)

    @property
    def has_default_prior(self) -> bool:
        """Whether the sds have the half-normal prior with scale 1."""
        return isinstance(self.sd, dist.HalfNormal) and np.ndim(self.sd.scale) == 0 and float(self.sd.scale) == 1.0

    def sample_cov(self, outputs: int, guide: Guide | None = None) -> Any:
        """NumPyro fragment: Sigma (D, D); site `noise_sd`, and, for "full", `_noise_cholesky`.

        With a guide the one site is `_noise`: the sds by `Around`, or `Covariance`.
        """
        if not self.is_random or self.sd.support is not dist.constraints.positive:
            guide = None  # known, or between bounds
        if self.kind == "full" and outputs > 1 and guide is not None:
            law = Covariance(self.sd, guide.noise, guide.noise_info)
            Sigma = law.matrix(numpyro.sample("_noise", law))
            numpyro.deterministic("noise_sd", jnp.sqrt(diagonal(Sigma)))
            return Sigma
        if self.kind == "isotropic":
            sd = self._around(self.sd, guide) if guide is not None else sample_hyperparameter("noise_sd", self.sd)
            return sd**2 * jnp.eye(outputs)
        each = self.sd.expand([outputs]).to_event(1)
        sd = self._around(each, guide) if guide is not None else numpyro.sample("noise_sd", each)
        if self.kind == "diagonal" or outputs == 1:
            return jnp.diag(sd**2)
        L = sd[:, None] * numpyro.sample("_noise_cholesky", dist.LKJCholesky(outputs, 1.0))
        return L @ L.T

    def _around(self, prior: Any, guide: Guide) -> Any:
        """The sds by coordinates around the guide."""
        around = Around(guide.noise, 1.0 / jnp.sqrt(1.0 + guide.noise_info))
        x = numpyro.sample("_noise", dist.TransformedDistribution(prior, around.inv))
        return numpyro.deterministic("noise_sd", around(x))

    def __repr__(self) -> str:
        if not self.is_random:
            return f"{self.sd:g}"
        if self.has_default_prior:
            return repr(self.kind)
        return describe(self.sd) if self.kind == "isotropic" else f"Noise({self.kind!r}, {describe(self.sd)})"


jax.tree_util.register_pytree_node(
    Noise, lambda noise: ((noise.sd,), noise.kind), lambda kind, leaves: _rebuild(kind, *leaves)
)


def _rebuild(kind: str, sd: Any) -> Noise:
    noise = object.__new__(Noise)
    noise.kind, noise.sd = kind, sd
    return noise
