"""Law x noise x likelihood as NumPyro models, for `fit` or inside a user's own program (design section 6).

Each follows the precision of the program around it. Use `numpyro.handlers.scope` to put two of them in one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks
from bayeslin.distributions import LinearLabels, ReducedLabels
from bayeslin.guide import Guide
from bayeslin.hyperparameters import checked, sample_hyperparameter
from bayeslin.network import layer_shapes, output_chain
from bayeslin.noise import Noise
from bayeslin.scale import Law
from bayeslin.small import product
from bayeslin.spectrum import Spectrum, decompose


def scale_mixture(
    X: Any, Y: Any = None, *, law: Law, outputs: int, noise: Any = "isotropic", guide: Guide | None = None
) -> Any:
    """Labels given the random scale Q, functions integrated out: the cost does not depend on the number of rows.

    X : (n, p) inputs, or a `Spectrum`, which brings its labels. Y : (n, D) labels, or None to draw them.
    noise : a known sd, "isotropic", "diagonal", "full" or a distribution, see `Noise`. guide : where these labels put
    s2 Q and the noise, see `guide_to`; another guide gives the same model in other coordinates.
    Sites: `scale` (D, D), `noise_cov` (D, D), hyperparameters that are random, and `Y`, which is returned.

    >>> import bayeslin as bl
    >>> from numpyro.infer import Predictive
    >>> X = np.linspace(-1, 1, 10).reshape(5, 2)
    >>> draw = Predictive(scale_mixture, num_samples=3)
    >>> draw(jax.random.key(0), X, law=bl.Proportional(0.5), outputs=2)["Y"].shape
    (3, 5, 2)
    """
    if not isinstance(X, Spectrum):
        X, Y = _arrays(X, Y, outputs)
    elif Y is not None or outputs != X.outputs:
        raise checks.InputError(f"a Spectrum brings its labels; give Y=None and outputs={X.outputs} with it")
    s2 = sample_hyperparameter("signal_variance", law.signal_variance)
    C = law.sample_factor(outputs, None if guide is None else guide.divided(s2))
    Q = numpyro.deterministic("scale", product(C, C.T))
    Sigma = numpyro.deterministic("noise_cov", Noise(noise).sample_cov(outputs, guide))
    if isinstance(X, Spectrum):
        return numpyro.sample("Y", ReducedLabels(s2 * Q, Sigma, X), obs=ReducedLabels.reduced(X))
    return numpyro.sample("Y", LinearLabels(s2 * Q, Sigma, X), obs=Y)


def functions(X: Any, *, law: Law, outputs: int) -> Any:
    """The function at the rows of X as latent values, f = sqrt(s2) U S E C^T, for any likelihood of yours.

    X : (n, p). Sites: `scale` (D, D), `f` (n, D), which is returned; sampled through a rank r x D standard normal.

    >>> import bayeslin as bl
    >>> def classify(X, label):
    ...     f = functions(X, law=bl.Proportional(0.5), outputs=3)
    ...     numpyro.sample("label", dist.Categorical(logits=f), obs=label)
    """
    X, _ = _arrays(X, None, outputs)
    C = law.sample_factor(outputs)
    numpyro.deterministic("scale", C @ C.T)
    s2 = sample_hyperparameter("signal_variance", law.signal_variance)
    U, S, _ = decompose(X)
    E = numpyro.sample("_f", dist.Normal(0.0, 1.0).expand([len(S), C.shape[1]]).to_event(2))
    return numpyro.deterministic("f", jnp.sqrt(s2) * (U * S) @ E @ C.T)


def network(
    X: Any, Y: Any = None, *, widths: Sequence[int], outputs: int, noise: Any = "isotropic", signal_variance: Any = 1.0
) -> Any:
    """The finite network, literally: a sample site for every weight matrix.

    f(x) = (p N_1 ... N_L)^(-1/2) W_{L+1} ... W_1 x; entries of W_1 ~ N(0, signal_variance), of the others N(0, 1).
    Sites: `W_1` (N_1, p), ..., `W_{L+1}` (D, N_L), `scale` and `noise_cov` (D, D), `Y` (n, D). Returns f (n, D).
    """
    X, Y = _arrays(X, Y, outputs)
    signal_variance = checked("signal_variance", signal_variance, above=0.0)
    sd = jnp.sqrt(jnp.asarray(sample_hyperparameter("signal_variance", signal_variance), float))
    weights = [
        numpyro.sample(f"W_{layer}", dist.Normal(0.0, sd if layer == 1 else 1.0).expand(shape).to_event(2))
        for layer, shape in enumerate(layer_shapes(X.shape[1], checks.widths(widths), outputs), start=1)
    ]
    H = output_chain(weights)
    numpyro.deterministic("scale", H @ H.T)
    Sigma = numpyro.deterministic("noise_cov", Noise(noise).sample_cov(outputs))
    f = X @ (weights[0].T @ H.T) / np.sqrt(X.shape[1])
    rows = dist.MultivariateNormal(f, scale_tril=jnp.linalg.cholesky(Sigma)).to_event(1)
    numpyro.sample("Y", rows, obs=Y)
    return f


def _arrays(X: Any, Y: Any, outputs: int) -> tuple[Any, Any]:
    """Known data checked at the door; traced values are the caller's business.

    Copied, because JAX knows constants by identity: one array in programs of both precisions would clash.
    """
    checks.integer(outputs, "outputs")
    if not isinstance(X, jax.core.Tracer):
        X = checks.matrix(X, "X").copy()
    if Y is not None and not isinstance(Y, jax.core.Tracer):
        Y = checks.matrix(Y, "Y").copy()
    if Y is not None and Y.shape != (X.shape[0], outputs):
        raise checks.InputError(f"need labels of shape {(X.shape[0], outputs)} for outputs={outputs}, got {Y.shape}")
    return X, Y
