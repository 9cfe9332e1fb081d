"""Posteriors as netCDF files: written whole or not at all, read without running anything that they hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from bayeslin import checks, diagnostics, files
from bayeslin.columns import Column
from bayeslin.data import Dataset
from bayeslin.factor import Factor
from bayeslin.hyperparameters import decode, encode
from bayeslin.noise import Noise
from bayeslin.sampler import Draws
from bayeslin.scale import NNGP, FiniteNetwork, Law, Proportional
from bayeslin.spectrum import Spectrum

FORMAT = 2  # raised when older versions could not read a file any more: 2 where a table's rows were not kept, else 1
ATTRIBUTE = "bayeslin"  # of the group `posterior`: JSON, everything that is not an array
GROUPS = ("posterior", "sample_stats", "observed_data", "constant_data")
DERIVED = "scale_correlation"  # written for ArviZ, not read back


def save(post: Any, path: Any, *, log_likelihood: bool) -> Path:
    """Write a posterior to one netCDF file, through a temporary file beside it; returns the path.

    A process killed at any moment leaves the old file or the new one. Raises `InputError` where the folder is missing
    or cannot be written to, and for a law of the caller's own.
    """
    path = files.target(path)
    factor = None if post.dataset is None else post.dataset.factor
    meta: dict[str, Any] = {"format": 1 if factor is None else FORMAT, "law": _encode_law(post.law)}
    meta["noise"] = [post.noise.kind, encode(post.noise.sd)]
    meta |= {"settings": post.settings, "features": post.feature_names, "outputs": post.output_names}
    meta |= {"exact": post.exact, "n": int(post.spec.n), "tol": post.spec.tol, "dataset": _encode_table(post.dataset)}
    arrays: dict[str, tuple] = {}
    if post.rows is None:
        arrays = {"spectrum_V": (("feature", "direction"), post.spec.V)}
    if factor is not None:
        arrays["factor"] = (("byte_of_factor",), _pack(tuple(map(np.asarray, factor))))
    if post.sampled.state is not None:
        arrays["sampler_state"] = (("byte",), _pack(post.sampled.state))
    found = post.to_arviz(log_likelihood=log_likelihood, predictive=0)
    diagnostics.annotate(found, {ATTRIBUTE: json.dumps(meta)}, arrays)
    return files.write_whole(path, lambda aside: diagnostics.write_netcdf(found, aside), seal=True)


def load(path: Any) -> dict[str, Any]:
    """The arguments of the `Posterior` in a file that `save` wrote.

    Raises `InputError` for a file that is missing, damaged, foreign or of a newer format. Names of distributions are
    looked up in a fixed list; nothing in the file is run.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise checks.InputError(f"there is no file {path}; give one that post.save or `bayeslin fit` wrote")
    try:
        damaged = files.is_damaged(path)
        groups = {} if damaged else diagnostics.read_netcdf(path, GROUPS)
    except Exception as error:  # whatever the libraries below make of bytes that are no netCDF
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise checks.InputError(f"{path.name} is no netCDF file, or is damaged ({reason}); save it again") from None
    if damaged:
        raise checks.InputError(f"{path.name} is damaged: it has changed since it was saved; save it again")
    if "posterior" not in groups or ATTRIBUTE not in groups["posterior"].attrs:
        raise checks.InputError(f"{path.name} holds no bayeslin posterior; give a file that post.save wrote")
    try:
        meta = json.loads(groups["posterior"].attrs[ATTRIBUTE])
        if meta["format"] > FORMAT:
            raise checks.InputError(f"{path.name} was written by a newer bayeslin; upgrade: pip install -U bayeslin")
        return _consistent(_decode(meta, groups))
    except checks.InputError:
        raise
    except Exception as error:  # a description that is not what `save` writes can fail anywhere
        raise checks.InputError(f"{path.name} is damaged ({type(error).__name__}: {error}); save it again") from None


def _consistent(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a posterior as they are; raises `InputError` where they contradict each other."""
    spec, settings, sites = fields["spec"], fields["settings"], fields["sampled"].sites
    drawn = (settings["chains"], settings["draws"]) if fields["sampled"].stats else (1, 1)
    D, p = spec.outputs, len(spec.V)
    factor = None if fields["dataset"] is None else fields["dataset"].factor
    fits = (
        sites["scale"].shape == sites["noise_cov"].shape == (*drawn, D, D)
        and (len(fields["output_names"]), len(fields["feature_names"])) == (D, p)
        and (factor is None or factor.T.shape[1] - 1 == len(factor.origin) == p + D)
        and {"seed", "warmup", "space"} <= settings.keys()
        and all(np.isfinite(array).all() for array in (*sites.values(), *spec[:5]))
    )
    if not fits:
        raise checks.InputError("the file is damaged: its draws, names and settings do not belong together; save again")
    return fields


def _decode(meta: dict, groups: dict[str, Any]) -> dict[str, Any]:
    observed, constant = groups["observed_data"], groups["constant_data"]
    rows, names = None, (tuple(meta["features"]), tuple(meta["outputs"]))
    if "X" in constant:
        rows = (constant["X"].values, observed["Y"].values)
        spec = Spectrum.from_rows(*rows, tol=meta["tol"])
    else:
        V, Z, R = constant["spectrum_V"].values, observed["Z"].values, observed["labels_outside"].values
        spec = Spectrum(constant["lam"].values, Z, R, meta["n"], V, meta["tol"])
    thin = (slice(None, 1), slice(None, 1)) if meta["exact"] else ()
    sites = {str(name): values.values[thin] for name, values in groups["posterior"].items() if name != DERIVED}
    stats = {str(name): values.values for name, values in groups["sample_stats"].items()} if not meta["exact"] else {}
    state = _unpack(constant["sampler_state"].values) if "sampler_state" in constant else None
    kind, sd = meta["noise"]
    noise = Noise(decode(sd)) if kind == "isotropic" else Noise(kind, decode(sd))
    dataset = None
    if meta["dataset"] is not None:
        stored, factor = meta["dataset"], None
        if "factor" in constant:
            T, origin, n, low, high = _unpack(constant["factor"].values)
            factor = Factor(T, origin, int(n), low, high)
        X, Y = (np.empty((0, len(part))) for part in names) if rows is None else rows
        columns = tuple(Column(name, tuple(levels)) for name, levels in stored["columns"])
        units: dict[str, Any] = {name: np.asarray(stored[name]) for name in UNITS}
        notes = tuple(stored["notes"])
        dataset = Dataset(X, Y, *names, columns, stored["name"], notes, **units, factor=factor)
    return {
        "law": _decode_law(meta["law"]),
        "noise": noise,
        "spec": spec,
        "rows": rows,
        "sampled": Draws(sites, stats, state),
        "settings": meta["settings"],
        "feature_names": names[0],
        "output_names": names[1],
        "dataset": dataset,
    }


UNITS = ("x_mean", "x_scale", "y_mean", "y_scale")


def _encode_table(dataset: Dataset | None) -> dict | None:
    if dataset is None:
        return None
    units = {name: np.asarray(getattr(dataset, name)).tolist() for name in UNITS}
    return {"columns": dataset.columns, "name": dataset.name, "notes": dataset.notes, **units}


def _encode_law(law: Law) -> dict[str, Any]:
    if type(law) not in (NNGP, FiniteNetwork, Proportional):
        raise checks.InputError(f"files hold the laws of this package only, not {type(law).__name__}")
    stored: dict[str, Any] = {"law": type(law).__name__, "signal_variance": encode(law.signal_variance)}
    if isinstance(law, FiniteNetwork):
        stored["widths"] = law.widths
    if isinstance(law, Proportional):
        stored |= {"alpha": encode(law.alpha), "steps": law.steps}
    return stored


def _decode_law(stored: dict[str, Any]) -> Law:
    s2 = decode(stored["signal_variance"])
    if stored["law"] == "NNGP":
        return NNGP(s2)
    if stored["law"] == "FiniteNetwork":
        return FiniteNetwork(stored["widths"], s2)
    if stored["law"] == "Proportional":
        return Proportional(decode(stored["alpha"]), s2, steps=stored["steps"])
    raise checks.InputError(f"the file names a law that is not of this package, {stored['law']!r}")


def _pack(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _unpack(packed: np.ndarray) -> tuple[np.ndarray, ...]:
    with np.load(io.BytesIO(np.asarray(packed, np.uint8).tobytes()), allow_pickle=False) as arrays:
        return tuple(arrays[f"arr_{index}"] for index in range(len(arrays.files)))
