"""What every picture needs: matplotlib when asked for, text taken literally, one legend, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bayeslin import checks


def legend_below(axes: Any) -> None:
    """One legend for all panels of a figure, under them, so that it hides nothing."""
    axes = np.atleast_1d(axes)
    handles, labels = axes[0].get_legend_handles_labels()
    figure = axes[0].figure
    if labels in [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]:
        return  # pictures side by side share it
    inches = 0.078 * max(map(len, labels)) + 0.7  # of the widest entry at the default font
    columns = min(len(labels), max(1, int(figure.get_figwidth() / inches)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def words(text: Any) -> str:
    """A column's name as words."""
    return plain(text).replace("_", " ")


def plain(text: Any) -> str:
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
