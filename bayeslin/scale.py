"""The three laws of Q: a NumPyro fragment each, and from it samples, functions and moments (design section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from scipy.special import digamma, polygamma

from bayeslin import checks, limit
from bayeslin.guide import Guide
from bayeslin.hyperparameters import checked, describe, draw_hyperparameter, is_random, sample_hyperparameter
from bayeslin.network import in_double, iter_prior_weights, ranks, sample_chain


class ScaleMoments(NamedTuple):
    """Exact moments of Q and of one output; NaN where Q has too few outputs to have them.

    diag_sq E Q_11^2; offdiag_sq E Q_12^2; diag_product E Q_11 Q_22; logdet_mean, logdet_var of log det Q;
    output_kurtosis E f^4 / (E f^2)^2 of one output at one input.
    """

    diag_sq: float
    offdiag_sq: float
    diag_product: float
    logdet_mean: float
    logdet_var: float
    output_kurtosis: float


class Law:
    """A law of Q, the random scale matrix; a subclass gives `sample_factor`, `alpha` and its moments."""

    signal_variance: Any

    def __init_subclass__(cls, static: tuple[str, ...] = ()) -> None:
        """Register the law with JAX: hyperparameters are leaves, the attributes in `static` are structure."""

        def flatten(law):
            leaves = {name: value for name, value in vars(law).items() if name not in static}
            return tuple(leaves.values()), (tuple(leaves), tuple(getattr(law, name) for name in static))

        def unflatten(structure, leaves):
            law = object.__new__(cls)  # unchecked: JAX may pass placeholders
            vars(law).update(zip(structure[0], leaves, strict=True), **dict(zip(static, structure[1], strict=True)))
            return law

        jax.tree_util.register_pytree_node(cls, flatten, unflatten)

    @property
    def alpha(self) -> Any:
        """Effective depth-to-width ratio, the sum of 1/N_l; 0 for the NNGP."""
        raise TypeError("a law defines its alpha")

    def sample_factor(self, outputs: int, guide: Guide | None = None) -> Any:
        """NumPyro fragment: C (D, D) with Q = C C^T; a guide aligns its coordinates with labels."""
        raise TypeError("a law defines its sample_factor")

    def _moments(self, outputs: int) -> tuple[float, float, float, float]:
        """prod(1 + 2/N_l), prod(1 - 1/N_l), mean and variance of log det Q."""
        raise TypeError("a law defines its moments")

    def sample_scale(self, key: jax.Array, *, outputs: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Prior draws of Q, (*shape, D, D), E Q = I; float64.

        >>> Proportional(0.5).sample_scale(jax.random.key(0), outputs=3, shape=(10,)).shape
        (10, 3, 3)
        """
        outputs, shape = checks.integer(outputs, "outputs"), checks.shape(shape)
        with jax.enable_x64(True):
            keys = jax.random.split(key, math.prod(shape))
            draws = _prior_scales(self, keys, outputs)
        return np.asarray(draws).reshape(*shape, outputs, outputs)

    def sample_functions(self, key: jax.Array, X: Any, *, outputs: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Prior draws of the noise-free function at X (n, p): (*shape, n, D), one Q per draw shared by all rows."""
        X, outputs, shape = checks.matrix(X, "X"), checks.integer(outputs, "outputs"), checks.shape(shape)
        with jax.enable_x64(True):
            keys = jax.random.split(key, math.prod(shape))
            draws = _prior_functions(self, keys, X, outputs)
        return np.asarray(draws).reshape(*shape, len(X), outputs)

    def scale_moments(self, outputs: int) -> ScaleMoments:
        """Exact moments of the continuous law; raises `InputError` when alpha is itself random.

        Source: design section 3, from a = prod(1 + 2/N_l) -> e^{2 alpha} and b = prod(1 - 1/N_l) -> e^{-alpha}.

        >>> Proportional(0.5).scale_moments(outputs=1).output_kurtosis  # 3 e
        8.154845485377136
        """
        outputs = checks.integer(outputs, "outputs")
        a, b, logdet_mean, logdet_var = self._moments(outputs)
        offdiag_sq, diag_product = ((a - b) / 3, (a + 2 * b) / 3) if outputs > 1 else (math.nan, math.nan)
        return ScaleMoments(a, offdiag_sq, diag_product, logdet_mean, logdet_var, 3 * a)

    def _repr(self, *fields: str) -> str:
        if self.signal_variance != 1.0:
            fields = (*fields, f"signal_variance={describe(self.signal_variance)}")
        return f"{type(self).__name__}({', '.join(fields)})"


class NNGP(Law):
    """Infinite width at fixed depth: Q = I, a Gaussian process with independent outputs.

    signal_variance: s2, a number or a NumPyro distribution; Cov(f_a(x), f_b(x')) = s2 Q_ab x.x' / p.
    """

    def __init__(self, signal_variance: Any = 1.0):
        self.signal_variance = checked("signal_variance", signal_variance, above=0.0)

    @property
    def alpha(self) -> float:
        """0: no depth beside the width."""
        return 0.0

    def sample_factor(self, outputs: int, guide: Guide | None = None) -> Any:
        """The identity (D, D)."""
        return jnp.eye(outputs)

    def _moments(self, outputs: int) -> tuple[float, float, float, float]:
        return 1.0, 1.0, 0.0, 0.0

    def __repr__(self) -> str:
        return self._repr()


class FiniteNetwork(Law, static=("widths",)):
    """Exact finite network: Q is a product of Wisharts, a Bartlett factor for each hidden layer.

    widths: N_1, ..., N_L, input side first, any positive integers, bottlenecks below D included; () is the NNGP.
    signal_variance: s2, a number or a NumPyro distribution.

    >>> FiniteNetwork((20,) * 10).alpha
    0.5
    """

    def __init__(self, widths: Any, signal_variance: Any = 1.0):
        self.widths = checks.widths(widths)
        self.signal_variance = checked("signal_variance", signal_variance, above=0.0)

    @property
    def alpha(self) -> float:
        """The sum of 1/N_l."""
        return math.fsum(1.0 / width for width in self.widths)

    def sample_factor(self, outputs: int, guide: Guide | None = None) -> Any:
        """C = T_L ... T_1 (D, D); the chain is recorded as the site `factors` (L, D, D), output side first."""
        if not self.widths:
            return jnp.eye(outputs)
        factors, C = sample_chain(self.widths, outputs, guide)
        numpyro.deterministic("factors", factors)
        return C

    def sample_weights(self, key: jax.Array, *, inputs: int, outputs: int, shape: tuple[int, ...] = ()) -> list:
        """Prior draws of every weight matrix, arrays (*shape, N_l, N_{l-1}), input layer first; s2 stands in W_1.

        >>> [W.shape for W in FiniteNetwork((4, 6)).sample_weights(jax.random.key(0), inputs=3, outputs=2)]
        [(4, 3), (6, 4), (2, 6)]
        """
        return list(self.iter_weights(key, inputs=inputs, outputs=outputs, shape=shape))

    def iter_weights(
        self, key: jax.Array, *, inputs: int, outputs: int, shape: tuple[int, ...] = (), dtype: Any = np.float64
    ) -> Iterator[np.ndarray]:
        """The layers of `sample_weights` one at a time, so that a large network need not be held; dtype as asked."""
        inputs, outputs = checks.integer(inputs, "inputs"), checks.integer(outputs, "outputs")
        shape = checks.shape(shape)
        key_signal, key_layers = jax.random.split(key)
        s2 = draw_hyperparameter(key_signal, self.signal_variance, math.prod(shape))
        layers = iter_prior_weights(key_layers, self.widths, inputs, outputs, s2, dtype)
        return in_double(W.reshape(*shape, *W.shape[1:]) for W in layers)

    def _moments(self, outputs: int) -> tuple[float, float, float, float]:
        N = np.array(self.widths, dtype=float)
        a, b = float(np.prod(1 + 2 / N)), float(np.prod(1 - 1 / N))
        if ranks(self.widths, outputs)[-1] < outputs:
            return a, b, -math.inf, math.nan
        half = (N[:, None] - np.arange(outputs)) / 2  # (N_l - i + 1) / 2
        return a, b, float((digamma(half) - np.log(N / 2)[:, None]).sum()), float(polygamma(1, half).sum())

    def __repr__(self) -> str:
        same = len(self.widths) > 3 and len(set(self.widths)) == 1
        return self._repr(f"({self.widths[0]},) * {len(self.widths)}" if same else str(self.widths))


class Proportional(Law, static=("steps",)):
    """Depth and width to infinity with sum of 1/N_l -> alpha: Q is the endpoint of a matrix Brownian motion.

    alpha: at least 0, a number or a NumPyro distribution; signal_variance: s2, likewise.
    steps: discretisation steps, weak order 2 in alpha / steps; by bucket of alpha (8 up to .5, 16 up to 4, 32 above;
    a random alpha by its 99.9 % point), so that another alpha of the bucket compiles nothing.
    """

    def __init__(self, alpha: Any, signal_variance: Any = 1.0, *, steps: int | None = None):
        self._alpha = checked("alpha", alpha, least=0.0)
        self.signal_variance = checked("signal_variance", signal_variance, above=0.0)
        self.steps = limit.steps_for(self._alpha) if steps is None else checks.integer(steps, "steps")

    @property
    def alpha(self) -> Any:
        """The limit of depth over width, or its distribution."""
        return self._alpha

    def sample_factor(self, outputs: int, guide: Guide | None = None) -> Any:
        """C (D, D) = diag(h/2) U diag(h) U ... U diag(h/2), see `limit.sample_factor`."""
        return limit.sample_factor(sample_hyperparameter("alpha", self._alpha), self.steps, outputs, guide)

    def _moments(self, outputs: int) -> tuple[float, float, float, float]:
        if is_random(self._alpha):
            raise checks.InputError("alpha is random here, so moments have no closed form; give alpha as a number")
        alpha, D = float(self._alpha), outputs
        a = math.exp(2 * alpha) if alpha < 350 else math.inf
        return a, math.exp(-alpha), -alpha * D * (D + 1) / 2, 2 * alpha * D

    def __repr__(self) -> str:
        return self._repr(describe(self._alpha))


@partial(jax.jit, static_argnames="outputs")
def _prior_scales(law: Law, keys: Any, outputs: int) -> Any:
    def draw(key):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            C = law.sample_factor(outputs)
        return C @ C.T

    return jax.lax.map(draw, keys, batch_size=4096)


@partial(jax.jit, static_argnames="outputs")
def _prior_functions(law: Law, keys: Any, X: Any, outputs: int) -> Any:
    def draw(key):
        key_scale, key_map, key_signal = jax.random.split(key, 3)
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key_scale):
            C = law.sample_factor(outputs)
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key_signal):
            s2 = sample_hyperparameter("signal_variance", law.signal_variance)
        G = jax.random.normal(key_map, (X.shape[1], C.shape[1]))
        return jnp.sqrt(s2 / X.shape[1]) * X @ G @ C.T

    return jax.lax.map(draw, keys, batch_size=256)
