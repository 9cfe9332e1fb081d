"""`compare`: the same labels under several laws, and what each says about the correlations between outputs."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from bayeslin import checks, plots, tables
from bayeslin.correlation import to_correlation
from bayeslin.data import Dataset
from bayeslin.hyperparameters import is_random
from bayeslin.inference import fit
from bayeslin.posterior import Posterior
from bayeslin.scale import NNGP, FiniteNetwork, Law, Proportional
from bayeslin.spectrum import Spectrum

FAR = 1.05  # R-hat of a short control fit above which its mean is not trusted
DEEPEST = 100_000  # layers of a network that nobody asked for by its depth


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found: `table`, a DataFrame with a row for each law and pair; `posteriors` by name of the law.

    Columns: law; alpha, its posterior mean where it is inferred, and its 90 % interval alpha_lower, alpha_upper;
    output_a, output_b; scale_correlation with its Monte Carlo error scale_mcse and 90 % interval scale_lower,
    scale_upper; function_within and function_correlation (function_mcse) at the rows of the fit; noise_correlation,
    noise_lower, noise_upper, 0 unless the noise is full; control_mean, control_lower, control_upper over permuted
    labels (NaN without); rhat_max, ess_min (NaN where the posterior is exact) and divergences of the law's fit.
    Definitions: design section 5.
    """

    table: Any
    posteriors: dict[str, Posterior]
    control: int
    control_unconverged: int

    @property
    def converged(self) -> bool:
        """Whether the draws of every law can be trusted."""
        return all(post.diagnosis.converged for post in self.posteriors.values())

    def sentence(self) -> str:
        """One plain sentence: the strongest correlation, which law finds it, and what the NNGP has to say."""
        row = self.table.loc[self.table.scale_correlation.abs().idxmax()]
        if row.scale_correlation == 0:
            return "No law here can tie the outputs: every scale correlation is exactly 0."
        text = (
            f"Given these labels, {row.law} ties {row.output_a} and {row.output_b} with scale correlation "
            f"{row.scale_correlation:+.2f} (90 % interval {row.scale_lower:+.2f} to {row.scale_upper:+.2f})"
        )
        if self.control:
            text += (
                f"; with labels permuted the mean is {row.control_mean:+.2f} "
                f"(90 % of permutations: {row.control_lower:+.2f} to {row.control_upper:+.2f})"
            )
        if any(isinstance(post.law, NNGP) for post in self.posteriors.values()):
            text += "; under the NNGP it is 0 whatever the labels"
        return text + "."

    def plot(self, axes: Any = None) -> Any:
        """Heat maps of the scale correlations, a panel for each law (extra `plots`); returns the axes."""
        correlations = {f"{name}: {post.law!r}": post.output_correlation() for name, post in self.posteriors.items()}
        names = next(iter(self.posteriors.values())).output_names
        means = {name: found.scale for name, found in correlations.items()}
        intervals = {name: found.scale_interval for name, found in correlations.items()}
        return plots.plot_output_correlations(means, names, intervals=intervals, axes=axes)

    def save(self, folder: Any) -> list[Path]:
        """Write table.csv, table.json, a netCDF file for each posterior and correlations.png; returns the paths.

        Everything is written aside first, so that an interrupted call leaves whole files only. Raises `InputError`
        where there can be no such folder.
        """
        folder = Path(folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise checks.InputError(f"cannot make the folder {folder} ({error.strerror}); give another") from None
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            scratch = Path(aside)
            self.table.to_csv(scratch / "table.csv", index=False)
            (scratch / "table.json").write_text(json.dumps(tables.records(self.table), indent=1))
            for name, post in self.posteriors.items():
                post.save(scratch / f"{_stem(name)}.nc", log_likelihood=True)
            plots.save(self.plot(), scratch / "correlations.png")
            return [path.replace(folder / path.name) for path in sorted(scratch.iterdir())]


def _stem(name: str) -> str:
    """The name of a law as that of a file."""
    return "".join(c if c.isalnum() else "_" for c in name)


def default_laws(
    alpha: Any = 0.5, width: int = 20, depth: int | None = None, signal_variance: Any = 1.0
) -> dict[str, Law]:
    """NNGP, finite network and limit at one depth-to-width ratio; depth defaults to alpha times width, rounded.

    An inferred alpha (a distribution or "learn") is the limit's alone: the finite network keeps 0.5 unless it has a
    depth.

    >>> default_laws(alpha=0.5)["finite"].alpha
    0.5
    """
    limit, width = Proportional(alpha, signal_variance), checks.integer(width, "width")
    ratio = 0.5 if is_random(limit.alpha) else limit.alpha
    nearest = max(round(ratio * width), int(ratio > 0))
    if depth is None and nearest > DEEPEST:
        raise checks.InputError(f"alpha {ratio:g} with width {width} makes {nearest:.0e} layers; give a depth")
    depth = nearest if depth is None else checks.integer(depth, "depth", least=0)
    finite = FiniteNetwork((width,) * depth, signal_variance)
    return {"NNGP": NNGP(signal_variance), "finite": finite, "proportional": limit}


def compare(
    X: Any,
    Y: Any = None,
    *,
    laws: Mapping[str, Law] | None = None,
    noise: Any = "isotropic",
    seed: int = 0,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    control: int = 0,
    progress: bool = True,
    feature_names: Any = None,
    output_names: Any = None,
) -> Comparison:
    """Fit several laws to the same labels and tabulate the output correlations that each of them finds.

    X (n, p), Y (n, D) with D >= 2, or a `Dataset` in place of both; laws by name, by default `default_laws()`.
    control : number of label permutations, each output's centred labels over the rows independently, fitted by the
    same compiled program with a quarter of the draws; the same ones for every law. The others are those of `fit`.

    >>> X, Y = [[-1.0], [0.0], [1.0]], [[-0.9, -1.1], [0.1, 0.2], [0.8, 0.9]]
    >>> found = compare(X, Y, laws={"NNGP": NNGP()}, noise=0.3)
    >>> float(found.table.scale_correlation[0])
    0.0
    """
    import pandas as pd

    laws = default_laws() if laws is None else laws
    if not isinstance(laws, Mapping) or not laws or not all(isinstance(law, Law) for law in laws.values()):
        raise checks.InputError(f'laws must map names to laws, such as {{"NNGP": bl.NNGP()}}, got {laws!r}')
    if not all(isinstance(name, str) and name.strip() for name in laws) or len(
        {_stem(name).casefold() for name in laws}
    ) < len(laws):
        raise checks.InputError(f"laws need names that also differ as file names, got {list(laws)}")
    control, seed = checks.integer(control, "control", least=0), checks.integer(seed, "seed", least=0)
    if isinstance(X, Spectrum) or (isinstance(X, Dataset) and X.factor is not None):
        raise checks.InputError("compare permutes rows, so it needs X and Y; without rows use fit, law by law")
    array_X, array_Y = checks.rows(X.X, X.Y) if isinstance(X, Dataset) else checks.rows(X, Y)
    if array_Y.shape[1] < 2:
        raise checks.InputError(
            "Y has one column, so there is nothing to correlate; give two outputs or more, or use fit"
        )
    settings = {"noise": noise, "draws": draws, "warmup": warmup, "chains": chains}

    permuted = _permutations(array_Y, control, seed)
    posteriors, controls, unconverged = {}, {}, 0
    for name, law in laws.items():
        posteriors[name] = fit(
            law, X, Y, seed=seed, progress=progress, feature_names=feature_names, output_names=output_names, **settings
        )
        if control and not isinstance(law, NNGP):
            fits = _fit_all(law, array_X, permuted, seed, f"{name} control", progress, settings)
            unconverged += sum(not (post.exact or post.diagnosis.rhat_max <= FAR) for post in fits)
            controls[name] = np.stack([to_correlation(post.scale).mean((0, 1)) for post in fits])
    records = [
        record for name, post in posteriors.items() for record in _records(name, post, controls.get(name), control)
    ]
    return Comparison(pd.DataFrame(records), posteriors, control, unconverged)


def _fit_all(
    law: Law, X: np.ndarray, permuted: list[np.ndarray], seed: int, label: str, progress: bool, settings: dict[str, Any]
) -> list[Posterior]:
    """Fit each permutation by the program of the law's own fit, as many at a time as there are cores.

    A quarter of the draws is enough: their Monte Carlo error is far below the spread over permutations.
    """
    few = settings | {"draws": max(1, settings["draws"] // 4), "progress": False}
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, by the law's own fit
            tasks = [pool.submit(fit, law, X, Y, seed=seed + k, **few) for k, Y in enumerate(permuted, start=1)]
            return [task.result() for task in tqdm(tasks, desc=label, unit="fit", disable=not progress)]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nothing more is started


def _permutations(Y: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Labels centred, then each output's permuted over the rows by itself."""
    rng = np.random.default_rng([seed, 1])
    return [rng.permuted(Y - Y.mean(0), axis=0) for _ in range(count)]


def _records(name: str, post: Posterior, controls: np.ndarray | None, control: int) -> list[dict[str, Any]]:
    found, names = post.output_correlation(), post.output_names
    if controls is None:  # no permutations, or the NNGP, whose scale correlation is 0 for all of them
        D = post.spec.outputs
        controls = np.full((1, D, D), 0.0 if control else np.nan)
    lower, upper = np.quantile(controls, [0.05, 0.95], axis=0)
    return [
        {
            "law": name,
            "alpha": float(post.alpha.mean()),
            "alpha_lower": float(np.quantile(post.alpha, 0.05)),
            "alpha_upper": float(np.quantile(post.alpha, 0.95)),
            "output_a": names[a],
            "output_b": names[b],
            "scale_correlation": found.scale[a, b],
            "scale_mcse": found.scale_mcse[a, b],
            "scale_lower": found.scale_interval[0, a, b],
            "scale_upper": found.scale_interval[1, a, b],
            "function_within": found.function_within[a, b],
            "function_correlation": found.function[a, b],
            "function_mcse": found.function_mcse[a, b],
            "noise_correlation": found.noise[a, b],
            "noise_lower": found.noise_interval[0, a, b],
            "noise_upper": found.noise_interval[1, a, b],
            "control_mean": controls[:, a, b].mean(),
            "control_lower": lower[a, b],
            "control_upper": upper[a, b],
            "rhat_max": post.diagnosis.rhat_max,
            "ess_min": post.diagnosis.ess_min,
            "divergences": post.diagnosis.divergences,
        }
        for a, b in zip(*np.triu_indices(post.spec.outputs, 1), strict=True)
    ]
