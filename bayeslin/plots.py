"""Pictures (extra `plots`): arrays in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayeslin import checks
from bayeslin.figures import legend_below, plain, pyplot, save, words

__all__ = [
    "plot_calibration",
    "plot_correlation_vs_alpha",
    "plot_output_correlations",
    "plot_predictions",
    "plot_scale_prior",
    "pyplot",
    "save",
]


def plot_output_correlations(
    correlations: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    intervals: Mapping[str, np.ndarray] | None = None,
    axes: Any = None,
) -> Any:
    """Heat maps of output correlations (D, D), a panel for each law side by side; returns the axes.

    names : of the D outputs. intervals : (2, D, D) for each law, written under the numbers. The numbers carry the
    picture in grey too; one colour scale from -1 to 1 serves all panels.
    """
    plt = pyplot()
    D = len(names)
    if axes is None:
        size = 1.6 + 0.95 * D
        _, axes = plt.subplots(
            1,
            len(correlations),
            figsize=(size * len(correlations) + 1.2, size + 0.9),
            sharey=True,
            layout="constrained",
        )
    axes = np.atleast_1d(axes)
    labels = [words(name) for name in names]
    image = None
    for ax, (law, values) in zip(axes, correlations.items(), strict=True):
        image = ax.imshow(np.where(np.eye(D), np.nan, values), vmin=-1, vmax=1, cmap="RdBu_r")
        ax.set_title(plain(law))
        ax.set_xticks(range(D), labels, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(D), labels)
        for a, b in np.ndindex(D, D):
            if a == b:
                continue
            ink = "white" if abs(values[a, b]) > 0.6 else "black"
            ax.text(b, a - 0.08, f"{values[a, b]:.2f}", ha="center", va="center", color=ink)
            if intervals is not None:
                lower, upper = intervals[law][:, a, b]
                below = f"{lower:.2f} to {upper:.2f}" if lower < upper else "exactly"
                ax.text(b, a + 0.24, below, ha="center", va="center", color=ink, fontsize=6.5)
    under = " (90 % interval under it)" if intervals is not None else ""
    axes[0].figure.colorbar(image, ax=list(axes), shrink=0.9, pad=0.01, label=f"scale correlation{under}")
    return axes


def plot_calibration(ranks: Mapping[str, np.ndarray], draws: int, *, bins: int = 10, axes: Any = None) -> Any:
    """Histograms of ranks (simulations,) among `draws` draws, a panel for each quantity; returns the axes.

    The band holds 99 % of the counts of a bin where all ranks are equally likely. There are at most `bins`, each with
    equally many ranks.
    """
    from scipy import stats

    bins = max(count for count in range(1, bins + 1) if (draws + 1) % count == 0)
    if axes is None:
        size = (2.9 * len(ranks), 2.6)
        _, axes = pyplot().subplots(1, len(ranks), figsize=size, sharey=True, layout="constrained", squeeze=False)
    axes = np.atleast_1d(np.asarray(axes)).ravel()
    for ax, (name, values) in zip(axes, ranks.items(), strict=True):
        lower, upper = stats.binom.ppf([0.005, 0.995], len(values), 1 / bins)
        ax.axhspan(lower, upper, color="0.85", zorder=0)
        ax.axhline(len(values) / bins, color="0.5", linewidth=0.8, zorder=1)
        ax.hist(values / (draws + 1), bins=bins, range=(0, 1), histtype="step", color="black")
        ax.set_title(name.replace("_", " "))
        ax.set_xlabel(f"rank of the truth / {draws + 1}")
        ax.set_xlim(0, 1)
    axes[0].set_ylabel(f"simulations of {len(next(iter(ranks.values())))}\n(grey: 99 % if calibrated)")
    return axes


def plot_scale_prior(
    limit: Mapping[float, np.ndarray],
    finite: Mapping[str, Mapping[float, np.ndarray]] | None = None,
    *,
    axes: Any = None,
) -> Any:
    """Law of the log eigenvalues of Q against alpha, a panel for each eigenvalue, largest first; returns the axes.

    limit : alpha -> draws of Q (draws, D, D), drawn as the median and the band of 90 % of the draws. finite : name of a
    family of networks -> alpha -> draws of Q, drawn as medians with bars, set a little apart. Natural logarithms;
    eigenvalues below machine epsilon times the largest, which `eigh` cannot tell from 0, are drawn there. Raises
    `InputError` where there are no draws or they differ in D.

    >>> import bayeslin as bl, jax
    >>> key = jax.random.key(0)
    >>> draws = {alpha: bl.Proportional(alpha).sample_scale(key, outputs=2, shape=(100,)) for alpha in (0.0, 0.5)}
    >>> len(plot_scale_prior(draws))
    2
    """
    families = [("limit", limit), *(finite or {}).items()]
    sizes = {np.shape(Q)[1:] for _, draws in families for Q in draws.values()}
    if len(sizes) != 1 or not limit:
        raise checks.InputError(f"draws of Q must all be (draws, D, D) with one D, got the shapes {sorted(sizes)}")
    D = sizes.pop()[0]
    if axes is None:
        _, axes = pyplot().subplots(1, D, figsize=(1.4 + 2.7 * D, 3.4), sharey=True, layout="constrained")
    axes = np.atleast_1d(axes)
    gap = 0.018 * max(alpha for _, draws in families for alpha in draws)
    for place, (name, draws) in enumerate(families):
        alphas = np.array(sorted(draws))
        lower, middle, upper = np.stack([_log_eigenvalues(draws[alpha]) for alpha in alphas], axis=1)
        for index, ax in enumerate(axes):
            band = lower[:, index], middle[:, index], upper[:, index]
            if place == 0:
                ax.fill_between(alphas, band[0], band[2], color="0.85", linewidth=0, label=f"{name}, 90 %")
                ax.plot(alphas, band[1], color="0.35", label=f"{name}, median")
            else:
                shift = gap * (place - len(families) / 2)
                bars = np.abs(np.stack([band[0], band[2]]) - band[1])
                style = {"fmt": "os^Dv"[(place - 1) % 5], "color": f"C{place - 1}", "markersize": 4.5}
                ax.errorbar(alphas + shift, band[1], bars, **style, elinewidth=1, label=f"{plain(name)}, 90 %")
    for index, ax in enumerate(axes):
        ax.axhline(0.0, color="0.5", linewidth=0.6, linestyle=":")
        ax.set_title("eigenvalue" if D == 1 else {0: "largest", D - 1: "smallest"}.get(index, f"number {index + 1}"))
        ax.set_xlabel(r"$\alpha$, sum of $1/N_l$")
    axes[0].set_ylabel("log of the eigenvalue of Q")
    legend_below(axes)
    return axes


def _log_eigenvalues(Q: np.ndarray) -> np.ndarray:
    """Quantiles .05, .5 and .95 of the log eigenvalues of (draws, D, D), largest first: (3, D)."""
    values = np.linalg.eigvalsh(Q)[:, ::-1]
    floor = np.finfo(float).eps * values[:, :1]
    return np.quantile(np.log(np.maximum(values, floor)), [0.05, 0.5, 0.95], axis=0)


def plot_correlation_vs_alpha(
    alpha: np.ndarray,
    mean: np.ndarray,
    names: Sequence[str],
    *,
    interval: np.ndarray | None = None,
    control: np.ndarray | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    axes: Any = None,
) -> Any:
    """Scale correlation of each pair of outputs against alpha (A,), a panel for each pair; returns the axes.

    mean : (A, D, D), posterior means of rho. names : of the D outputs. interval : (A, 2, D, D), their intervals, as
    error bars. control : (A, K, D, D), the same means for K permutations of the labels; the band holds 90 % of them,
    the dashed line is their mean. pairs : of outputs, by default all. Raises `InputError` where shapes disagree.
    """
    alpha, mean = np.asarray(alpha, float), np.asarray(mean)
    A, D = len(alpha), len(names)
    interval = np.full((A, 2, D, D), np.nan) if interval is None else np.asarray(interval)
    control = np.full((A, 0, D, D), np.nan) if control is None else np.asarray(control)
    if mean.shape != (A, D, D) or interval.shape != (A, 2, D, D) or control.shape != (A, *control.shape[1:2], D, D):
        raise checks.InputError(
            f"for A={A} alphas and D={D} names need mean (A, D, D), interval (A, 2, D, D) and control (A, K, D, D); "
            f"got {mean.shape}, {interval.shape} and {control.shape}"
        )
    pairs = list(zip(*np.triu_indices(D, 1), strict=True)) if pairs is None else list(pairs)
    if axes is None:
        columns = min(3, len(pairs))
        rows = -(-len(pairs) // columns)
        size = (1.2 + 2.9 * columns, 0.9 + 2.4 * rows)
        grid = pyplot().subplots(rows, columns, figsize=size, sharex=True, sharey=True, layout="constrained")[1]
        axes = np.atleast_1d(grid).ravel()
        for empty in axes[len(pairs) :]:
            empty.remove()
        axes = axes[: len(pairs)]
    axes = np.atleast_1d(axes)
    for ax, (a, b) in zip(axes, pairs, strict=True):
        ax.axhline(0.0, color="black", linewidth=0.8, label="NNGP: always 0")
        if control.size:
            lower, upper = np.quantile(control[:, :, a, b], [0.05, 0.95], axis=1)
            label = f"permuted: 90 % of {control.shape[1]}"
            ax.fill_between(alpha, lower, upper, color="0.85", linewidth=0, label=label)
            ax.plot(alpha, control[:, :, a, b].mean(1), color="0.45", linestyle="--", label="permuted: mean")
        bars = np.abs(interval[:, :, a, b].T - mean[:, a, b])
        ax.errorbar(alpha, mean[:, a, b], bars, fmt="o-", markersize=4, elinewidth=1, capsize=2, label="these labels")
        ax.set_title(f"{words(names[a])}, {words(names[b])}", fontsize=9.5)
        ax.set_ylim(-1.05, 1.05)
        spec = ax.get_subplotspec()
        if spec is None or spec.is_first_col():
            ax.set_ylabel("scale correlation")
        if spec is None or spec.is_last_row():
            ax.set_xlabel(r"$\alpha$, depth over width")
    legend_below(axes)
    return axes


def plot_predictions(
    mean: np.ndarray,
    cov: np.ndarray,
    names: Sequence[str],
    *,
    labels: np.ndarray | None = None,
    coverage: Sequence[float] = (0.5, 0.9),
    axes: Any = None,
) -> Any:
    """Joint predictions of two outputs: mean (m, 2) and cov (m, 2, 2) as ellipses; returns the axes.

    Each ellipse is that of the Gaussian with this mean and covariance which holds `coverage` of it; a mixture over
    draws is only nearly so. names : of the two outputs, with their units. labels : (m, 2), what was observed, crosses
    joined to their means. Raises `InputError` where shapes disagree.
    """
    from matplotlib.patches import Ellipse

    mean, cov = np.asarray(mean), np.asarray(cov)
    observed = np.full((len(mean), 2), np.nan) if labels is None else np.asarray(labels)
    if mean.shape != observed.shape or cov.shape != (len(mean), 2, 2) or len(names) != 2:
        raise checks.InputError(
            f"need mean (m, 2), cov (m, 2, 2), two names and labels (m, 2) or None; got {mean.shape}, {cov.shape}, "
            f"{len(names)} names and {observed.shape}"
        )
    if axes is None:
        _, axes = pyplot().subplots(figsize=(5.0, 4.6), layout="constrained")
    size, turn = np.linalg.eigh(cov)
    angle = np.degrees(np.arctan2(turn[:, 1, 1], turn[:, 0, 1]))
    for level, style in zip(sorted(coverage), ("-", "--", ":"), strict=False):
        across = 2 * np.sqrt(-2 * np.log1p(-level) * size)  # chi-square with two degrees of freedom
        for row, middle in enumerate(mean):
            label = f"{100 * level:g} % of the prediction" if row == 0 else None
            look: dict[str, Any] = {"fill": False, "linestyle": style, "edgecolor": "0.35", "label": label}
            axes.add_patch(Ellipse(middle, across[row, 1], across[row, 0], angle=angle[row], **look))
    axes.plot(*mean.T, "o", color="black", markersize=3.5, label="predicted mean")
    if labels is not None:
        axes.plot(*np.stack([mean, observed]).transpose(2, 0, 1), color="C3", linewidth=0.8, zorder=1)
        axes.plot(*observed.T, "x", color="C3", markersize=6, label="observed")
    axes.autoscale_view()
    axes.set_xlabel(words(names[0]))
    axes.set_ylabel(words(names[1]))
    legend_below(axes)
    return axes
