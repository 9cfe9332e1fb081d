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
    labels = [str(name).replace("_", " ") for name in names]
    image = None
    for ax, (law, values) in zip(axes, correlations.items(), strict=True):
        image = ax.imshow(np.where(np.eye(D), np.nan, values), vmin=-1, vmax=1, cmap="RdBu_r")
        ax.set_title(law)
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
