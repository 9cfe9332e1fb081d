"""`DeepLinearRegressor`: the posterior of a law behind scikit-learn's interface, in the labels' own units."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslin import checks, inference, sampler
from bayeslin.columns import Column
from bayeslin.data import Dataset
from bayeslin.prediction import Prediction
from bayeslin.scale import Proportional
from bayeslin.units import by_name

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils import check_array, check_consistent_length, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"bayeslin.estimator needs scikit-learn 1.6 or newer ({error}): pip install 'bayeslin[sklearn]'"
    ) from error

LABELS: dict[str, Any] = {"dtype": np.float64, "ensure_2d": False}  # a vector or a matrix of numbers


class DeepLinearRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Regression with a deep linear network, as a scikit-learn estimator; several labels are predicted jointly.

    Features and labels are standardised inside (ddof 0, over the rows of the fit), so priors and `noise` are in units
    of a label's standard deviation; every answer is in the labels' own units. A feature that
    does not vary over the fit's rows counts in p, tells nothing, and widens predictions where new rows differ in it.

    Parameters
    ----------
    alpha : effective depth-to-width ratio of `Proportional(alpha, signal_variance)`, the law where none is given; at
        least 0, which is the infinitely wide network. A number or a NumPyro distribution over the positive numbers.
    signal_variance : prior variance s2 of the function, likewise.
    noise : "isotropic", "diagonal", "full", a known sd (in units of a label's sd), or whatever else `bl.Noise` takes.
    law : a law instead, such as `bl.FiniteNetwork((20, 20))`; alpha and signal_variance then keep their defaults,
        so that a search over both takes two grids, `[{"alpha": [0.1, 1.0]}, {"law": [bl.NNGP()]}]`.
    draws, warmup, chains, progress : of the sampler, see `bl.fit`.
    random_state : an integer is the seed of `bl.fit`; None seeds every fit anew from NumPy's global state.

    Attributes
    ----------
    posterior_ : the `bl.Posterior`; it takes and gives the units of X and Y, its Q and Sigma are in standardised ones.
    output_names_ : tuple of D names, from a data frame's columns or a series' name, else "0", "1", ...
    n_features_in_, feature_names_in_ : p, and the columns of X where it was a data frame, an object array (p,).
    x_mean_, x_scale_, y_mean_, y_scale_ : (p,) and (D,), in the units of X and Y; standardised is (X - mean) / scale.

    Raises
    ------
    InputError : a ValueError; in `fit` for a label that does not vary, features of which none varies, numbers too large
        or too small to be squared, two outputs of one name, or a parameter that cannot be used.
    ValueError, TypeError : scikit-learn's own, for what is no array of finite numbers.

    Examples
    --------
    Sampled draws that are not to be trusted raise a `bl.ConvergenceWarning`; with alpha=0 and a known noise the
    posterior is exact and no sampler runs.

    >>> import bayeslin as bl
    >>> data = bl.load_dataset("linnerud")
    >>> model = DeepLinearRegressor(alpha=0.0, noise=0.9).fit(data.X, data.Y)
    >>> mean, std = model.predict(data.X[:2], return_std=True)  # weight in pounds, waist in inches, pulse
    >>> mean.round(1)
    array([[178.1,  35.4,  56.6],
           [188.6,  37.4,  54.9]])
    >>> model.predict_interval(data.X[:2], coverage=0.5).shape
    (2, 2, 3)
    >>> from sklearn.model_selection import GridSearchCV
    >>> grid = {"noise": [0.5, 1.0], "alpha": [0.0]}
    >>> search = GridSearchCV(model, grid, scoring=DeepLinearRegressor.log_score)  # R^2 knows no uncertainty
    >>> search.fit(data.X, data.Y).best_params_
    {'alpha': 0.0, 'noise': 1.0}
    """

    def __init__(
        self,
        alpha: Any = 0.5,
        signal_variance: Any = 1.0,
        noise: Any = "isotropic",
        *,
        law: Any = None,
        draws: int = 1000,
        warmup: int = 1000,
        chains: int = 4,
        random_state: Any = None,
        progress: bool = False,
    ):
        self.alpha = alpha
        self.signal_variance = signal_variance
        self.noise = noise
        self.law = law
        self.draws = draws
        self.warmup = warmup
        self.chains = chains
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, Y: Any) -> DeepLinearRegressor:
        """Posterior given features X (n, p) and labels Y (n,) or (n, D), n at least 2; returns self."""
        names = _names(Y)
        law = self._law()
        inputs = {"dtype": np.float64, "ensure_min_samples": 2}
        X, Y = validate_data(self, X, Y, validate_separately=(inputs, LABELS))
        check_consistent_length(X, Y)
        vector = Y.ndim == 1
        X, Y = checks.rows(X, Y)
        names = tuple(map(str, range(Y.shape[1]))) if names is None else checks.names(names, Y.shape[1], "output names")
        features = tuple(map(str, getattr(self, "feature_names_in_", range(X.shape[1]))))
        data = Dataset(X, Y, features, names, tuple(map(Column, features))).standardize()
        if not data.X.any():
            raise checks.InputError("no feature varies over the rows; a network has nothing to learn from")
        self.posterior_ = inference.fit(
            law,
            data,
            noise=self.noise,
            seed=_seed(self.random_state),
            draws=self.draws,
            warmup=self.warmup,
            chains=self.chains,
            progress=self.progress,
        )
        self._vector, self.output_names_ = vector, self.posterior_.output_names
        self.x_mean_, self.x_scale_ = data.x_mean, data.x_scale
        self.y_mean_, self.y_scale_ = data.y_mean, data.y_scale
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False, *, noise: bool = True) -> Any:
        """Posterior mean at X (m, p): (m, D), or (m,) where the labels of the fit were a vector.

        return_std : also the standard deviations, of that shape. return_cov : also the covariance of the D labels of a
        row, (m, D, D), or variances (m,); unlike a Gaussian process's, it is not over rows, which `sample_y` is.
        noise : about labels; False, about the function. The mean is the same. Raises `InputError` where both are asked.
        """
        if return_std and return_cov:
            raise checks.InputError("return_std and return_cov exclude each other; the root of the diagonal is the std")
        prediction = self._predict(X, noise)
        mean = self._shaped(prediction.mean)
        if return_std:
            return mean, self._shaped(prediction.std)
        if return_cov:
            return mean, prediction.cov[:, 0, 0] if self._vector else prediction.cov
        return mean

    def predict_interval(self, X: Any, coverage: float = 0.9, *, noise: bool = True) -> np.ndarray:
        """Central interval of every label at X (m, p), lower and upper ends: (2, m, D) or (2, m); noise as `predict`.

        Raises `InputError` for a coverage that is not between 0 and 1.
        """
        return self._shaped(self._predict(X, noise).interval(coverage))

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0, *, noise: bool = True) -> np.ndarray:
        """Draws of labels at X (m, p), joint over rows and outputs: (m, D, n_samples) or (m, n_samples).

        noise : as in `predict`. random_state : an integer, or NumPy's state; another draws other samples.
        """
        n_samples = checks.integer(n_samples, "n_samples")
        key = sampler.key_of(_seed(random_state))
        draws = self._shaped(self._predict(X, noise).sample(key, (n_samples,)))
        return np.moveaxis(draws, 0, -1)

    def log_score(self, X: Any, Y: Any) -> float:
        """Mean over rows of the log predictive density of labels Y (m,) or (m, D) at X (m, p), in nats; more is better.

        The density is joint over the outputs of a row, per unit of each label. `scoring=DeepLinearRegressor.log_score`
        in a search; inside a pipeline, `lambda model, X, Y: model[-1].log_score(model[:-1].transform(X), Y)`.
        """
        check_is_fitted(self)
        X = self._inside(X)
        Y = check_array(by_name(Y, self.output_names_, "Y"), **LABELS, input_name="Y", estimator=self)
        if Y.ndim == 1:
            Y = Y[:, None]
        check_consistent_length(X, Y)
        if Y.shape[1] != len(self.output_names_):
            raise checks.InputError(f"the fit had {len(self.output_names_)} outputs, Y has {Y.shape[1]} columns")
        return float(self.posterior_.log_score(X, Y).mean())

    def _law(self) -> Any:
        if self.law is None:
            return Proportional(self.alpha, self.signal_variance)
        for name, default in {"alpha": 0.5, "signal_variance": 1.0}.items():
            value = getattr(self, name)
            if value != default:
                raise checks.InputError(f"{name}={value!r} would be ignored beside law={self.law!r}; give one of them")
        return self.law

    def _inside(self, X: Any) -> np.ndarray:
        return validate_data(self, X, reset=False, dtype=np.float64)

    def _predict(self, X: Any, noise: bool) -> Prediction:
        check_is_fitted(self)
        return self.posterior_.predict(self._inside(X), noise=noise)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[..., 0] if self._vector else values


def _seed(random_state: Any) -> int:
    """An integer as it is; else one drawn from NumPy's state."""
    if isinstance(random_state, (int, np.integer)):
        return checks.integer(random_state, "random_state", least=0)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _names(Y: Any) -> Any:
    """A data frame's columns, a series' name, or None."""
    columns, name = getattr(Y, "columns", None), getattr(Y, "name", None)
    if columns is not None:
        return checks.names(columns, len(columns), "output names")
    return None if name is None else (name,)
