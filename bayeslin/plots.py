"""Pictures (extra `plots`): arrays in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayeslin import checks


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
    labels = [_plain(name).replace("_", " ") for name in names]
    image = None
    for ax, (law, values) in zip(axes, correlations.items(), strict=True):
        image = ax.imshow(np.where(np.eye(D), np.nan, values), vmin=-1, vmax=1, cmap="RdBu_r")
        ax.set_title(_plain(law))
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


def _plain(text: Any) -> str:
    """Text that matplotlib does not take for mathematics."""
    return str(text).replace("$", r"\$")


def save(axes: Any, path: Path) -> None:
    """Write the figure of these axes, and forget it."""
    figure = np.atleast_1d(axes)[0].figure
    figure.savefig(path, dpi=150)
    pyplot().close(figure)


def pyplot() -> Any:
    """Matplotlib's pyplot; raises `InputError` where matplotlib is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise checks.InputError("pictures need matplotlib: pip install 'bayeslin[plots]'") from None
    return plt
