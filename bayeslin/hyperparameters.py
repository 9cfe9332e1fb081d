"""A hyperparameter is a number or a NumPyro distribution; either is one argument away from the other."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayeslin import checks

# Distributions that a file may name; all scalar, over positive numbers for at least some parameters.
STORED = (
    *("Chi2", "Exponential", "Gamma", "HalfCauchy", "HalfNormal", "InverseGamma"),
    *("LogNormal", "LogUniform", "Pareto", "Uniform", "Weibull"),
)


class Unrecorded(dist.Distribution):
    """A prior of which a file keeps only its text: it has a name, but cannot be sampled or evaluated."""

    arg_constraints: ClassVar[dict] = {}
    support = dist.constraints.positive
    pytree_aux_fields = ("text", "numbers")

    def __init__(self, text: str, numbers: tuple[float, ...] = ()):
        self.text, self.numbers = text, numbers
        super().__init__()

    def sample(self, key: Any, sample_shape: tuple = ()) -> Any:
        """Refuse: the file does not hold this distribution."""
        raise checks.InputError(f"the file keeps the prior {self.text} as text only; give the law, or noise, again")

    log_prob = sample


def default_prior(name: str) -> Any:
    """What "learn" stands for: alpha ~ HalfNormal(1), signal_variance ~ LogNormal(0, 1).

    Why the defaults are alpha 0.5 (in `compare`), signal variance 1 and isotropic noise: held-out scores on linnerud,
    penguins and teachers, `benchmarks/predictive.md`, in nats a row with standard errors, negative in favour.

    - The limit at alpha 0.5 against the NNGP: -.050 +- .011. Learning alpha changed that by -.003 +- .005. The prior
      of a learned alpha has the NNGP at its edge and 99.9 % below 3.3, so that 16 steps do.
    - Learning the signal variance: -.002 +- .004 (the NNGP: -.013 +- .011), with standardised labels.
    - Full against isotropic noise: -.515 +- .123 on linnerud, -.155 +- .012 on 222 penguins, but +.128 +- .026 where
      the noise is isotropic in truth. Isotropic is the plainer default, under which Q alone ties outputs; on a table
      of your own try noise="full" first.
    """
    if name == "alpha":
        return dist.HalfNormal(1.0)
    if name == "signal_variance":
        return dist.LogNormal(0.0, 1.0)
    raise checks.InputError(f'{name} has no default prior to "learn" it from; give a distribution')


def checked(name: str, value: Any, **bounds: Any) -> Any:
    """A number within bounds, a scalar distribution over the positive numbers, or a traced scalar, as it came.

    "learn" stands for `default_prior(name)`.
    """
    if isinstance(value, str):
        if value == "learn":
            return default_prior(name)
        raise checks.InputError(f'{name} must be a number, a NumPyro distribution or "learn", got {value!r}')
    if isinstance(value, dist.Distribution):
        if value.shape() != () or not _is_positive(value.support):
            raise checks.InputError(
                f"{name} needs a scalar distribution over the positive numbers, such as numpyro's LogNormal(0, 1); "
                f"got {type(value).__name__} of shape {value.shape()} on {value.support}"
            )
        return value
    if isinstance(value, jax.core.Tracer) and value.ndim == 0:
        return value
    if isinstance(value, jax.Array) and value.ndim == 0:
        value = value.item()
    return checks.number(value, name, **bounds)


def _is_positive(support: Any) -> bool:
    """Whether a support is all positive numbers, or lies above a known bound of at least zero."""
    if support is dist.constraints.positive:
        return True
    bound = getattr(support, "lower_bound", None)
    return bound is not None and not isinstance(bound, jax.core.Tracer) and bool(np.all(np.asarray(bound) >= 0))


def is_random(value: Any) -> bool:
    """Whether the hyperparameter is inferred."""
    return isinstance(value, dist.Distribution)


def describe(value: Any) -> str:
    """The number, or the distribution with its parameters.

    >>> describe(dist.LogNormal(-1.0, 0.5))
    'LogNormal(loc=-1, scale=0.5)'
    """
    if not is_random(value):
        return str(value)
    if isinstance(value, Unrecorded):
        return value.text
    parameters = {name: getattr(value, name, None) for name in value.arg_constraints}
    numbers = [f"{name}={float(x):g}" for name, x in parameters.items() if x is not None and np.ndim(x) == 0]
    inner = None if type(value).__name__ in STORED else getattr(value, "base_dist", None)
    return f"{type(value).__name__}({', '.join([*([describe(inner)] if inner is not None else []), *numbers])})"


def same_prior(one: Any, two: Any) -> bool:
    """Whether two laws, noises or hyperparameters are the same, to the last number; by text and numbers from a file."""
    return repr(one) == repr(two) and _numbers(one) == _numbers(two)


def _numbers(value: Any) -> tuple[float, ...]:
    """Every number in a law, a noise or a distribution, in order."""
    numbers: list[float] = []
    for part in jax.tree.leaves(value, is_leaf=is_random):
        leaves = part.numbers if isinstance(part, Unrecorded) else leaves_by_name(part)
        numbers += [float(number) for leaf in leaves for number in np.ravel(leaf)]
    return tuple(numbers)


def leaves_by_name(tree: Any) -> list:
    """The leaves of a pytree, those of distributions in the order of their names.

    NumPyro's own order is that of a set of names, another in every process: a program would not be found again among
    those kept on disk, nor a file's prior be known again.
    """
    found = []
    for part in jax.tree.leaves(tree, is_leaf=is_random):
        if not is_random(part):
            found.append(part)
            continue
        children = part.tree_flatten()[0]
        if type(part).tree_flatten is dist.Distribution.tree_flatten:
            named = dict(zip(type(part).gather_pytree_data_fields(), children, strict=True))
            children = [named[name] for name in sorted(named)]
        found += leaves_by_name(list(children))
    return found


def sample_hyperparameter(name: str, value: Any) -> Any:
    """NumPyro fragment: a number as it is, a distribution as the sample site `name`."""
    return numpyro.sample(name, value) if is_random(value) else value


def draw_hyperparameter(key: jax.Array, value: Any, count: int) -> np.ndarray:
    """The number repeated, or draws from the distribution: (count,)."""
    return np.asarray(value.sample(key, (count,))) if is_random(value) else np.full(count, float(value))


def upper_point(value: Any, probability: float = 0.999) -> float:
    """The number itself, or the point that the distribution stays below with this probability (by simulation)."""
    if not is_random(value):
        return float(value)
    try:
        with jax.ensure_compile_time_eval():
            draws = value.sample(jax.random.key(0), (100_000,))
            return float(jax.numpy.quantile(draws, probability))
    except jax.errors.ConcretizationTypeError:
        raise checks.InputError(
            f"the numbers of {type(value).__name__} are traced here; give steps, or make the law outside"
        ) from None


def encode(value: Any) -> Any:
    """A hyperparameter as JSON: a number, the name and numbers of a distribution in `STORED`, any other as text.

    >>> encode(dist.HalfNormal(2.0)), encode(0.5)
    ({'distribution': 'HalfNormal', 'parameters': {'scale': 2.0}}, 0.5)
    """
    if not is_random(value):
        return float(value)
    name = type(value).__name__
    parameters = [parameter for parameter in value.arg_constraints if np.shape(getattr(value, parameter)) == ()]
    if name in STORED and type(value) is getattr(dist, name) and len(parameters) == len(value.arg_constraints):
        return {"distribution": name, "parameters": {p: float(getattr(value, p)) for p in parameters}}
    return {"text": describe(value), "numbers": _numbers(value)}


def decode(stored: Any) -> Any:
    """The hyperparameter that `encode` wrote; runs nothing that is not named in `STORED`."""
    if isinstance(stored, (int, float)):
        return float(stored)
    if "text" in stored:
        return Unrecorded(str(stored["text"]), tuple(map(float, stored["numbers"])))
    if stored["distribution"] not in STORED:
        raise checks.InputError(f"the file names a distribution that files may not, {stored['distribution']!r}")
    return getattr(dist, stored["distribution"])(**{name: float(x) for name, x in stored["parameters"].items()})
