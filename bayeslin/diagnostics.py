"""ArviZ, both lines (0.23 and 1.x): the only module that knows it. Arrays in; (chains, draws, ...) throughout."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_RHAT = 1.01
MIN_ESS = 400.0


class ConvergenceWarning(UserWarning):
    """The draws are not good enough to be trusted; the message says what to do."""


class Diagnosis(NamedTuple):
    """Worst R-hat and bulk effective sample size over the entries that vary, divergences; `exact`: no sampler ran."""

    rhat_max: float
    ess_min: float
    divergences: int
    exact: bool = False

    @property
    def converged(self) -> bool:
        """Whether R-hat is at most 1.01, the bulk ESS at least 400 and no transition diverged."""
        return self.exact or (self.rhat_max <= MAX_RHAT and self.ess_min >= MIN_ESS and not self.divergences)

    def advice(self) -> str:
        """One sentence: what is wrong and what to do; or that all is well."""
        if self.exact:
            return "exact: nothing was left to sample"
        if self.converged:
            return f"R-hat {self.rhat_max:.4f}, smallest bulk ESS {self.ess_min:.0f}, no divergences"
        trouble = []
        if np.isnan(self.rhat_max):
            trouble.append("R-hat is not defined: too few draws, or draws that do not move")
        elif not self.rhat_max <= MAX_RHAT:
            trouble.append(f"R-hat reaches {self.rhat_max:.4f} (want at most {MAX_RHAT}): the chains disagree")
        if self.ess_min < MIN_ESS:
            trouble.append(f"bulk ESS falls to {self.ess_min:.0f} (want at least {MIN_ESS:.0f}): too few draws")
        if self.divergences:
            trouble.append(f"{self.divergences} divergent transitions: part of the posterior may be missed")
        return "; ".join(trouble) + "; raise warmup and draws, and look at post.to_arviz() with ArviZ's plots"


def diagnose(quantities: list[np.ndarray], diverging: np.ndarray) -> Diagnosis:
    """Judge every entry of arrays (chains, draws, ...) that varies, a single chain by its halves.

    Entries that are the same numbers, as variances of isotropic noise, are judged once: ArviZ takes long over each.
    NaN, which is not converged, below four draws and where nothing varies at all.
    """
    az = arviz()
    different = {column.tobytes(): column for array in quantities for column in _columns(array)}
    columns = [column for column in different.values() if np.ptp(column) != 0]  # also where it is NaN
    if not columns or columns[0].shape[1] < 4:
        return Diagnosis(np.nan, np.nan, int(diverging.sum()))
    with np.errstate(all="ignore"):
        rhat = [_rhat(column) for column in columns]
        ess = [float(az.ess(column)) for column in columns]
    return Diagnosis(float(np.max(rhat)), float(np.min(ess)), int(diverging.sum()))


def _rhat(column: np.ndarray) -> float:
    """R-hat of (chains, draws); ArviZ compares at least two chains, so that one is cut into halves."""
    half = column.shape[1] // 2
    if half < 2:
        return np.nan
    chains = column if len(column) > 1 else column[0, : 2 * half].reshape(2, half)
    return float(arviz().rhat(chains)) if chains.shape[1] >= 4 else np.nan


def mcse(array: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the mean of every entry of (chains, draws, ...); 0 where nothing varies."""
    if array.shape[1] < 4:
        return np.where(np.ptp(array, axis=(0, 1)) == 0, 0.0, np.nan)
    az = arviz()
    errors = [np.asarray(az.mcse(column)).item() if np.ptp(column) > 0 else 0.0 for column in _columns(array)]
    return np.array(errors).reshape(array.shape[2:])


def to_arviz(groups: Mapping[str, Mapping[str, np.ndarray]], coords: dict, dims: dict, attrs: dict) -> Any:
    """`InferenceData` on ArviZ 0.23, `DataTree` on 1.x, with the same names on both."""
    az = arviz()
    groups = {name: dict(arrays) for name, arrays in groups.items() if arrays}
    if int(az.__version__.split(".")[0]) < 1:
        data = az.from_dict(**groups, coords=coords, dims=dims)
    else:
        data = az.from_dict(groups, coords=coords, dims=dims)
    for name in groups:
        data[name].attrs.update(attrs)
    return data


def annotate(data: Any, attributes: Mapping[str, str], arrays: Mapping[str, tuple]) -> None:
    """Add attributes to the group `posterior`, and arrays (dims, values) to `constant_data`."""
    import xarray

    data["posterior"].attrs.update(attributes)
    for name, (names, values) in arrays.items():
        data["constant_data"][name] = xarray.DataArray(values, dims=names)  # a DataTree takes no bare tuple


def write_netcdf(data: Any, path: Path) -> None:
    """One netCDF file of what `to_arviz` gave."""
    data.to_netcdf(str(path), engine="h5netcdf")


def read_netcdf(path: Path, groups: tuple[str, ...]) -> dict[str, Any]:
    """Those groups of a netCDF file that it has, as xarray datasets in memory."""
    import h5py
    import xarray

    with h5py.File(path, "r") as file:
        present = [name for name in groups if name in file]
    return {name: xarray.load_dataset(path, group=name, engine="h5netcdf") for name in present}


def _columns(array: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0))


@cache
def arviz() -> Any:
    """ArviZ, imported when first asked for, since it takes as long as all else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz as az

    return az
