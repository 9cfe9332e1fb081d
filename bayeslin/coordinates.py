"""Names of dimensions and coordinates: what each axis of a posterior's arrays runs over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def named(
    sites: Mapping[str, np.ndarray],
    rows: tuple | None,
    rank: int,
    feature_names: tuple[str, ...],
    output_names: tuple[str, ...],
) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Coordinates by dimension, and dimensions by variable, for xarray.

    sites : (chains, draws, ...) by name. Rows of the fit run along `obs`; where only a spectrum was fitted there are
    `rank` entries of `direction` instead.
    """
    matrices = ("scale", "scale_correlation", "noise_cov", "labels_outside")
    dims = {name: ["output", "output_other"] for name in matrices}
    dims |= {"factors": ["layer", "factor_row", "factor_column"]}
    if sites.get("noise_sd", np.empty(0)).ndim == 3:
        dims |= {"noise_sd": ["output"]}
    last = sum(name.startswith("W_") for name in sites)
    units = ["feature", *(f"unit_{layer}" for layer in range(1, last)), "output"]
    dims |= {f"W_{layer}": [units[layer], units[layer - 1]] for layer in range(1, last + 1)}
    dims |= {"X": ["obs", "feature"], "Y": ["obs", "output"], "Z": ["direction", "output"], "lam": ["direction"]}
    coords: dict[str, list[Any]] = {"output": list(output_names), "output_other": list(output_names)}
    coords["direction"] = list(range(rank))
    if rows is not None:
        coords |= {"obs": list(range(len(rows[0]))), "feature": list(feature_names)}
    return coords, dims
