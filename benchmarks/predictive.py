"""Predictive scores on held-out rows: the laws of Q, their hyperparameters, and two regressions of scikit-learn.

Writes `benchmarks/predictive.csv` and, from it, `benchmarks/predictive.md`. Every split standardises inputs and
labels with the mean and the sd of its own training rows; scores are in the units of the table (log-Jacobian added).
"""

from __future__ import annotations

import argparse
import datetime
import math
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from scipy.special import ndtr
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge, MultiTaskLassoCV
from tqdm import tqdm

import bayeslin as bl

HERE = Path(__file__).parent
RAW = HERE / "predictive.csv"
KEY = ["method", "data", "split"]
SAMPLER = {"draws": 250, "warmup": 250, "chains": 4, "progress": False}
LEARNED_S2 = dist.LogNormal(0.0, 1.0)
LEARNED_ALPHA = dist.HalfNormal(1.0)


class Split(NamedTuple):
    """Training rows, standardised, test rows in the units of the table, and a seed of its own for the sampler."""

    train: bl.Dataset
    X_test: np.ndarray
    Y_test: np.ndarray
    seed: int


class Score(NamedTuple):
    """What a method earns on the test rows of one split.

    nlpd : minus log of the joint predictive density of a row's labels, mean over test rows, in nats; inside50,
    inside90 : share of the single labels within their central intervals; rhat : the sampler's largest, NaN without
    one; divergences : transitions that diverged.
    """

    nlpd: float
    inside50: float
    inside90: float
    rhat: float = math.nan
    divergences: int = 0


def limit(alpha: object = 0.5, signal_variance: object = 1.0) -> bl.Law:
    """The proportional limit; 8 steps, since a weak error of order 2 is far below what twenty splits can resolve."""
    return bl.Proportional(alpha, signal_variance, steps=8)


FINITE = bl.FiniteNetwork((20,) * 10)
OURS: dict[str, tuple[bl.Law, str]] = {
    "NNGP, isotropic": (bl.NNGP(), "isotropic"),
    "NNGP, diagonal": (bl.NNGP(), "diagonal"),
    "NNGP, full": (bl.NNGP(), "full"),
    "finite, isotropic": (FINITE, "isotropic"),
    "finite, full": (FINITE, "full"),
    "limit, isotropic": (limit(), "isotropic"),
    "limit, full": (limit(), "full"),
    "limit, isotropic, alpha ~ HalfNormal(1)": (limit(LEARNED_ALPHA), "isotropic"),
    "limit, full, alpha ~ HalfNormal(1)": (limit(LEARNED_ALPHA), "full"),
    "NNGP, isotropic, s2 ~ LogNormal(0, 1)": (bl.NNGP(LEARNED_S2), "isotropic"),
    "limit, isotropic, s2 ~ LogNormal(0, 1)": (limit(0.5, LEARNED_S2), "isotropic"),
}
REFERENCE = "NNGP, isotropic"

# What each default could be: title, the method with the plainer choice, the method with the other one.
QUESTIONS = [
    ("noise: diagonal against isotropic", "NNGP, isotropic", "NNGP, diagonal"),
    ("noise: full against isotropic", "NNGP, isotropic", "NNGP, full"),
    ("noise: full against isotropic", "finite, isotropic", "finite, full"),
    ("noise: full against isotropic", "limit, isotropic", "limit, full"),
    ("alpha: learned against 0.5", "limit, isotropic", "limit, isotropic, alpha ~ HalfNormal(1)"),
    ("alpha: learned against 0.5", "limit, full", "limit, full, alpha ~ HalfNormal(1)"),
    *(
        ("signal variance: learned against 1", f"{law}, isotropic", f"{law}, isotropic, s2 ~ LogNormal(0, 1)")
        for law in ("NNGP", "limit")
    ),
    ("law: limit against NNGP", "NNGP, isotropic", "limit, isotropic"),
    ("law: limit against NNGP", "NNGP, full", "limit, full"),
    ("law: finite against limit", "limit, isotropic", "finite, isotropic"),
    ("law: finite against limit", "limit, full", "finite, full"),
]


def divide(data: bl.Dataset, train: int, seed: int) -> Split:
    """A random split with `train` training rows, standardised by them; the other rows are the test."""
    order = np.random.default_rng(seed).permutation(len(data.X))
    kept, held = order[:train], order[train:]
    return Split(replace(data, X=data.X[kept], Y=data.Y[kept]).standardize(), data.X[held], data.Y[held], seed)


def data_sets(splits: int) -> dict[str, list[Split]]:
    """Title -> splits: of linnerud, of penguins with few and with many rows, and new teachers."""
    linnerud, penguins = bl.load_dataset("linnerud"), bl.load_dataset("penguins")
    some = max(2, splits // 4)
    teachers = [bl.data.teacher(64, 8, 4, seed=seed, correlation=0.8, noise=1.0).dataset for seed in range(splits)]
    return {
        "linnerud, 14 training rows": [divide(linnerud, 14, seed) for seed in range(splits)],
        "teacher, 24 training rows": [divide(data, 24, seed) for seed, data in enumerate(teachers)],
        "penguins, 30 training rows": [divide(penguins, 30, seed) for seed in range(some)],
        "penguins, 222 training rows": [divide(penguins, 222, seed) for seed in range(some)],
    }


def evaluate(split: Split, log_density: Callable, cdf: Callable, *sampler: float) -> Score:
    """Score of a predictive law given by its functions of standardised test rows."""
    data = split.train
    X, Y = (split.X_test - data.x_mean) / data.x_scale, (split.Y_test - data.y_mean) / data.y_scale
    below = cdf(X, Y)
    inside = [float((abs(below - 0.5) <= coverage / 2).mean()) for coverage in (0.5, 0.9)]
    return Score(float(np.log(data.y_scale).sum() - log_density(X, Y).mean()), *inside, *sampler)


def score_ours(split: Split, law: bl.Law, noise: str) -> Score:
    """`bl.fit` on the training rows, its mixture over draws on the test rows."""
    data = split.train
    post = bl.fit(law, data.X, data.Y, noise=noise, seed=split.seed, **SAMPLER)
    sampler = post.diagnosis.rhat_max, post.diagnosis.divergences
    return evaluate(split, post.log_score, lambda X, Y: mixture_cdf(post, X, Y), *sampler)


def mixture_cdf(post: bl.Posterior, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """P(label <= Y) under the mixture over draws, (m, D): within .05 to .95 where `interval(0.9)` holds the label.

    One evaluation in place of the bisections of four quantiles, which would take longer than the fit.
    """
    q, M, _, coef, var = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in post.given)
    T, unreached = post.spec.project(X)
    variance = T**2 @ var + unreached[:, None] * q[:, None] + 1.0  # (s, m, D), the noise is 1 in this basis
    mean, sd = T @ coef @ M.mT, np.sqrt(variance @ (M**2).mT)
    return ndtr((Y - mean) / sd).mean(0)


def score_gaussian(split: Split, predict: Callable, cov: Callable) -> Score:
    """Score of a Gaussian predictive law: `predict` X -> mean (m, D), `cov` X -> (m, D, D), in standardised units."""

    def log_density(X, Y):
        rows = zip(Y, predict(X), cov(X), strict=True)
        return np.array([multivariate_normal.logpdf(y, mean, C) for y, mean, C in rows])

    def cdf(X, Y):
        return ndtr((Y - predict(X)) / np.sqrt(np.diagonal(cov(X), axis1=1, axis2=2)))

    return evaluate(split, log_density, cdf)


def score_ridge(split: Split) -> Score:
    """BayesianRidge on each output by itself: independent Gaussians with its own predictive sd."""
    models = [BayesianRidge().fit(split.train.X, y) for y in split.train.Y.T]
    answers = [np.column_stack, lambda sds: np.square(np.column_stack(sds))[:, :, None] * np.eye(len(models))]
    mean, cov = (
        lambda X, which=which: answers[which]([model.predict(X, return_std=True)[which] for model in models])
        for which in (0, 1)
    )
    return score_gaussian(split, mean, cov)


def score_lasso(split: Split) -> Score:
    """MultiTaskLassoCV, and around it one covariance: training residuals over n - 1 - (features kept)."""
    X, Y = split.train.X, split.train.Y
    model = MultiTaskLassoCV(cv=5, random_state=0).fit(X, Y)
    rest = Y - model.predict(X)
    cov = rest.T @ rest / (len(X) - 1 - int(model.coef_.any(0).sum()))
    return score_gaussian(split, model.predict, lambda X: np.broadcast_to(cov, (len(X), *cov.shape)))


METHODS: dict[str, Callable[[Split], Score]] = {
    **{name: lambda split, chosen=chosen: score_ours(split, *chosen) for name, chosen in OURS.items()},
    "scikit-learn BayesianRidge, each output": score_ridge,
    "scikit-learn MultiTaskLassoCV, residual covariance": score_lasso,
}


def run(splits: int, processes: int, resume: bool) -> None:
    """Score every method on every split: a row each in `RAW`, as they come; with `resume` rows that are there stay.

    A process takes a method at a time, so that a program is compiled once; threads would meet in NumPyro's one stack of
    handlers.
    """
    jobs = [(method, *place) for method in METHODS for place in places(splits)]
    if not (resume and RAW.exists()):
        RAW.write_text(",".join([*KEY, *Score._fields, "seconds"]) + "\n")
    made = set(pd.read_csv(RAW)[KEY].itertuples(index=False, name=None))
    wanted = {method: [job for job in jobs if job[0] == method and job not in made] for method in METHODS}

    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        queue = manager.Queue()
        for method in METHODS:
            pool.submit(take, wanted[method], splits, queue)
        todo = sum(map(len, wanted.values()))
        for _ in tqdm(range(todo), total=len(jobs), initial=len(jobs) - todo, unit="fit", smoothing=0.02):
            row = queue.get()
            if isinstance(row, Exception):
                raise row
            pd.DataFrame([row]).to_csv(RAW, mode="a", header=False, index=False)


def read(splits: int) -> pd.DataFrame:
    """The rows of `RAW`, of those methods that were scored on every split of a data set, in the order of the tables."""
    scores = pd.read_csv(RAW).drop_duplicates(KEY, keep="last").set_index(KEY)
    sets = {title: len(divided) for title, divided in data_sets(splits).items()}
    jobs = [[(method, title, number) for number in range(sets[title])] for title in sets for method in METHODS]
    return scores.loc[
        [job for part in jobs if scores.index.isin(part).sum() == len(part) for job in part]
    ].reset_index()


def places(splits: int) -> list[tuple[str, int]]:
    """Every title and number of a split."""
    return [(title, number) for title, divided in data_sets(splits).items() for number in range(len(divided))]


def take(jobs: list[tuple[str, str, int]], splits: int, queue: Any) -> None:
    """Do jobs of one method, and put a row for each, or what went wrong, into the queue."""
    warnings.filterwarnings("ignore", category=bl.ConvergenceWarning)  # the table has the largest R-hat instead
    sets = data_sets(splits)
    try:
        for method, title, number in jobs:
            began = time.perf_counter()
            score = METHODS[method](sets[title][number])
            queue.put([method, title, number, *score, time.perf_counter() - began])
    except Exception as error:
        queue.put(error)


@dataclass(frozen=True)
class Estimate:
    """A mean over splits and its standard error."""

    mean: float
    error: float

    @classmethod
    def over(cls, values: np.ndarray) -> Estimate:
        """From one value for each split."""
        return cls(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))

    def text(self, digits: int, sign: str = "") -> str:
        """For a cell of a table."""
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:{sign}.{digits}f} ± {self.error:.{digits}f}"

    def verdict(self) -> str:
        """What two standard errors allow to say of a difference in nlpd, negative being better."""
        if math.isnan(self.mean):
            return "not run"
        return "undecided" if abs(self.mean) <= 2 * self.error else "better" if self.mean < 0 else "worse"


def table(scores: pd.DataFrame) -> Iterator[str]:
    """Lines of the tables of methods, one for each data set."""
    for title in scores["data"].unique():
        part = scores[scores["data"] == title]
        wide = {column: part.pivot(index="split", columns="method", values=column) for column in Score._fields}
        yield f"\n### {title}: {len(wide['nlpd'])} splits\n"
        yield f"| method | nlpd | against {REFERENCE} | inside 50 % | inside 90 % | largest R-hat |"
        yield "|---|---|---|---|---|---|"
        for method in part["method"].unique():
            nlpd = wide["nlpd"][method]
            gain = Estimate.over((nlpd - wide["nlpd"][REFERENCE]).to_numpy())
            inside = [Estimate.over(100 * wide[name][method].to_numpy()).text(1) for name in ("inside50", "inside90")]
            cells = [Estimate.over(nlpd.to_numpy()).text(3), "" if method == REFERENCE else gain.text(3, "+")]
            rhat = wide["rhat"][method].max()
            yield f"| {method} | {' | '.join(cells + inside)} | {'' if math.isnan(rhat) else f'{rhat:.3f}'} |"


def answers(scores: pd.DataFrame) -> Iterator[tuple[str, str, str, list[Estimate], Estimate]]:
    """For each question, the paired difference on every data set and their plain mean."""
    wide = scores.pivot(index=["data", "split"], columns="method", values="nlpd").reindex(columns=list(METHODS))
    for title, plain, other in QUESTIONS:
        change = wide[other] - wide[plain]
        each = [Estimate.over(change[name].to_numpy()) for name in scores["data"].unique()]
        mean = Estimate(float(np.mean([e.mean for e in each])), math.hypot(*(e.error for e in each)) / len(each))
        yield title, plain, other, each, mean


def differences(scores: pd.DataFrame) -> Iterator[str]:
    """Lines of the table of paired differences that speak for or against a default."""
    short = [title.split(" training")[0] for title in scores["data"].unique()]
    yield f"| question | {' | '.join(short)} | mean of the {len(short)} |"
    yield "|---|" + "---|" * (len(short) + 1)
    for _, plain, other, each, mean in answers(scores):
        cells = [estimate.text(3, "+") for estimate in each]
        yield f"| {other} minus {plain} | {' | '.join(cells)} | {mean.text(3, '+')} ({mean.verdict()}) |"


def summary(scores: pd.DataFrame) -> Iterator[str]:
    """A line for each question, in words; the numbers are those of the last column of the differences."""
    asked: dict[str, list[str]] = {}
    for title, plain, other, _, mean in answers(scores):
        new = other.removeprefix(plain).strip(", ")
        where = f"{plain} → {new}" if new and other.startswith(plain) else f"{plain} → {other}"
        if not math.isnan(mean.mean):
            asked.setdefault(title, []).append(f"{where} {mean.text(3, '+')} ({mean.verdict()})")
    for title, found in asked.items():
        yield f"- **{title}**: {'; '.join(found)}."


def report(scores: pd.DataFrame) -> str:
    """The whole file."""
    minutes = scores["seconds"].sum() / 60
    count = scores["data"].nunique()
    missing = [method for method in METHODS if scores[scores["method"] == method]["data"].nunique() < count]
    date = datetime.date.today().isoformat()
    packages = ("bayeslin", "jax", "numpyro", "numpy", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    settings = ", ".join(f"{name} {SAMPLER[name]}" for name in ("chains", "warmup", "draws"))
    lines = [
        "# Predictive scores on held-out rows\n",
        f"Written by `benchmarks/predictive.py` on {date}, {minutes:.0f} minutes of fits on {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {versions}.\n",
        "- **nlpd**: minus log joint predictive density of the labels of a test row, in nats, in the units of the "
        "table, mean over test rows: smaller is better. Inputs and labels are standardised by the training rows alone.",
        "- **inside**: percentage of single test labels within their central predictive intervals.",
        "- **±**: one standard error over splits; differences are paired by split. Splits of one table share rows, so "
        "for penguins and linnerud it speaks of other splits, not of other penguins. Every teacher is a new one.",
        "- **teacher**: 8 inputs, 4 outputs, functions correlated .8, signal and noise of sd 1.",
        f"- Our methods: {settings}; noise sds half-normal(1) in standardised units; alpha 0.5 and s2 1 where nothing "
        "else is said; the finite network has 10 layers of 20. The limit uses 8 steps. Transitions that diverged: "
        f"{scores['divergences'].sum()} of {SAMPLER['chains'] * SAMPLER['draws'] * scores['rhat'].notna().sum()}.",
        "- BayesianRidge: independent Gaussians. MultiTaskLassoCV: one Gaussian with the covariance of the training "
        "residuals, divided by n - 1 - features kept; it holds no uncertainty of the weights.",
        *([f"- Not run on every data set: {'; '.join(missing)}."] if missing else []),
        "",
        "## What speaks for which default\n",
        "Change in nlpd, mean over the data sets; negative favours the second; undecided is within two standard errors."
        "\n",
        *summary(scores),
        "\n## Scores",
        *table(scores),
        "\n## Paired differences of nlpd\n",
        *differences(scores),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=20, help="of linnerud and of teachers; a quarter for penguins")
    parser.add_argument("--processes", type=int, default=2, help="methods that run at once")
    parser.add_argument("--resume", action="store_true", help="go on where a run was stopped")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the tables of the rows there are")
    parser.add_argument("--out", type=Path, default=HERE / "predictive.md")
    arguments = parser.parse_args()
    if not arguments.tables:
        run(arguments.splits, arguments.processes, arguments.resume)
    arguments.out.write_text(report(read(arguments.splits)))


if __name__ == "__main__":
    main()
