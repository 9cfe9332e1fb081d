"""Many data sets at once: their chains side by side in one compiled program, for cross-validation and calibration.

Two or four chains leave much of the time to the overhead of small operations; some tens share it, group beside group.
All of a group wait for the longest of their trajectories, which are therefore kept short.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from bayeslin import checks, diagnostics, sampler
from bayeslin.data import Dataset
from bayeslin.inference import guide_for, is_known, known_draws, scale_model
from bayeslin.material import Material, checked_settings, read
from bayeslin.noise import Noise
from bayeslin.posterior import Posterior
from bayeslin.scale import Law
from bayeslin.spectrum import Spectrum

CHAINS = 64  # most chains side by side in one program on CPU
CHAINS_ON_GPU = 4096


def fit_many(
    law: Law,
    datasets: Iterable[Any],
    *,
    noise: Any = "isotropic",
    seed: int = 0,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    max_tree_depth: int = 3,
    progress: bool = True,
) -> list[Posterior]:
    """The posterior of each data set, in their order: as by a loop of `fit`, sooner.

    datasets : pairs (X, Y), `Dataset`s or `Spectrum`s with the same number of outputs; rows and features may differ.
    seed : data set i (from 0) is sampled with the keys of `fit(law, *datasets[i], seed=seed + i)`, whose draws at the
    same max_tree_depth differ by rounding only at first, as they do on a machine with other cores.
    max_tree_depth : a draw takes at most 2^max_tree_depth - 1 leapfrogs, since all wait for the longest. Raise it where
    draws are strongly dependent: with full noise, many outputs, alpha above 1.
    The others are those of `fit`. Each posterior can be saved, loaded and resumed by itself.
    Raises `InputError` with the number of an unusable data set; one warning names those that have not converged.

    >>> import bayeslin as bl
    >>> X, Y = np.array([[-1.0], [0.0], [1.0]]), np.array([[-0.9], [0.1], [0.8]])
    >>> [post.predict([[2.0]]).mean.item() > 0 for post in fit_many(bl.NNGP(), [(X, Y), (X, -Y)], noise=0.3)]
    [True, False]
    """
    if not isinstance(law, Law):
        raise checks.InputError(f"law must be a law such as bl.Proportional(0.5), got {law!r}")
    noise, settings = Noise(noise), checked_settings(seed, draws, warmup, chains, max_tree_depth)
    settings["space"] = "scale"
    materials = _read_all(law, noise, datasets)
    own = [settings | {"seed": settings["seed"] + index} for index in range(len(materials))]
    checks.integer(settings["seed"] + len(materials) - 1, "the last data set's seed", least=0)
    sampled: Iterable[sampler.Draws]
    if is_known(law, noise):
        sampled = (known_draws(noise, material.spec.outputs) for material in materials)
    else:
        keys = [jax.random.split(sampler.key_of(each["seed"]), chains) for each in own]
        count = {"draws": draws, "warmup": warmup, "max_tree_depth": max_tree_depth}
        specs = [material.spec for material in materials]
        sampled = sample_many(law, noise, specs, keys, **count, progress=progress, label=repr(law))
    posts, found = [], []
    for data, part, each in zip(materials, sampled, own, strict=True):
        names = (data.feature_names, data.output_names)
        posts.append(Posterior(law, noise, data.spec, data.rows, part, each, *names, data.dataset))
        found.append(posts[-1].diagnosis)  # while the other groups run
    _warn_of_unconverged(law, found)
    return posts


def sample_many(
    law: Law,
    noise: Noise,
    specs: Sequence[Spectrum],
    keys: Sequence[jax.Array],
    *,
    draws: int,
    warmup: int,
    max_tree_depth: int,
    progress: bool = True,
    label: str = "",
) -> Iterator[sampler.Draws]:
    """Draws for each of the spectra, `keys` (chains,) its own; ranks are padded to the largest.

    Groups of equal size, so that one program serves them all: on CPU as many at once as there are cores.
    """
    chains, rank = len(keys[0]), max(spec.rank for spec in specs)
    on_cpu = jax.default_backend() == "cpu"
    threads, most = (sampler.cores(), CHAINS) if on_cpu else (1, CHAINS_ON_GPU)
    rounds = -(-len(specs) * chains // (max(most, chains) * threads))
    size = -(-len(specs) // min(len(specs), rounds * threads))
    groups = -(-len(specs) // size)

    def group(first: int) -> list[sampler.Draws]:
        members = [min(index, len(specs) - 1) for index in range(first, first + size)]  # the last group is filled up
        inputs = [(specs[index].padded(rank), guide_for(specs[index], noise)) for index in members]
        own = jax.tree.map(lambda *leaves: np.repeat(np.stack(leaves), chains, 0), *inputs)
        sampled = sampler.sample(
            scale_model,
            (law, noise),
            per_chain=own,
            key=jax.numpy.concatenate([keys[index] for index in members]),
            draws=draws,
            warmup=warmup,
            chains=size * chains,
            guided=True,
            max_tree_depth=max_tree_depth,
            progress=progress and groups == 1,
            label=label,
            ended=ended,
        )
        return [_part(sampled, slice(at, at + chains)) for at in range(0, size * chains, chains)]

    ended, pool = threading.Event(), ThreadPoolExecutor(threads)
    try:
        tasks = [pool.submit(group, first) for first in range(0, len(specs), size)]
        bar = tqdm(tasks, desc=label, unit="group", disable=not progress or groups == 1)
        yield from islice((part for task in bar for part in task.result()), len(specs))
    finally:
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nothing more is started


def _part(sampled: sampler.Draws, chains: slice) -> sampler.Draws:
    """Some of the chains, copied so that the others need not be kept."""
    sites, stats = ({name: values[chains].copy() for name, values in part.items()} for part in sampled[:2])
    return sampler.Draws(sites, stats, tuple(leaf[chains].copy() for leaf in sampled.state or ()))


def _read_all(law: Law, noise: Noise, datasets: Any) -> list[Material]:
    """Every data set read; errors and warnings name its number."""
    if isinstance(datasets, (Spectrum, Dataset, str, Mapping)) or not isinstance(datasets, Iterable):
        raise checks.InputError(
            f"datasets must be a sequence of pairs (X, Y), Datasets or Spectrums, got {type(datasets).__name__}"
        )
    materials: list[Material] = []
    said: dict[str, tuple[str, list[int]]] = {}  # one of each kind, whatever its numbers
    for index, given in enumerate(datasets):
        if isinstance(given, (Spectrum, Dataset)):
            X, Y = given, None
        elif isinstance(given, (tuple, list)) and len(given) == 2:
            X, Y = given
        else:
            what = f"{type(given).__name__} of length {len(given)}" if hasattr(given, "__len__") else repr(given)
            raise checks.InputError(f"data set {index} must be a pair (X, Y), a Dataset or a Spectrum, got {what}")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                materials.append(read(law, noise, X, Y))
        except checks.InputError as error:
            raise checks.InputError(f"data set {index}: {error}") from None
        for warning in caught:
            message = str(warning.message)
            said.setdefault(re.sub(r"\d[\d.e+-]*", "", message), (message, []))[1].append(index)
        outputs, first = materials[-1].spec.outputs, materials[0].spec.outputs
        if outputs != first:
            raise checks.InputError(f"data set {index} has {outputs} outputs, data set 0 has {first}; fit them apart")
    if not materials:
        raise checks.InputError("datasets is empty; give at least one pair (X, Y)")
    for message, (first, *rest) in said.values():
        others = f" (and likewise {_named(rest)})" if rest else ""
        warnings.warn(f"data set {first}: {message}{others}", stacklevel=3)
    return materials


def _warn_of_unconverged(law: Law, found: list[diagnostics.Diagnosis]) -> None:
    far = [index for index, diagnosis in enumerate(found) if not diagnosis.converged]
    if far:
        worst = max(far, key=lambda index: np.nan_to_num(found[index].rhat_max, nan=np.inf))
        warnings.warn(
            f"{law!r}: {_named(far)} of {len(found)} not converged; number {worst}: {found[worst].advice()}; "
            "a larger max_tree_depth makes draws less dependent",
            diagnostics.ConvergenceWarning,
            stacklevel=3,
        )


def _named(indices: list[int]) -> str:
    """Data sets by number, the first few where they are many."""
    shown = ", ".join(map(str, indices[:10])) + (", ..." if len(indices) > 10 else "")
    return f"data set{'s' * (len(indices) > 1)} {shown}" + (f" ({len(indices)})" if len(indices) > 10 else "")
